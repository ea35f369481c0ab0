//! An allocator that refuses what no decoder may ask for: a length from a peer is checked before it is believed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// More than the decoders of a small input ever need at once, in bytes.
const ALLOCATION_SIZE_MAX: usize = 1 << 20;

thread_local! {
    /// True while a decoder runs: the fuzzer itself takes what it likes.
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

struct Capped;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ALLOCATION_SIZE_MAX && WATCHING.get() {
            WATCHING.set(false);
            panic!("{} bytes allocated at once", layout.size());
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Capped = Capped;

/// Runs a decoder under the cap.
pub fn capped<T>(decode: impl FnOnce() -> T) -> T {
    WATCHING.set(true);
    let decoded = decode();
    WATCHING.set(false);
    decoded
}
