//! Asking the processor to fetch a cache line before it is needed.
//!
//! The one instruction here is a hint: it reads nothing that a program could see, changes nothing, and cannot fault,
//! whatever the address is (Intel SDM, PREFETCHh). That is the whole proof of the `unsafe` below. On processors for
//! which nothing is written here it does nothing.

/// Has the line that holds the byte at `address` fetched. The address may be stale, dangling or null.
#[inline(always)]
pub fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: see the head of the file; SSE is part of x86_64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
