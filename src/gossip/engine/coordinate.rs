//! Where nodes are, in a space in which distance is round trip time.
//!
//! Vivaldi (Dabek et al. 2004), with the median filter, adjustment window and gravity of Ledlie et al. 2007, and the
//! constants that Serf has, so that coordinates of both mean the same.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::Engine;
use crate::gossip::wire::{Coordinate, DIMENSIONS};

const ERROR_MAX: f64 = 1.5;
const CE: f64 = 0.25;
const CC: f64 = 0.25;
const ADJUSTMENT_WINDOW: usize = 20;
const HEIGHT_MIN_SECS: f64 = 10e-6;
const LATENCY_SAMPLES: usize = 3;
const GRAVITY_RHO: f64 = 150.0;
const RTT_SECS_MAX: f64 = 10.0;
const ZERO: f64 = 1e-6;

/// This node's coordinate, and what others said of theirs.
#[derive(Debug)]
pub(super) struct Client {
    own: Coordinate,
    others: HashMap<u32, Known>,
    adjustments: VecDeque<f64>,
}

#[derive(Debug)]
struct Known {
    coordinate: Coordinate,
    latencies: VecDeque<f64>,
}

fn origin() -> Coordinate {
    Coordinate { vector: [0.0; DIMENSIONS], error: ERROR_MAX, adjustment: 0.0, height: HEIGHT_MIN_SECS }
}

impl Default for Client {
    fn default() -> Self {
        Self { own: origin(), others: HashMap::new(), adjustments: VecDeque::new() }
    }
}

impl Client {
    pub fn own(&self) -> &Coordinate {
        &self.own
    }

    pub fn of(&self, member: u32) -> Option<&Coordinate> {
        self.others.get(&member).map(|known| &known.coordinate)
    }

    pub fn forget(&mut self, member: u32) {
        self.others.remove(&member);
    }

    fn update(&mut self, rng: &mut fastrand::Rng, member: u32, other: Coordinate, rtt: Duration) {
        let seconds = rtt.as_secs_f64();
        if seconds > RTT_SECS_MAX {
            return;
        }
        let known = self
            .others
            .entry(member)
            .or_insert_with(|| Known { coordinate: origin(), latencies: VecDeque::new() });
        known.latencies.push_back(seconds);
        if known.latencies.len() > LATENCY_SAMPLES {
            known.latencies.pop_front();
        }
        let mut sorted: Vec<f64> = known.latencies.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let rtt = sorted[sorted.len() / 2];
        known.coordinate = other.clone();
        self.vivaldi(rng, &other, rtt.max(ZERO));
        self.adjust(&other, rtt);
        self.gravity(rng);
        if !self.own.vector.iter().chain([&self.own.height, &self.own.error]).all(|part| part.is_finite()) {
            self.own = origin();
        }
    }

    fn vivaldi(&mut self, rng: &mut fastrand::Rng, other: &Coordinate, rtt: f64) {
        let distance = distance(&self.own, other);
        let wrongness = (distance - rtt).abs() / rtt;
        let total = (self.own.error + other.error).max(ZERO);
        let weight = self.own.error / total;
        self.own.error = (CE * weight * wrongness + self.own.error * (1.0 - CE * weight)).min(ERROR_MAX);
        push(rng, &mut self.own, CC * weight * (rtt - distance), other);
    }

    fn adjust(&mut self, other: &Coordinate, rtt: f64) {
        self.adjustments.push_back(rtt - raw_distance(&self.own, other));
        if self.adjustments.len() > ADJUSTMENT_WINDOW {
            self.adjustments.pop_front();
        }
        self.own.adjustment = self.adjustments.iter().sum::<f64>() / (2.0 * ADJUSTMENT_WINDOW as f64);
    }

    /// Keeps the whole space from drifting away.
    fn gravity(&mut self, rng: &mut fastrand::Rng) {
        let centre = origin();
        let distance = distance(&centre, &self.own);
        push(rng, &mut self.own, -(distance / GRAVITY_RHO).powi(2), &centre);
    }
}

fn raw_distance(a: &Coordinate, b: &Coordinate) -> f64 {
    let squares = a.vector.iter().zip(&b.vector).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    squares.sqrt() + a.height + b.height
}

/// The round trip time between two coordinates in seconds.
pub fn distance(a: &Coordinate, b: &Coordinate) -> f64 {
    let raw = raw_distance(a, b);
    let adjusted = raw + a.adjustment + b.adjustment;
    if adjusted > 0.0 { adjusted } else { raw }
}

/// Moves a coordinate away from another one by a force in seconds.
fn push(rng: &mut fastrand::Rng, own: &mut Coordinate, force: f64, other: &Coordinate) {
    let mut direction = [0.0; DIMENSIONS];
    for (at, part) in direction.iter_mut().enumerate() {
        *part = own.vector[at] - other.vector[at];
    }
    let length = |vector: &[f64; DIMENSIONS]| vector.iter().map(|part| part * part).sum::<f64>().sqrt();
    let apart = length(&direction);
    if apart > ZERO {
        direction.iter_mut().for_each(|part| *part /= apart);
        own.height = ((own.height + other.height) * force / apart + own.height).max(HEIGHT_MIN_SECS);
    } else {
        // In one place: any direction will do.
        direction.iter_mut().for_each(|part| *part = rng.f64() - 0.5);
        let length = length(&direction).max(ZERO);
        direction.iter_mut().for_each(|part| *part /= length);
    }
    for (part, direction) in own.vector.iter_mut().zip(direction) {
        *part += direction * force;
    }
}

impl Engine {
    /// A member answered with its coordinate, after this time.
    pub(super) fn learn_coordinate(&mut self, member: u32, payload: &[u8], rtt: Duration) {
        if self.config.coordinates
            && let Ok(other) = Coordinate::decode(payload)
        {
            self.coordinate.update(&mut self.rng, member, other, rtt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_come_to_predict_round_trip_times() {
        let rng = &mut fastrand::Rng::with_seed(4);
        let mut nodes: Vec<Client> = (0..10).map(|_| Client::default()).collect();
        // On a line, 10 ms apart.
        let rtt = |a: usize, b: usize| Duration::from_millis(10 * a.abs_diff(b) as u64);
        for _ in 0..4000 {
            let (a, b) = (rng.usize(0..10), rng.usize(0..10));
            if a != b {
                let other = nodes[b].own.clone();
                nodes[a].update(rng, b as u32, other, rtt(a, b));
            }
        }
        let mut wrong = 0.0;
        for (a, b) in (0..10).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let real = rtt(a, b).as_secs_f64();
            wrong += (distance(&nodes[a].own, &nodes[b].own) - real).abs() / real / 45.0;
        }
        assert!(wrong < 0.2, "on average {wrong} of the way is wrong");
    }
}
