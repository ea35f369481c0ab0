//! Tests of the engine as a whole.

mod beside;
mod failing;
mod golden;
mod model;
mod pace;
mod peers;
mod routing;
mod rules;
mod spill;
mod support;
mod tail;
mod trace;
