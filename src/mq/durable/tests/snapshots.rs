//! Snapshots of logs: a start with one finds what a start without finds, wherever the power went.

use super::*;

#[test]
fn a_power_cut_while_snapshots_are_made_changes_nothing() {
    let mut snapshots = 0;
    for cut in 1.. {
        let mut random = fastrand::Rng::with_seed(cut);
        let (disk, mut model) = (SimDisk::default(), Model::default());
        let mut world = World::start(&disk, 1_700_000_000_000).unwrap();
        world.declare_all();
        for _ in 0..6 {
            step(&mut world, &mut model, &mut random);
            world.keep_snapshot("plain");
        }
        world.sync();
        model.confirmed.append(&mut world.confirmed);
        drop(world);
        disk.kill();
        // A life that makes a snapshot between any two changes, and is cut anywhere.
        disk.stop_after(cut);
        let mut whole = false;
        if let Some(mut world) = World::start(&disk, 1_700_000_100_000) {
            world.declare_all();
            for _ in 0..6 {
                step(&mut world, &mut model, &mut random);
                world.sync();
                QUEUES.iter().for_each(|queue| world.keep_snapshot(queue));
            }
            model.confirmed.append(&mut world.confirmed);
            whole = !disk.is_dead();
        }
        disk.power_cut(&mut random);
        // What a start finds is compared with what it finds without a snapshot.
        let what = format!("cut at operation {cut}");
        let mut last = World::start(&disk, 1_700_000_200_000).unwrap();
        assert_eq!(last.durable.refused(), 0, "{what}");
        snapshots += usize::from(last.has_snapshot("plain"));
        check(&last.contents(), &model, &what);
        if whole && cut > 100 {
            break;
        }
    }
    assert!(snapshots > 20, "{snapshots}");
}

#[test]
fn a_start_reads_what_came_after_the_snapshot() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, 1_700_000_000_000).unwrap();
    world.declare_all();
    (1..=2000).for_each(|number| world.publish("plain", number, 0));
    world.sync();
    world.keep_snapshot("plain");
    (2001..=2010).for_each(|number| world.publish("plain", number, 0));
    world.sync();
    drop(world);
    disk.kill();
    let mut world = World::start(&disk, 1_700_000_100_000).unwrap();
    assert!(world.has_snapshot("plain"));
    let log = world.log_of("plain");
    let log = world.link.shared.with_store(|store| store.log(log, Default::default())).unwrap();
    let read = crate::mq::durable::replay::replay(&log).unwrap().read;
    assert!(read > 0 && read < 2000, "{read} bytes");
    assert_eq!(world.contents_of("plain"), (1..=2010).collect::<Vec<u64>>());
}

#[test]
fn a_snapshot_is_given_up_when_there_is_no_time_for_it() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, 1_700_000_000_000).unwrap();
    world.declare_all();
    (1..=100).for_each(|number| world.publish("plain", number, 0));
    world.sync();
    let log = world.log_of("plain");
    let log = world.link.shared.with_store(|store| store.log(log, Default::default())).unwrap();
    let done = crate::mq::durable::replay::keep_snapshot(&log, &|| true);
    assert!(matches!(done, Err(storage::Error::Closed)));
    assert!(!world.has_snapshot("plain"));
}

impl World {
    pub(super) fn keep_snapshot(&mut self, queue: &str) {
        self.work();
        let shared = Arc::clone(&self.link.shared);
        let Some(log) = self.log_named(queue) else { return };
        if let Ok(log) = shared.with_store(|store| store.log(log, Default::default())) {
            snapshot::keep(&shared, &log, &|| false);
        }
    }

    fn has_snapshot(&self, queue: &str) -> bool {
        let log = self.log_of(queue);
        let log = self.link.shared.with_store(|store| store.log(log, Default::default())).unwrap();
        log.snapshot().is_some()
    }
}
