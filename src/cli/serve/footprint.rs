//! What a server that waits holds in memory: no more than it needs to wait.
//!
//! Each page of machine code that a process touches brings its neighbours into the process's memory (Linux maps sixteen
//! pages at a time), and starting touches the most of them, once. They stay for as long as the process runs, although
//! they are the program file's and shared with everybody who runs it.

use std::time::Duration;

/// A server that has been ready for this long has started.
const STARTED_AFTER: Duration = Duration::from_secs(1);

/// How often a server that may have become idle is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Gives the pages of starting back once the server has started, and those of work whenever it has nothing to do any more,
/// by the processor's time that `used` says it has had. Connections may be open all the same. What is needed again comes back
/// from the file. It has no end.
pub(super) async fn stay_small(used: impl Fn() -> Duration) {
    tokio::time::sleep(STARTED_AFTER).await;
    let mut effort = Effort::default();
    loop {
        // Without it we are what we were: larger than need be.
        if let Ok(maps) = std::fs::read_to_string("/proc/self/maps") {
            pages_of_files(&maps).for_each(|(start, end)| forget(start, end));
        }
        give_back_freed();
        effort.rest(used());
        tokio::time::sleep(LOOK_INTERVAL).await;
        while !effort.is_over(used()) {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// The time that the process has had of all processors.
pub(super) fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What a server has worked, looked at in intervals.
#[derive(Debug, Default)]
struct Effort {
    /// When memory was given back last.
    rested: Duration,
    /// At the last look.
    seen: Duration,
}

impl Effort {
    /// Whoever uses more of an interval, a hundredth, is at work. Heartbeats, timers and health checks use less.
    const IDLE_MAX: Duration = Duration::from_millis(100);
    /// Little that adds up to this has touched pages that nobody needs any more; to read again those that are needed takes a
    /// few hundredths of it.
    const WORTH_IT: Duration = Duration::from_millis(10);

    /// Memory has been given back, which is no work.
    fn rest(&mut self, used: Duration) {
        (self.rested, self.seen) = (used, used);
    }

    /// True once there was work, and in the last interval none.
    fn is_over(&mut self, used: Duration) -> bool {
        let now = used.saturating_sub(self.seen);
        self.seen = used;
        now <= Self::IDLE_MAX && used.saturating_sub(self.rested) > Self::WORTH_IT
    }
}

/// The addresses at which files are mapped that nobody has written to since: machine code, and the segment at the beginning
/// of a file, which a loader does not change either.
fn pages_of_files(maps: &str) -> impl Iterator<Item = (usize, usize)> {
    maps.lines().filter_map(|line| {
        // proc_pid_maps(5): address range, permissions, offset, device, inode, path.
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (permissions, offset) = (fields.next()?, fields.next()?);
        let is_file = fields.nth(2).is_some_and(|path| path.starts_with('/'));
        let is_code = permissions == "r-xp";
        let is_begin = permissions == "r--p" && u64::from_str_radix(offset, 16) == Ok(0);
        let address = |text| usize::from_str_radix(text, 16).ok();
        if is_file && (is_code || is_begin) { Some((address(start)?, address(end)?)) } else { None }
    })
}

#[expect(unsafe_code, reason = "there is no safe call for it")]
fn forget(start: usize, end: usize) {
    let pages = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: the pages are a private mapping of a file that is neither writable nor was ever written to, of the program
    // or a library that stays loaded. madvise(2): the next access reads them from the file again, with what they hold
    // now. Nobody can see a difference but in time.
    let _ = unsafe { rustix::mm::madvise(pages, end - start, rustix::mm::Advice::LinuxDontNeed) };
}

/// Memory that was freed: glibc keeps most of it for whoever allocates next, which nobody does who waits.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "there is no safe call for it")]
fn give_back_freed() {
    // SAFETY: malloc_trim(3) is safe to call from any thread, and touches only memory that nobody has.
    let _ = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back_freed() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_and_the_begin_of_files_are_given_back() {
        let maps = "\
00200000-00792000 r--p 00000000 fe:00 42                                 /usr/bin/bandy
00792000-01a91000 r-xp 00591000 fe:00 42                                 /usr/bin/bandy
01a91000-01b26000 r--p 0188f000 fe:00 42                                 /usr/bin/bandy
01b26000-01b2b000 rw-p 01923000 fe:00 42                                 /usr/bin/bandy
02000000-02100000 rw-p 00000000 00:00 0                                  [heap]
7f0000000000-7f0000100000 r--s 00000000 fe:00 43                         /data/segment
7f0000200000-7f0000300000 r-xp 00026000 fe:00 44                         /lib/libc.so.6
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0                          [vdso]
";
        let found: Vec<_> = pages_of_files(maps).collect();
        assert_eq!(
            found,
            [(0x20_0000, 0x79_2000), (0x79_2000, 0x1a9_1000), (0x7f00_0020_0000, 0x7f00_0030_0000)]
        );
    }

    #[test]
    fn memory_is_given_back_once_after_work_and_not_in_the_middle_of_it() {
        let ms = Duration::from_millis;
        let mut effort = Effort::default();
        effort.rest(ms(500));
        assert!(!effort.is_over(ms(508)), "a little is nothing new");
        assert!(!effort.is_over(ms(5000)), "at work");
        assert!(!effort.is_over(ms(5200)), "still");
        assert!(effort.is_over(ms(5250)));
        effort.rest(ms(5300));
        assert!(!effort.is_over(ms(5308)), "given back before");
        // Much of little is work too.
        assert!(effort.is_over(ms(5325)));
        let before = processor_time();
        assert!(before > Duration::ZERO && processor_time() >= before);
    }

    #[test]
    fn code_that_was_given_back_runs() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let before = pages_of_files(&maps).count();
        pages_of_files(&maps).for_each(|(start, end)| forget(start, end));
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(before >= 2 && pages_of_files(&maps).count() == before, "{maps}");
    }
}
