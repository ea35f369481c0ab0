//! Who knows one piece of news, as bits: synchronous rounds of push, pull or both, with or without an end.
//!
//! Everything is decided on what was so when the round began: two who tell the same node in one round were both of use.
//! Demers et al. 1987, 1.4; the semantics that reproduce their tables.

/// Who calls whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those who know tell.
    Push,
    /// Everybody asks.
    Pull,
    /// Everybody calls, and both then know.
    PushPull,
}

/// When one who knows stops telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Never: until all know.
    Never,
    /// After some contacts.
    After {
        /// Whether only contacts count that were of no use; else all of them do.
        feedback: bool,
        /// With the probability of one in `k` each time; else once there were `k` in a row.
        coin: bool,
        /// How many.
        k: u32,
    },
}

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// How many nodes there are.
    pub nodes: u32,
    /// How many each calls in a round.
    pub fanout: u32,
    /// Who calls whom.
    pub direction: Direction,
    /// The share of messages that is lost, from 0 to 1.
    pub loss: f64,
    /// When one stops.
    pub stop: Stop,
    /// Most rounds.
    pub rounds_max: u32,
}

/// How things are after a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Which; 0 is the beginning.
    pub round: u32,
    /// How many know.
    pub informed: u32,
    /// How many of them still tell.
    pub active: u32,
    /// How often the news has been sent so far.
    pub messages: u64,
    /// How often it was lost.
    pub lost: u64,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The last round.
    pub last: Round,
    /// The share that never heard of it.
    pub residue: f64,
    /// Messages for each node.
    pub traffic: f64,
    /// The mean round in which nodes heard of it.
    pub mean_delay: f64,
    /// The round in which the last of them did.
    pub last_delay: u32,
}

/// A set of nodes.
struct Bits(Vec<u64>);

impl Bits {
    fn new(len: u32) -> Self {
        Self(vec![0; len.div_ceil(64) as usize])
    }

    fn has(&self, node: u32) -> bool {
        self.0[(node / 64) as usize] >> (node % 64) & 1 == 1
    }

    /// True if it was not in it.
    fn add(&mut self, node: u32) -> bool {
        let word = &mut self.0[(node / 64) as usize];
        let new = *word >> (node % 64) & 1 == 0;
        *word |= 1 << (node % 64);
        new
    }

    fn remove(&mut self, node: u32) {
        self.0[(node / 64) as usize] &= !(1 << (node % 64));
    }
}

/// Who knows, after a round.
#[derive(Clone, Copy)]
pub struct Known<'a>(&'a Bits);

impl Known<'_> {
    /// Whether a node does.
    pub fn has(&self, node: u32) -> bool {
        self.0.has(node)
    }

    /// How many of the nodes of a range do.
    pub fn count(&self, nodes: core::ops::Range<u32>) -> u32 {
        let (mut node, mut count) = (nodes.start, 0);
        while node < nodes.end {
            let next = (node / 64 + 1) * 64;
            let word = self.0.0[(node / 64) as usize] >> (node % 64);
            let taken = next.min(nodes.end) - node;
            count += (word & (u64::MAX >> (64 - taken))).count_ones();
            node += taken;
        }
        count
    }
}

struct State<'a> {
    model: &'a Model,
    rng: fastrand::Rng,
    known: Bits,
    active: Vec<u32>,
    is_active: Bits,
    /// Those who hear of it in this round.
    fresh: Vec<u32>,
    counters: Vec<u8>,
    /// Of a round of pull: who was asked, and by somebody who needed it.
    asked: Bits,
    needed: Bits,
    now: Round,
}

impl Model {
    /// Runs until nothing changes any more; `observe` sees the state after each round.
    pub fn run(&self, seed: u64, mut observe: impl FnMut(&Round, Known<'_>)) -> Outcome {
        let counted = !matches!(self.stop, Stop::Never);
        let pulled = self.direction != Direction::Push && counted;
        let mut state = State {
            model: self,
            rng: fastrand::Rng::with_seed(seed),
            known: Bits::new(self.nodes),
            active: vec![0],
            is_active: Bits::new(self.nodes),
            fresh: Vec::new(),
            counters: if counted { vec![0; self.nodes as usize] } else { Vec::new() },
            asked: Bits::new(if pulled { self.nodes } else { 0 }),
            needed: Bits::new(if pulled { self.nodes } else { 0 }),
            now: Round { informed: 1, active: 1, ..Round::default() },
        };
        state.known.add(0);
        state.is_active.add(0);
        observe(&state.now, Known(&state.known));
        let (mut delays, mut last_delay) = (0u64, 0);
        while state.now.round < self.rounds_max && !state.active.is_empty() && self.nodes > 1 {
            if !counted && state.now.informed == self.nodes {
                break;
            }
            let heard = state.round();
            delays += u64::from(heard) * u64::from(state.now.round);
            if heard > 0 {
                last_delay = state.now.round;
            }
            observe(&state.now, Known(&state.known));
        }
        let last = state.now;
        Outcome {
            last,
            residue: f64::from(self.nodes - last.informed) / f64::from(self.nodes.max(1)),
            traffic: last.messages as f64 / f64::from(self.nodes.max(1)),
            mean_delay: delays as f64 / f64::from((last.informed - 1).max(1)),
            last_delay,
        }
    }
}

impl State<'_> {
    /// Somebody else.
    fn partner(&mut self, of: u32) -> u32 {
        let partner = self.rng.u32(0..self.model.nodes - 1);
        partner + u32::from(partner >= of)
    }

    fn arrives(&mut self) -> bool {
        self.now.messages += 1;
        let lost = self.model.loss > 0.0 && self.rng.f64() < self.model.loss;
        self.now.lost += u64::from(lost);
        !lost
    }

    /// One round. How many heard of it.
    fn round(&mut self) -> u32 {
        self.now.round += 1;
        match self.model.direction {
            Direction::Push => self.push(),
            Direction::Pull => self.call(false),
            Direction::PushPull => self.call(true),
        }
        let fresh = std::mem::take(&mut self.fresh);
        for node in &fresh {
            self.known.add(*node);
            self.is_active.add(*node);
        }
        let heard = fresh.len() as u32;
        self.active.extend_from_slice(&fresh);
        self.fresh = fresh;
        self.fresh.clear();
        self.now.informed += heard;
        self.now.active = self.active.len() as u32;
        heard
    }

    /// A node hears of it, unless it knows or has heard of it in this round.
    fn hear(&mut self, node: u32, new: &mut Bits) {
        if new.add(node) {
            self.fresh.push(node);
        }
    }

    fn push(&mut self) {
        let mut new = std::mem::replace(&mut self.asked, Bits(Vec::new()));
        if new.0.is_empty() {
            new = Bits::new(self.model.nodes);
        }
        let mut active = std::mem::take(&mut self.active);
        active.retain(|node| {
            let mut stays = true;
            for _ in 0..self.model.fanout {
                let to = self.partner(*node);
                let useful = !self.known.has(to);
                if self.arrives() && useful {
                    self.hear(to, &mut new);
                }
                if !self.goes_on(*node, useful) {
                    stays = false;
                    self.is_active.remove(*node);
                    break;
                }
            }
            stays
        });
        self.active = active;
        for node in &self.fresh {
            new.remove(*node);
        }
        self.asked = new;
    }

    /// Whether one who knows goes on after a contact.
    fn goes_on(&mut self, node: u32, useful: bool) -> bool {
        let Stop::After { feedback, coin, k } = self.model.stop else { return true };
        if feedback && useful {
            self.counters[node as usize] = 0;
            return true;
        }
        if coin {
            return self.rng.u32(0..k.max(1)) != 0;
        }
        let counter = &mut self.counters[node as usize];
        *counter = counter.saturating_add(1);
        u32::from(*counter) < k
    }

    /// Everybody calls somebody: pull, and push with it.
    fn call(&mut self, push: bool) {
        let mut new = Bits::new(self.model.nodes);
        let counted = !matches!(self.model.stop, Stop::Never);
        for node in 0..self.model.nodes {
            let knows = self.known.has(node);
            let tells = push && self.is_active.has(node);
            // Who knows asks as well, not knowing that there is nothing new; it only matters where that is counted.
            if knows && !tells && !counted {
                continue;
            }
            for _ in 0..self.model.fanout {
                let other = self.partner(node);
                if tells {
                    let useful = !self.known.has(other);
                    if self.arrives() && useful {
                        self.hear(other, &mut new);
                    }
                    if counted {
                        self.asked.add(node);
                        if useful {
                            self.needed.add(node);
                        }
                    }
                }
                if self.is_active.has(other) && (!knows || counted) {
                    if self.arrives() && !knows {
                        self.hear(node, &mut new);
                    }
                    if counted {
                        self.asked.add(other);
                        if !knows {
                            self.needed.add(other);
                        }
                    }
                }
            }
        }
        if counted {
            let mut active = std::mem::take(&mut self.active);
            active.retain(|node| {
                // One decision a round, whoever asked in it.
                let stays = !self.asked.has(*node) || self.goes_on(*node, self.needed.has(*node));
                self.asked.remove(*node);
                self.needed.remove(*node);
                if !stays {
                    self.is_active.remove(*node);
                }
                stays
            });
            self.active = active;
        }
    }
}
