//! A vault on a disk that is slow: whoever needs no disk does not wait for it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::copy_file_range;
use rustix::mount::{UnmountFlags, unmount};

use crate::common::files::open_rw;
use crate::common::{
    Mounted, Scratch, Vault, pattern, require, require_root, run, vault, wait_until,
};

const MIB: u64 = 1 << 20;
/// Where the kernel limits a device, by number and operations or bytes a second.
const WRITES: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device";
const READS: &str = "/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device";
const LONG: Duration = Duration::from_secs(60);
/// More than are synced at once.
const MANY: usize = 80;

/// An ext4 filesystem in a file, with a vault on it. It is fast again, and gone, at the end.
struct SlowDisk {
    vault: Vault,
    device: Device,
}

struct Device {
    path: PathBuf,
    /// Major and minor number.
    number: String,
    disk: PathBuf,
    vault: PathBuf,
}

impl SlowDisk {
    /// None where the machine has no loop devices, which is said.
    fn new() -> Option<SlowDisk> {
        require_root();
        if !Path::new("/dev/loop-control").exists() {
            eprintln!("not tested: there are no loop devices here (/dev/loop-control)");
            return None;
        }
        let scratch = Scratch::new();
        let (disk, image) = (scratch.make_dir("disk"), scratch.join("image"));
        File::create(&image).unwrap().set_len(1024 * MIB).unwrap();
        run(Command::new(require("mkfs.ext4")).args(["-q", "-b", "4096"]).arg(&image)).ok();
        let mut attach = Command::new(require("losetup"));
        let attached = run(attach.args(["--find", "--show"]).arg(&image)).ok();
        let path = PathBuf::from(attached.stdout.trim());
        let number = rustix::fs::stat(&path).unwrap().st_rdev;
        let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
        let vault = scratch.join("vault");
        let device = Device { path, number, disk: disk.clone(), vault };
        run(Command::new("mount").arg(&device.path).arg(&disk)).ok();
        fs::create_dir(disk.join("vault")).unwrap();
        let vault = Vault::prepare_in(scratch, vault::binary().to_owned());
        run(Command::new("mount").arg("--bind").arg(disk.join("vault")).arg(vault.path())).ok();
        run(vault.command(&["init"]).arg(vault.path()).arg("--key-file").arg(vault.key_file()))
            .ok();
        Some(SlowDisk { vault, device })
    }
}

impl Device {
    /// From now on the disk does so many write operations a second. Whether the kernel can do that;
    /// if not it is said.
    fn throttle(&self, operations: u64) -> bool {
        self.limit(WRITES, operations)
    }

    /// The same for the bytes that it reads.
    fn throttle_reads(&self, bytes: u64) -> bool {
        self.limit(READS, bytes)
    }

    fn unthrottle(&self) {
        for file in [WRITES, READS] {
            let _ = fs::write(file, format!("{} 0", self.number));
        }
    }

    fn limit(&self, file: &str, most: u64) -> bool {
        let set = fs::write(file, format!("{} {most}", self.number));
        if let Err(error) = &set {
            eprintln!("not tested: no disk can be slowed down here: {file}: {error}");
        }
        set.is_ok()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.unthrottle();
        for path in [&self.vault, &self.disk] {
            let _ = unmount(path, UnmountFlags::DETACH);
        }
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

/// How long each of `times` looks for a name that was never there takes, sorted.
fn lookups(mount: &Mounted, kind: &str, times: u32) -> Vec<Duration> {
    let mut took: Vec<_> = (0..times)
        .map(|number| {
            thread::sleep(Duration::from_millis(2));
            let name = mount.join(format!("{kind}-{number}"));
            let begun = Instant::now();
            assert_eq!(fs::metadata(&name).unwrap_err().kind(), io::ErrorKind::NotFound);
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took
}

/// The bounds are wide, since other tests use the processors meanwhile; where each request waits for
/// a disk the median is 100 ms and the worst case more than five seconds.
fn assert_quick(took: &[Duration], what: &str) {
    let (median, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    eprintln!("{what}: median {median:?}, 99th percentile {p99:?}, {} lookups", took.len());
    assert!(median < Duration::from_millis(5), "{what}: median {median:?}");
    assert!(p99 < Duration::from_millis(100), "{what}: 99th percentile {p99:?}");
}

/// Ends `child` by SIGKILL, which is gone at once. The disk is then fast again, before
/// anything fails: whatever waits for it would keep a failed test waiting.
#[track_caller]
fn assert_gone_when_killed(mut child: Child, device: &Device) {
    let running = child.try_wait().unwrap().is_none();
    let begun = Instant::now();
    child.kill().unwrap();
    let status = wait_until(LONG, || child.try_wait().unwrap());
    let took = begun.elapsed();
    device.unthrottle();
    assert!(running, "it has ended by itself");
    assert_eq!(status.expect("it survives SIGKILL").signal(), Some(libc::SIGKILL));
    eprintln!("gone after {took:?}");
    assert!(took < Duration::from_millis(500), "gone after {took:?}");
}

#[test]
fn lookups_wait_for_no_fsync_and_no_copy() {
    let Some(SlowDisk { vault, device }) = SlowDisk::new() else { return };
    let mount = vault.mount(&[]);
    let files: Vec<File> = (0..8).map(|number| open_rw(mount.join(format!("f{number}")))).collect();
    for file in &files {
        file.write_all_at(&pattern(0, 4096), 0).unwrap();
        file.sync_all().unwrap();
    }
    let source = open_rw(mount.join("source"));
    source.write_all_at(&pattern(1, 64 * MIB as usize), 0).unwrap();
    source.sync_all().unwrap();
    assert_quick(&lookups(&mount, "before", 200), "on a fast disk");
    if !device.throttle(10) {
        return;
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    file.write_all_at(&pattern(2, 4096), 0).unwrap();
                    file.sync_all().unwrap();
                }
            });
        }
        for number in 0..3 {
            let (mount, source, stop) = (&mount, &source, &stop);
            scope.spawn(move || {
                let target = open_rw(mount.join(format!("target{number}")));
                while !stop.load(Ordering::Relaxed) {
                    let (mut from, mut to) = (0, 0);
                    let _ =
                        copy_file_range(source, Some(&mut from), &target, Some(&mut to), 1 << 30);
                }
            });
        }
        thread::sleep(Duration::from_millis(300));
        let took = lookups(&mount, "beside", 1000);
        stop.store(true, Ordering::Relaxed);
        device.unthrottle();
        assert_quick(&took, "beside eight fsyncs and three copies on a slow disk");
    });
    drop((files, source));
    mount.unmount();
}

#[test]
fn whoever_is_killed_in_an_fsync_is_gone() {
    let Some(SlowDisk { vault, device }) = SlowDisk::new() else { return };
    // What is written arrives at once, so that the fsync alone waits for the disk.
    let mount = vault.mount(&["--no-writeback"]);
    let path = mount.join("file");
    fs::write(&path, pattern(0, 4096)).unwrap();
    run(Command::new("sync").arg(&path)).ok();
    fs::write(&path, pattern(1, 40_960)).unwrap();
    if !device.throttle(1) {
        return;
    }
    let child = Command::new("sync").arg(&path).spawn().unwrap();
    thread::sleep(Duration::from_millis(400));
    assert_gone_when_killed(child, &device);
    run(Command::new("sync").arg(&path)).ok();
    mount.unmount();
}

#[test]
fn whoever_is_killed_in_a_copy_is_gone_and_kernel_and_vault_agree() {
    let Some(SlowDisk { vault, device }) = SlowDisk::new() else { return };
    let mount = vault.mount(&[]);
    let (source, target) = (mount.join("source"), mount.join("target"));
    fs::write(&source, pattern(0, 256 * MIB as usize)).unwrap();
    let child = Command::new("cp").arg("--sparse=never").arg(&source).arg(&target).spawn().unwrap();
    let begun = wait_until(LONG, || fs::metadata(&target).ok().filter(|meta| meta.len() > 0));
    assert!(begun.is_some(), "nothing is copied");
    assert_gone_when_killed(child, &device);
    let told = fs::metadata(&target).unwrap().size();
    let mount = mount.remount(&[]);
    let content = fs::read(&target).unwrap();
    assert_eq!(content.len() as u64, told);
    assert!(content == fs::read(&source).unwrap()[..content.len()]);
    mount.unmount();
}

#[test]
fn whoever_is_killed_in_a_copy_from_a_slow_disk_is_gone() {
    let Some(SlowDisk { vault, device }) = SlowDisk::new() else { return };
    let mount = vault.mount(&[]);
    let (source, target) = (mount.join("source"), mount.join("target"));
    fs::write(&source, pattern(0, 16 * MIB as usize)).unwrap();
    run(Command::new("sync").arg(&source)).ok();
    // So that it must be read from the disk.
    let stored = File::open(vault.path().join("source")).unwrap();
    rustix::fs::fadvise(&stored, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    if !device.throttle_reads(MIB) {
        return;
    }
    let child = Command::new("cp").arg("--sparse=never").arg(&source).arg(&target).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    assert_gone_when_killed(child, &device);
    mount.unmount();
}

#[test]
fn whoever_is_killed_in_a_copy_that_waits_for_others_is_gone() {
    let Some(SlowDisk { vault, device }) = SlowDisk::new() else { return };
    // What is written arrives at once, so that the fsyncs alone wait for the disk.
    let mount = vault.mount(&["--no-writeback"]);
    let (source, target) = (mount.join("source"), mount.join("target"));
    fs::write(&source, pattern(0, MIB as usize)).unwrap();
    let files: Vec<File> =
        (0..MANY).map(|number| open_rw(mount.join(format!("f{number}")))).collect();
    files.iter().for_each(|file| file.write_all_at(&pattern(0, 40_960), 0).unwrap());
    if !device.throttle(1) {
        return;
    }
    thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| file.sync_all().unwrap());
        }
        thread::sleep(Duration::from_millis(200));
        let mut copy = Command::new("cp");
        let child = copy.arg("--sparse=never").arg(&source).arg(&target).spawn().unwrap();
        thread::sleep(Duration::from_millis(300));
        assert_gone_when_killed(child, &device);
    });
    drop(files);
    mount.unmount();
}
