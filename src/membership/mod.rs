//! Liveness: who is alive, decided by SWIM. Never changes the ring.
