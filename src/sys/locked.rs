//! Memory for small secrets, which is kept out of swap.

use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use parking_lot::Mutex;
use zeroize::Zeroize;

/// Bytes of a slot.
const SLOT: usize = 32;
/// Bytes of memory that are locked at a time: a multiple of any page size in use up to 16 KiB.
const CHUNK: usize = 16 * 1024;

/// 32 bytes in locked memory (mlock(2)), wiped on drop. They never move, so no copy is left where
/// they were.
///
/// Where the process may lock no more (RLIMIT_MEMLOCK) the memory is not locked; see
/// [`locked_memory`]. The first secrets of a process, which are its master keys, have theirs.
pub struct LockedBytes(NonNull<[u8; SLOT]>);

// SAFETY: the slot is this value's alone until it is dropped, as a Box's memory is.
unsafe impl Send for LockedBytes {}
// SAFETY: shared, it only gives out shared references to bytes.
unsafe impl Sync for LockedBytes {}

/// Memory of [`LockedBytes`], in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockedMemory {
    /// Kept out of swap.
    pub locked: usize,
    /// Not so, because of RLIMIT_MEMLOCK.
    pub unlocked: usize,
}

struct Pool {
    chunks: Vec<Chunk>,
    /// Slots that no value has. All are zero.
    free: Vec<NonNull<[u8; SLOT]>>,
}

struct Chunk {
    start: NonNull<u8>,
    locked: bool,
}

// SAFETY: the pool owns the memory that its pointers name.
unsafe impl Send for Pool {}

static POOL: Mutex<Pool> = Mutex::new(Pool { chunks: Vec::new(), free: Vec::new() });

impl LockedBytes {
    /// 32 zeros.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn zeros() -> Self {
        let mut pool = POOL.lock();
        if pool.free.is_empty() {
            pool.grow();
        }
        Self(pool.free.pop().expect("the pool has grown"))
    }
}

impl Deref for LockedBytes {
    type Target = [u8; SLOT];

    fn deref(&self) -> &Self::Target {
        // SAFETY: the slot is valid, initialised (mmap gives zeros) and this value's alone.
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for LockedBytes {
    fn deref_mut(&mut self) -> &mut Self::Target {
        // SAFETY: as in `deref`, and `self` is borrowed alone.
        unsafe { self.0.as_mut() }
    }
}

impl Clone for LockedBytes {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros();
        copy.copy_from_slice(&self[..]);
        copy
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        self.zeroize();
        POOL.lock().free.push(self.0);
    }
}

/// How much of the memory for secrets could be locked.
pub fn locked_memory() -> LockedMemory {
    let pool = POOL.lock();
    let locked = pool.chunks.iter().filter(|chunk| chunk.locked).count() * CHUNK;
    LockedMemory { locked, unlocked: pool.chunks.len() * CHUNK - locked }
}

/// Locks again what a fork has copied: the locks stay with the parent.
pub(super) fn lock_after_fork() {
    POOL.lock().chunks.iter_mut().for_each(|chunk| chunk.locked = lock(chunk.start));
}

impl Pool {
    fn grow(&mut self) {
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at a place of the kernel's choice touches no other memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), CHUNK, access, kind, -1, 0) };
        assert!(start != libc::MAP_FAILED, "there is no memory for a key");
        let start = NonNull::new(start.cast::<u8>()).expect("mmap gives no null");
        self.chunks.push(Chunk { start, locked: lock(start) });
        // The lowest last, so that it is the first to be taken: few pages are touched.
        let slots = (0..CHUNK / SLOT).rev();
        // SAFETY: every offset lies in the mapping.
        self.free.extend(slots.map(|slot| unsafe { start.add(slot * SLOT).cast() }));
    }
}

fn lock(chunk: NonNull<u8>) -> bool {
    // SAFETY: the range is a mapping of the pool's own, which is never given back.
    unsafe { libc::mlock(chunk.as_ptr().cast(), CHUNK) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_apart_and_wiped() {
        let mut held: Vec<LockedBytes> = (0..2000).map(|_| LockedBytes::zeros()).collect();
        for (number, bytes) in held.iter_mut().enumerate() {
            assert_eq!(**bytes, [0; SLOT]);
            bytes.fill(number as u8);
        }
        let copies = held.clone();
        drop(held);
        for (number, bytes) in copies.iter().enumerate() {
            assert_eq!(**bytes, [number as u8; SLOT]);
        }
        drop(copies);
        let again: Vec<_> = (0..4000).map(|_| LockedBytes::zeros()).collect();
        assert!(again.iter().all(|bytes| **bytes == [0; SLOT]));
    }

    #[test]
    fn what_is_locked_is_so_for_the_kernel() {
        let _held = LockedBytes::zeros();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
        let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(kib * 1024 >= locked_memory().locked, "{line}, {:?}", locked_memory());
        assert!(locked_memory().locked > 0, "this test needs RLIMIT_MEMLOCK above 16 KiB");
    }
}
