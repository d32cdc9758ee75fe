//! A member of the ring: what placement needs to know of a node, and nothing else.
//!
//! Weights outside the bounds are not refused here: placement counts them as the nearest bound.

use crate::base::ids::NodeId;

/// The smallest weight that counts; anything below, and what is not a number, counts as this.
pub const WEIGHT_MIN: f64 = 0.01;
/// The largest weight that counts.
pub const WEIGHT_MAX: f64 = 100.0;

/// What the ring needs to know of a node.
#[derive(Clone, PartialEq, Debug)]
pub struct Member {
    /// Who it is; also the seed of its places on the circle.
    pub id: NodeId,
    /// Failure domain. Replicas of a slot go to distinct zones while there are enough; equal strings are one zone.
    pub zone: String,
    /// How much it should hold, relative to the others; [`WEIGHT_MIN`]..=[`WEIGHT_MAX`].
    pub weight: f64,
}
