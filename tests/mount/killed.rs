//! What is left when a program is killed in the midst of its writes, and when the daemon is.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::files::close;
use crate::common::{Mounted, pattern, wait_until};

const LONG: Duration = Duration::from_secs(20);

each_cache!(what_a_killed_program_wrote_stays, a_killed_daemon_is_told_by_fsync_and_not_by_close);

fn what_a_killed_program_wrote_stays(mount: Mounted) {
    let (path, content) = (mount.join("file"), pattern(0, 50_000));
    let file = File::create(&path).unwrap();
    let mut program = Command::new("cat").stdin(Stdio::piped()).stdout(file).spawn().unwrap();
    let mut input = program.stdin.take().unwrap();
    input.write_all(&content).unwrap();
    // It waits for more, with the file open.
    let length = || fs::metadata(&path).unwrap().len();
    let written = wait_until(LONG, || (length() == content.len() as u64).then_some(()));
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(written.is_some(), "{} bytes are written", length());
    assert!(fs::read(&path).unwrap() == content);
    let mount = mount.remount(&[]);
    assert!(fs::read(&path).unwrap() == content);
    mount.unmount();
}

fn a_killed_daemon_is_told_by_fsync_and_not_by_close(mut mount: Mounted) {
    let path = mount.join("file");
    let mut file = File::create(&path).unwrap();
    file.write_all(&pattern(0, 5000)).unwrap();
    file.sync_all().unwrap();
    let (mut closed, mut synced) = (File::create(mount.join("closed")).unwrap(), file);
    closed.write_all(&pattern(1, 5000)).unwrap();
    synced.write_all(&pattern(5000, 5000)).unwrap();
    mount.kill9();
    assert_eq!(fs::metadata(mount.path()).unwrap_err().kind(), ErrorKind::NotConnected);
    synced.sync_all().unwrap_err();
    close(closed).unwrap();
    drop(synced);
    let mount = mount.remount(&[]);
    assert!(fs::read(&path).unwrap()[..5000] == pattern(0, 5000));
    mount.unmount();
}
