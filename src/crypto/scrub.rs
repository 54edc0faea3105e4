//! Wiping the traces of keys that ciphers leave on the stack.
//!
//! A cipher's key schedule, a hash's block buffer and what a return moved lie in frames that are
//! gone and not yet overwritten; a thread that then waits for its next request would keep them.

/// Runs `work`, which handles keys, and then wipes the stack below the caller: 16 KiB, more than
/// any use of a key here takes. What `work` returns must hold no key itself, but point to it.
pub fn scrubbed<T>(work: impl FnOnce() -> T) -> T {
    let done = below(work);
    wipe::<{ 16 * 1024 / 8 }>();
    done
}

/// [`scrubbed`] for whole key files, whose parsing goes deeper: 256 KiB.
pub fn scrubbed_deep<T>(work: impl FnOnce() -> T) -> T {
    let done = below(work);
    wipe::<{ 256 * 1024 / 8 }>();
    done
}

/// Has frames of its own, where those of `wipe` will be.
#[inline(never)]
fn below<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn wipe<const WORDS: usize>() {
    let frame = [0_u64; WORDS];
    zeroize::optimization_barrier(&frame);
}
