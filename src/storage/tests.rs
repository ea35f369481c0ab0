//! Tests of a whole store.
mod basics;
mod cleaning;
mod crash;
mod damage;
mod garbage;
mod snapshots;
