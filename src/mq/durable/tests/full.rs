//! A full disk: nobody is told that something is safe, nothing fails, and it goes on when there is room.

use std::time::{Duration, Instant};

use super::*;
use crate::storage::disk::sim::Faults;

const START: Millis = 1_700_000_000_000;
const DEADLINE: Duration = Duration::from_secs(20);

/// What the keeper does, until the hosts have heard that the disk is short; then there is room. How many publishes were
/// answered while there was none.
fn makes_room_when_told(disk: &SimDisk, world: &World) -> std::thread::JoinHandle<Option<usize>> {
    let (shared, owner, disk) = (Arc::clone(&world.link.shared), Arc::clone(&world.owner), disk.clone());
    std::thread::spawn(move || {
        let start = Instant::now();
        while !owner.0.lock().unwrap().short && start.elapsed() < DEADLINE {
            keeper::look(&shared);
            std::thread::yield_now();
        }
        let inner = owner.0.lock().unwrap();
        let answers = inner.sends.iter().filter(|send| matches!(send, Out::Ack { .. } | Out::Nack { .. }));
        let answered = inner.short.then(|| answers.count());
        // Or the writer waits for ever.
        disk.set_faults(Faults::default());
        answered
    })
}

#[test]
fn a_full_disk_confirms_nothing_and_goes_on_when_there_is_room() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, START).unwrap();
    world.declare_all();
    (1..=10).for_each(|number| world.publish("plain", number, 0));
    world.sync();
    assert_eq!(world.confirmed.len(), 10);
    disk.set_faults(Faults { capacity: Some(0), ..Faults::default() });
    (11..=20).for_each(|number| world.publish("plain", number, 0));
    let (tag, first) = world.owner_gets();
    world.tell(basic::Ack { delivery_tag: tag, multiple: false });
    world.pass(10);
    let room = makes_room_when_told(&disk, &world);
    world.work();
    assert_eq!(room.join().unwrap(), Some(0), "answered though nothing was written");
    world.sync();
    keeper::look(&world.link.shared);
    assert!(!world.owner.0.lock().unwrap().short, "there is room again");
    assert_eq!((world.confirmed.len(), world.open.len()), (20, 0));
    drop(world);
    disk.kill();
    let mut world = World::start(&disk, START + 1000).unwrap();
    let left: Vec<u64> = (1..=20).filter(|number| *number != first).collect();
    assert_eq!(world.contents_of("plain"), left);
}

impl World {
    /// Takes a message that is in memory, without the work of other threads.
    fn owner_gets(&mut self) -> (u64, u64) {
        self.tell(basic::Get { queue: "plain", ..basic::Get::default() });
        let found = self.hear().into_iter().find_map(|send| match send {
            Out::GetOk { tag, message, .. } => {
                let text = String::from_utf8_lossy(&message.body).into_owned();
                Some((tag, text.trim().parse().unwrap()))
            }
            _ => None,
        });
        found.expect("it is in memory")
    }
}
