//! Tests of a whole store.
mod basics;
mod crash;
mod damage;
