//! Which ring is in force, and how a slot changes hands.
