//! Load loop: schedule x stop condition x operation -> latency distribution.
