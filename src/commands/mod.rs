//! What each Redis command means, as functions on locked slots. Commands never await.
