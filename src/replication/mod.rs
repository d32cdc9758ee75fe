//! Coordinator, replicas, quorums, hints and repair.
