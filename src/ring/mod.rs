//! Ownership, as a pure function: which nodes hold which hash slot. Knows no socket and no clock.
