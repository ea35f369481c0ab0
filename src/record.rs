//! Key, value, headers, timestamp: the one envelope all protocols fill.
