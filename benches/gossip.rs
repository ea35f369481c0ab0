//! What an input costs an engine of gossip, in clusters of a hundred to ten thousand on one core.
//!
//! `cargo bench --bench gossip`: nodes of a cluster that all know each other probe each other with the timers of a LAN, and
//! tell an event a second. An input is a datagram that one of them handles, or a timer of it; its price has in it all that
//! the simulator does about it. It is the processor's time, of which other work takes none, and of several slices the best:
//! other work only adds, since it takes room in the caches.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::Duration;

use bandy::gossip::engine::{Event, Input};
use bandy::gossip::simulate::{Links, Network};
use bytes::Bytes;

/// Seconds of nodes: together about half a million inputs.
const NODE_SECONDS: usize = 20_000;
const SLICES: usize = 8;

/// The processor's time of this thread in seconds.
fn spent() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse::<f64>().ok());
    nanoseconds.expect("the first figure") / 1e9
}

fn main() {
    for nodes in [100, 1_000, 10_000] {
        let mut network = Network::new(1, Links::default());
        network.add_cluster(nodes, |config| {
            config.push_pull = false;
            config.coordinates = false;
        });
        network.run(Duration::from_secs(2));
        let (mut best, mut said, mut heard) = (f64::MAX, 0, 0);
        for _ in 0..SLICES {
            let (inputs, start) = (network.totals().inputs, spent());
            for _ in 0..NODE_SECONDS / nodes {
                let payload = Bytes::from_static(b"payload");
                let event = Input::Event { name: format!("news-{said}").into(), payload, coalesce: false };
                network.input(said * 7919 % nodes, event);
                said += 1;
                network.run(Duration::from_secs(1));
            }
            let told = |event: &Event| matches!(event, Event::User { .. });
            heard += network.happened().iter().filter(|happened| told(&happened.event)).count();
            best = best.min((spent() - start) / (network.totals().inputs - inputs) as f64);
        }
        // The last slice's last event may still be on its way.
        assert!(heard as f64 > 0.99 * (said * nodes) as f64, "{heard} of {}", said * nodes);
        println!("{nodes:>6} nodes {:>8.0} ns an input {:>8.2} M/s", best * 1e9, 1e-6 / best);
    }
}
