//! Fifos and sockets; device nodes are root's.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::common::files::{errno, lstat};
use crate::common::{Mounted, require, run};

each_cache!(
    a_fifo_carries_bytes,
    a_socket_connects,
    mknod_makes_regular_files,
    a_program_runs_from_the_mount
);

fn a_fifo_carries_bytes(mount: Mounted) {
    let path = mount.join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    assert!(lstat(&path).file_type().is_fifo());
    let reader = thread::spawn({
        let path = path.clone();
        move || {
            let mut all = Vec::new();
            fs::File::open(path).unwrap().read_to_end(&mut all).unwrap();
            all
        }
    });
    OpenOptions::new().write(true).open(&path).unwrap().write_all(b"through the fifo").unwrap();
    assert_eq!(reader.join().unwrap(), b"through the fifo");
    assert_eq!(lstat(&path).len(), 0);
    let mount = mount.remount(&[]);
    assert!(lstat(mount.join("fifo")).file_type().is_fifo());
    fs::remove_file(mount.join("fifo")).unwrap();
}

fn a_socket_connects(mount: Mounted) {
    let path = mount.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    assert!(lstat(&path).file_type().is_socket());
    let client = thread::spawn({
        let path = path.clone();
        move || UnixStream::connect(path).unwrap().write_all(b"hello").unwrap()
    });
    let mut all = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
    client.join().unwrap();
    assert_eq!(all, b"hello");
    assert_eq!(errno(UnixListener::bind(&path)), libc::EADDRINUSE);
    drop(listener);
    assert_eq!(errno(UnixStream::connect(&path)), libc::ECONNREFUSED);
    fs::remove_file(&path).unwrap();
}

fn mknod_makes_regular_files(mount: Mounted) {
    let path = mount.join("file");
    mknodat(CWD, &path, FileType::RegularFile, Mode::from_raw_mode(0o600), 0).unwrap();
    assert!(lstat(&path).is_file());
    assert_eq!((lstat(&path).len(), lstat(&path).blocks()), (0, 0));
    fs::write(&path, b"content").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"content");
    let again = mknodat(CWD, &path, FileType::RegularFile, Mode::from_raw_mode(0o600), 0);
    assert_eq!(again, Err(rustix::io::Errno::EXIST));
}

fn a_program_runs_from_the_mount(mount: Mounted) {
    let program = mount.join("program");
    fs::copy(require("true"), &program).unwrap();
    run(&mut std::process::Command::new(&program)).ok();
    let mount = mount.remount(&[]);
    run(&mut std::process::Command::new(mount.join("program"))).ok();
    let script = mount.join("script");
    fs::write(&script, "#!/bin/sh\nexit 7\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(run(&mut std::process::Command::new(&script)).code(), 7);
}
