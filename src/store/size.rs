//! What an allocation really takes.
//!
//! The node's allocator is mimalloc; what is counted here is what `maxmemory`, INFO and MEMORY USAGE go by. Under
//! another allocator the figures are estimates.

/// What the allocator really sets aside for `bytes`: mimalloc's size classes are 8, multiples of 16 up to 128, and from
/// there on four to each doubling.
pub fn size_class(bytes: usize) -> usize {
    if bytes <= 8 {
        return bytes.next_multiple_of(8);
    }
    bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(16))
}
