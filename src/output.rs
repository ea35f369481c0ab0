//! Data to stdout, messages to stderr, quiet, colour.
