//! What a node does, as lists of outputs.
