//! Merge algebra.
