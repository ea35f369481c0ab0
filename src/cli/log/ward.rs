//! Partitions that cannot be read just now, beside others that are: named once, looked at again and again by whoever follows,
//! and read on when they can be.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::sleep;

use super::connect::Log;
use super::position::{Ends, Position};
use super::unwell::{self, Unwell};
use crate::cli::app::App;
use crate::cli::exit::Exit;
use crate::log::client::group::Place;
use crate::log::client::{Assignment, Cluster, Lost};

/// Between two looks: a broker whose directory is repaired is stopped for longer.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is known of one of them.
#[derive(Debug, Clone, Copy, Default)]
struct Patient {
    /// Where it is read on; nowhere yet if nothing was read.
    from: Option<i64>,
    /// It is this reader's.
    is_own: bool,
}

type Look = Pin<Box<dyn Future<Output = Vec<Assignment>> + Send>>;

/// All of them.
pub struct Ward<'a> {
    app: &'a App,
    log: &'a Log,
    cluster: Cluster,
    committed: bool,
    /// Where those begin of which nothing was read. None if nothing is followed: then nobody waits for them.
    follows: Option<Position>,
    ill: BTreeMap<Place, Patient>,
    look: Option<Look>,
}

impl<'a> Ward<'a> {
    /// Takes in what is not well from the beginning, and says so.
    pub fn new(
        (app, log): (&'a App, &'a Log),
        (cluster, committed): (Cluster, bool),
        follows: Option<Position>,
        unwell: &Unwell,
    ) -> Self {
        unwell::warn(unwell, &log.url, app);
        let ill = unwell.keys().map(|place| (place.clone(), Patient::default())).collect();
        Self { app, log, cluster, committed, follows, ill, look: None }
    }

    /// All that are in it are this reader's: there is no group.
    pub fn owns_all(mut self) -> Self {
        self.ill.values_mut().for_each(|patient| patient.is_own = true);
        self
    }

    /// If this one is not well, it is this reader's from now on, to be read from an offset, if there is one.
    pub fn takes(&mut self, place: &Place, from: Option<i64>) -> bool {
        let patient = self.ill.get_mut(place);
        patient.map(|patient| *patient = Patient { from, is_own: true }).is_some()
    }

    /// Takes in what was given up, and says so.
    pub fn admit(&mut self, lost: Vec<Lost>) {
        let mut unwell = Unwell::new();
        for it in lost {
            let place = (it.topic.to_string(), it.partition);
            self.ill.insert(place.clone(), Patient { from: Some(it.from), is_own: true });
            unwell.insert(place, it.error);
        }
        unwell::warn(&unwell, &self.log.url, self.app);
    }

    /// These are others' now.
    pub fn discharge(&mut self, places: &[Place]) {
        for place in places {
            if let Some(patient) = self.ill.get_mut(place) {
                patient.is_own = false;
            }
        }
    }

    fn own(&self) -> impl Iterator<Item = (&Place, &Patient)> {
        self.ill.iter().filter(|(_, patient)| patient.is_own)
    }

    /// Is anything waited for?
    pub fn is_waiting(&self) -> bool {
        self.follows.is_some() && self.own().next().is_some()
    }

    /// Those that can be read again, and from where; for ever if there is nothing to wait for. May be dropped.
    pub async fn recovered(&mut self) -> Vec<Assignment> {
        loop {
            let Some(begin) = self.follows.filter(|_| self.is_waiting()) else {
                return std::future::pending().await;
            };
            let look = self.look.take().unwrap_or_else(|| {
                let own = self.own().map(|(place, patient)| (place.clone(), patient.from)).collect();
                Box::pin(look(self.cluster.clone(), own, begin, self.committed))
            });
            let mut well = self.look.insert(look).await;
            self.look = None;
            // Others may have got them meanwhile.
            well.retain(|it| {
                let place = (it.topic.to_string(), it.partition);
                let is_own = self.ill.get(&place).is_some_and(|patient| patient.is_own);
                is_own && self.ill.remove(&place).is_some()
            });
            for it in &well {
                let place = format!("topic '{}' partition {}", it.topic, it.partition);
                tracing::warn!(target: "status", "{place} can be read again, from {} on", it.from);
            }
            if !well.is_empty() {
                return well;
            }
        }
    }

    /// How a command ends that has read the others.
    pub fn exit(&self, exit: Exit) -> Exit {
        if exit == Exit::Done && !self.ill.is_empty() { Exit::Partly } else { exit }
    }

    /// Is all well?
    pub fn is_empty(&self) -> bool {
        self.ill.is_empty()
    }

    /// How many are not.
    pub fn count(&self) -> usize {
        self.ill.len()
    }
}

async fn look(
    cluster: Cluster,
    ill: BTreeMap<Place, Option<i64>>,
    begin: Position,
    committed: bool,
) -> Vec<Assignment> {
    sleep(LOOK_EVERY).await;
    let places: Vec<Place> = ill.keys().cloned().collect();
    let Ok(ends) = Ends::of(&cluster, &places, committed).await else { return Vec::new() };
    let Ok(begins) = ends.resolve(&cluster, &places, begin).await else { return Vec::new() };
    let well = ends.well(&places).map(|place| Assignment {
        topic: place.0.as_str().into(),
        partition: place.1,
        from: ill[place].or_else(|| begins.get(place).copied()).unwrap_or(0),
        to: None,
    });
    well.collect()
}
