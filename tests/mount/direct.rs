//! What a completed direct write gives every later read, whoever asked for it and however.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, ptr, thread};

use crate::common::Mounted;
use crate::common::files::open_rw;

each_cache!(a_completed_asynchronous_direct_write_is_read);

const BLOCK: usize = 4096;
const BLOCKS: u64 = 64;
const WRITES: u64 = 1500;

/// struct iocb (linux/aio_abi.h), little-endian.
#[repr(C)]
#[derive(Default)]
struct ControlBlock {
    data: u64,
    key: u32,
    flags: u32,
    operation: u16,
    priority: i16,
    descriptor: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    more_flags: u32,
    event_descriptor: u32,
}

#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    second: i64,
}

#[repr(C, align(4096))]
struct Block([u8; BLOCK]);

/// The kernel's asynchronous input and output, io_setup(2), for one write at a time.
struct Aio(libc::c_ulong);

impl Aio {
    fn new() -> Aio {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel fills in the one word that the pointer names.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, 8, &raw mut context) };
        assert_eq!(made, 0, "io_setup: {}", io::Error::last_os_error());
        Aio(context)
    }

    /// Writes a block and returns when the kernel says that it is done.
    fn write(&self, file: &File, block: &Block, offset: u64) {
        let mut control = ControlBlock {
            operation: 1, // IOCB_CMD_PWRITE
            descriptor: file.as_raw_fd() as u32,
            buffer: block.0.as_ptr() as u64,
            bytes: BLOCK as u64,
            offset: offset as i64,
            ..ControlBlock::default()
        };
        let mut controls = [&raw mut control];
        let mut event = Event::default();
        // SAFETY: control block, buffer and event live until the write has completed, for which the
        // second call waits.
        let (submitted, completed) = unsafe {
            let submitted = libc::syscall(libc::SYS_io_submit, self.0, 1, controls.as_mut_ptr());
            let no_limit = ptr::null::<libc::timespec>();
            let at = &raw mut event;
            (submitted, libc::syscall(libc::SYS_io_getevents, self.0, 1, 1, at, no_limit))
        };
        assert_eq!((submitted, completed), (1, 1), "{}", io::Error::last_os_error());
        assert_eq!(event.result, BLOCK as i64);
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: the context is this value's own, and nothing is in flight in it.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

fn a_completed_asynchronous_direct_write_is_read(mount: Mounted) {
    let path = mount.join("file");
    let buffered = open_rw(&path);
    buffered.write_all_at(&vec![0; BLOCK * BLOCKS as usize], 0).unwrap();
    buffered.sync_all().unwrap();
    let mut options = File::options();
    let direct = options.write(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
    let (aio, stop) = (Aio::new(), AtomicBool::new(false));
    let stale = thread::scope(|scope| {
        for start in 0..2 {
            let (buffered, stop) = (&buffered, &stop);
            scope.spawn(move || {
                let mut byte = [0];
                for block in (start..).step_by(3).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    buffered.read_exact_at(&mut byte, block % BLOCKS * BLOCK as u64).unwrap();
                }
            });
        }
        let mut stale = 0;
        for number in 0..WRITES {
            let (fill, offset) = (number as u8 | 1, number * 7 % BLOCKS * BLOCK as u64);
            aio.write(&direct, &Block([fill; BLOCK]), offset);
            let mut found = [0; BLOCK];
            buffered.read_exact_at(&mut found, offset).unwrap();
            stale += u32::from(found != [fill; BLOCK]);
        }
        stop.store(true, Ordering::Relaxed);
        stale
    });
    assert_eq!(stale, 0, "of {WRITES} reads after a completed write gave older content");
}
