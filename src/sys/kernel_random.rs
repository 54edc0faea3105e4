//! Random bytes of the kernel's generator without a system call: vDSO, Linux 6.11 (vdso(7),
//! getrandom(2); drivers/char/random.c and lib/vdso/getrandom.c).
//!
//! The kernel notes in shared memory when its generator was seeded anew, as it is when a virtual machine
//! was resumed from a snapshot (vmgenid). Each call checks that first, so two machines that are resumed
//! from one snapshot don't get the same bytes.

use std::cell::RefCell;
use std::ffi::{c_uint, c_void};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

/// `__vdso_getrandom`: buffer, its length, flags, state, its length.
type GetRandom = unsafe extern "C" fn(*mut c_void, usize, c_uint, *mut c_void, usize) -> isize;

/// `struct vgetrandom_opaque_params` (uapi/linux/random.h).
#[repr(C)]
#[derive(Default)]
struct Params {
    state_len: u32,
    mmap_prot: u32,
    mmap_flags: u32,
    reserved: [u32; 13],
}

/// The call, and the parameters of its state.
struct Vdso {
    get: GetRandom,
    params: Params,
}

/// What the kernel keeps for one thread.
struct State(NonNull<c_void>);

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// Fills `bytes`, which are few; `false` where that takes a system call.
pub fn fill_from_kernel(bytes: &mut [u8]) -> bool {
    static VDSO: OnceLock<Option<Vdso>> = OnceLock::new();
    let Some(vdso) = VDSO.get_or_init(find) else { return false };
    // A thread that ends may have none any more.
    STATE.try_with(|state| vdso.fill(&mut state.borrow_mut(), bytes)).unwrap_or(false)
}

impl Vdso {
    fn fill(&self, state: &mut Option<State>, bytes: &mut [u8]) -> bool {
        let Some(state) = state.take().or_else(|| self.new_state()).map(|new| state.insert(new))
        else {
            return false;
        };
        let (buffer, len) = (bytes.as_mut_ptr().cast(), bytes.len());
        // SAFETY: the buffer is `len` bytes, and the state one that the call described, which this
        // thread alone uses.
        let filled =
            unsafe { (self.get)(buffer, len, 0, state.0.as_ptr(), self.params.state_len as usize) };
        filled == len as isize
    }

    fn new_state(&self) -> Option<State> {
        let Params { state_len, mmap_prot, mmap_flags, .. } = self.params;
        // SAFETY: new memory, of a kind that the kernel asks for.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                state_len as usize,
                mmap_prot as i32,
                mmap_flags as i32,
                -1,
                0,
            )
        };
        NonNull::new(memory).filter(|_| memory != libc::MAP_FAILED).map(State)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: the mapping is this state's. Its length is rounded up to the page that it has.
        unsafe { libc::munmap(self.0.as_ptr(), 1) };
    }
}

fn find() -> Option<Vdso> {
    let mut params = Params::default();
    // SAFETY: the library is part of each process and is never unloaded; the symbol has the type
    // that the kernel's documentation gives it. Asked with a length of !0 it fills `params` alone.
    unsafe {
        let library =
            libc::dlopen(c"linux-vdso.so.1".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        let library = NonNull::new(library)?;
        let symbol = NonNull::new(libc::dlsym(library.as_ptr(), c"__vdso_getrandom".as_ptr()))?;
        let get = std::mem::transmute::<*mut c_void, GetRandom>(symbol.as_ptr());
        let asked = get(ptr::null_mut(), 0, 0, (&raw mut params).cast(), usize::MAX);
        (asked == 0).then_some(Vdso { get, params })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    #[test]
    fn no_two_calls_of_any_threads_give_the_same() {
        let drawn = || {
            let mut all = Vec::new();
            for _ in 0..1000 {
                let mut bytes = [0; 12];
                if fill_from_kernel(&mut bytes) {
                    all.push(bytes);
                }
            }
            all
        };
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(drawn)).collect();
        let all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        if all.is_empty() {
            return eprintln!("not tested: no getrandom in this kernel's vDSO");
        }
        assert_eq!(all.len(), 4000);
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4000);
    }

    /// Two machines from one snapshot: here two processes from one.
    #[test]
    fn a_copy_of_the_process_gets_other_bytes() {
        let mut bytes = [0; 12];
        if !fill_from_kernel(&mut bytes) {
            return eprintln!("not tested: no getrandom in this kernel's vDSO");
        }
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        // SAFETY: the child calls what is safe after a fork of a process with threads: it takes no
        // lock and allocates nothing.
        match unsafe { libc::fork() } {
            0 => {
                fill_from_kernel(&mut bytes);
                let _ = std::io::Write::write_all(&mut writer, &bytes);
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) }
            }
            child => {
                assert!(child > 0);
                drop(writer);
                let mut others = [0; 12];
                std::io::Read::read_exact(&mut reader, &mut others).unwrap();
                // SAFETY: the child of this test.
                unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
                fill_from_kernel(&mut bytes);
                assert_ne!(bytes, others);
            }
        }
    }
}
