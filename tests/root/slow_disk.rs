//! A vault on a disk that is slow: whoever needs no disk does not wait for it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{XattrFlags, copy_file_range, setxattr};
use rustix::mount::{UnmountFlags, unmount};

use crate::common::files::open_rw;
use crate::common::{
    Backing, Mounted, Scratch, Vault, pattern, require, require_root, run, vault, wait_until,
};

const MIB: u64 = 1 << 20;
/// Where the kernel limits a device, by number and operations or bytes a second.
const WRITES: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device";
const READS: &str = "/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device";
const LONG: Duration = Duration::from_secs(60);
/// Who is killed is gone within this, beside what the machine takes for it.
const GONE: Duration = Duration::from_millis(100);
/// One that was killed and is there after so long waits for a disk.
const KILLED: Duration = Duration::from_secs(5);
/// More than are synced at once.
const MANY: usize = 80;

/// An ext4 filesystem in a file, with a vault on it. It is fast again, and gone, at the end.
pub struct SlowDisk {
    pub vault: Vault,
    pub device: Device,
}

pub struct Device {
    path: PathBuf,
    /// Major and minor number.
    number: String,
    disk: PathBuf,
    vault: PathBuf,
}

impl SlowDisk {
    /// None where the machine has no loop devices, which is said.
    pub fn new() -> Option<SlowDisk> {
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

    /// From now on whoever changes anything on the disk waits, until [`Device::thaw`].
    pub fn freeze(&self) {
        run(Command::new(require("fsfreeze")).arg("--freeze").arg(&self.disk)).ok();
    }

    /// Fails where it is not frozen.
    pub fn thaw(&self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.disk).output();
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
        self.thaw();
        for path in [&self.vault, &self.disk] {
            let _ = unmount(path, UnmountFlags::DETACH);
        }
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

/// How long requests take on a mount, and the same requests on a mount of a vault in memory, which
/// nobody else uses: there they wait for a processor alone.
pub struct Latency {
    quiet: Mounted,
    took: [Vec<Duration>; 2],
}

impl Latency {
    pub fn new() -> Latency {
        let quiet = Vault::init_on(Backing::Tmpfs).mount(&[]);
        fs::write(quiet.join("file"), b"x").unwrap();
        Latency { quiet, took: Default::default() }
    }

    /// Looks for names that were never there in a directory of `mount`.
    pub fn look_up(&mut self, dir: &Path, times: u32) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        self.measure(dir, times, |dir| {
            let name = dir.join(format!("none-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
            assert_eq!(fs::metadata(&name).unwrap_err().kind(), io::ErrorKind::NotFound);
        });
    }

    /// Opens the file `file` in a directory of a mount, which is there.
    pub fn open(&mut self, dir: &Path, times: u32) {
        self.measure(dir, times, |dir| drop(File::open(dir.join("file")).unwrap()));
    }

    fn measure(&mut self, dir: &Path, times: u32, ask: impl Fn(&Path)) {
        for _ in 0..times {
            for (dir, took) in [dir, self.quiet.path()].into_iter().zip(&mut self.took) {
                thread::sleep(Duration::from_millis(1));
                let begun = Instant::now();
                ask(dir);
                took.push(begun.elapsed());
            }
        }
    }

    /// The bounds of what the requests may take beyond what they take where no disk is.
    #[track_caller]
    pub fn assert_quick(&mut self, what: &str) {
        let percentiles = self.took.each_mut().map(|took| {
            took.sort_unstable();
            (took[took.len() / 2], took[took.len() * 99 / 100])
        });
        let [(median, p99), (quiet_median, quiet_p99)] = percentiles;
        let worst = self.took.each_ref().map(|took| *took.last().unwrap());
        eprintln!(
            "{what}: {} requests, median {median:?} (in memory {quiet_median:?}), 99th percentile \
             {p99:?} ({quiet_p99:?}), worst {worst:?}",
            self.took[0].len(),
        );
        assert!(median < Duration::from_millis(1) + quiet_median, "{what}: median {median:?}");
        assert!(p99 < Duration::from_millis(20) + quiet_p99, "{what}: 99th percentile {p99:?}");
        self.took = Default::default();
    }

    pub fn end(self) {
        self.quiet.unmount();
    }
}

/// Makes, marks, moves and removes files in directories of its own until `stop`. Returns how often,
/// and the longest time that one of these took.
fn change_names(dir: &Path, stop: &AtomicBool) -> (u32, Duration) {
    let (here, there) = (dir.join("here"), dir.join("there"));
    let (file, moved, link) = (here.join("file"), there.join("file"), there.join("link"));
    let (mut rounds, mut longest) = (0, Duration::ZERO);
    let mut timed = |change: &dyn Fn()| {
        let begun = Instant::now();
        change();
        longest = longest.max(begun.elapsed());
    };
    while !stop.load(Ordering::Relaxed) {
        timed(&|| drop(File::create_new(&file).unwrap()));
        timed(&|| setxattr(&file, "user.mark", b"1", XattrFlags::empty()).unwrap());
        timed(&|| fs::hard_link(&file, &link).unwrap());
        timed(&|| fs::rename(&file, &moved).unwrap());
        timed(&|| fs::remove_file(&link).unwrap());
        timed(&|| fs::remove_file(&moved).unwrap());
        timed(&|| fs::create_dir(&link).unwrap());
        timed(&|| fs::rename(&link, &file).unwrap());
        timed(&|| fs::remove_dir(&file).unwrap());
        rounds += 1;
    }
    (rounds, longest)
}

/// Ends `child` by SIGKILL, which is gone at once. The disk is then fast again, before
/// anything fails: whatever waits for it would keep a failed test waiting.
#[track_caller]
fn assert_gone_when_killed(mut child: Child, device: &Device, within: Duration) {
    let running = child.try_wait().unwrap().is_none();
    let killed = kill_and_wait(child);
    let noise = noise_of_a_kill();
    device.unthrottle();
    assert!(running, "it has ended by itself");
    assert_gone_soon(killed, within + noise);
}

/// Ends children by SIGKILL that all wait for a disk.
#[track_caller]
pub fn kill_all(children: Vec<Child>) {
    let noise = noise_of_a_kill();
    for mut child in children {
        assert!(child.try_wait().unwrap().is_none(), "it has ended by itself");
        assert_gone_soon(kill_and_wait(child), GONE + noise);
    }
}

#[track_caller]
fn assert_gone_soon(killed: Option<Duration>, within: Duration) {
    eprintln!("gone after {killed:?}");
    let took = killed.expect("it survives SIGKILL");
    assert!(took < within, "gone after {took:?}, and not within {within:?}");
}

/// How long it takes until a program is gone that waits for no disk.
fn noise_of_a_kill() -> Duration {
    let child = Command::new("sleep").arg("60").spawn().unwrap();
    thread::sleep(Duration::from_millis(20));
    kill_and_wait(child).expect("it survives SIGKILL")
}

/// None where it is not gone after a while.
fn kill_and_wait(mut child: Child) -> Option<Duration> {
    let begun = Instant::now();
    child.kill().unwrap();
    while begun.elapsed() < KILLED {
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.signal(), Some(libc::SIGKILL));
            return Some(begun.elapsed());
        }
        thread::sleep(Duration::from_millis(1));
    }
    None
}

#[test]
fn lookups_and_opens_wait_for_no_fsync_no_copy_and_no_change() {
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
    let elsewhere = mount.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("file"), b"x").unwrap();
    for number in 0..4 {
        for name in ["here", "there"] {
            fs::create_dir_all(mount.join(format!("d{number}")).join(name)).unwrap();
        }
    }
    let mut latency = Latency::new();
    latency.look_up(mount.path(), 200);
    latency.assert_quick("on a fast disk");
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
        let changes: Vec<_> = (0..4)
            .map(|number| mount.join(format!("d{number}")))
            .map(|dir| scope.spawn(|| change_names(&{ dir }, &stop)))
            .collect();
        thread::sleep(Duration::from_millis(300));
        latency.look_up(&elsewhere, 1000);
        let mut opens = Latency::new();
        opens.open(&elsewhere, 500);
        stop.store(true, Ordering::Relaxed);
        device.unthrottle();
        for changes in changes {
            let (rounds, longest) = changes.join().unwrap();
            eprintln!("names changed in {rounds} rounds, the longest took {longest:?}");
        }
        latency.assert_quick("lookups beside fsyncs, copies and changes on a slow disk");
        opens.assert_quick("opens beside fsyncs, copies and changes on a slow disk");
        opens.end();
    });
    latency.end();
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
    assert_gone_when_killed(child, &device, GONE);
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
    assert_gone_when_killed(child, &device, GONE);
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
    if !device.throttle_reads(MIB / 8) {
        return;
    }
    let child = Command::new("cp").arg("--sparse=never").arg(&source).arg(&target).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    assert_gone_when_killed(child, &device, GONE);
    let told = fs::metadata(&target).unwrap().size();
    let mount = mount.remount(&[]);
    let content = fs::read(&target).unwrap();
    assert_eq!(content.len() as u64, told);
    assert!(content == pattern(0, 16 * MIB as usize)[..content.len()]);
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
        assert_gone_when_killed(child, &device, GONE);
    });
    drop(files);
    mount.unmount();
}
