//! Real disks in files, by loop devices: of each filesystem, small, and with the troubles of disks.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{UnmountFlags, unmount};

use crate::common::{Scratch, Vault, require, require_root, run, vault, wait_until};

const MIB: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

pub const ALL: [Kind; 3] = [Kind::Ext4, Kind::Xfs, Kind::Btrfs];

/// What is the matter with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Space for a few more MiB.
    Full,
    /// A quota group of btrfs that ends before the disk does.
    Quota,
    /// The filesystem gives up in mid-write, as after an error of its own: ext4 becomes read-only,
    /// XFS fails all calls.
    Abort,
    /// Writes of the device fail.
    Dead,
}

/// A disk with a vault on it. The key file, the mount point and the logs lie elsewhere.
pub struct Disk {
    pub kind: Kind,
    trouble: Trouble,
    mounts: Mounts,
    pub vault: Vault,
}

/// Unmounted in the reverse order, also when the test fails.
struct Mounts(Vec<PathBuf>);

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = unmount(path, UnmountFlags::DETACH);
        }
    }
}

impl Disk {
    /// `None` where this kernel lacks what it takes, which is said.
    pub fn new(kind: Kind, trouble: Trouble) -> Option<Disk> {
        let size = match kind {
            Kind::Ext4 => 96,
            Kind::Xfs => 320,
            Kind::Btrfs => 256,
        };
        Disk::of_size(kind, trouble, size)
    }

    /// One of so many MiB.
    pub fn of_size(kind: Kind, trouble: Trouble, size: u64) -> Option<Disk> {
        require_root();
        let name = match kind {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
        };
        let known = fs::read_to_string("/proc/filesystems").unwrap();
        if !Path::new("/dev/loop-control").exists() || !known.contains(name) {
            eprintln!("not tested: this kernel has no loop devices, or no {name}");
            return None;
        }
        let scratch = Scratch::new();
        let disk = scratch.make_dir("disk");
        let mut mounts = Mounts(Vec::new());
        let place = if trouble == Trouble::Dead {
            // The image grows while there is room, and then its writes fail.
            let place = scratch.make_dir("image");
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=450m", "atrest-test"]).arg(&place);
            run(&mut mount).ok();
            mounts.0.push(place.clone());
            place
        } else {
            scratch.path().to_owned()
        };
        let image = place.join("image.raw");
        let options: &[&str] = match kind {
            // Without a part that is kept for root, who runs these tests.
            Kind::Ext4 => &["-q", "-m", "0", "-b", "4096"],
            Kind::Xfs | Kind::Btrfs => &["-q"],
        };
        File::create(&image).unwrap().set_len(size * MIB).unwrap();
        run(Command::new(require(&format!("mkfs.{name}"))).args(options).arg(&image)).ok();
        run(Command::new("mount").args(["-t", name, "-o", "loop"]).arg(&image).arg(&disk)).ok();
        mounts.0.push(disk.clone());
        let below = disk.join("vault");
        match trouble {
            Trouble::Quota => {
                btrfs(&["subvolume", "create"], &[&below]);
                btrfs(&["quota", "enable"], &[&disk]);
            }
            Trouble::Full | Trouble::Abort | Trouble::Dead => fs::create_dir(&below).unwrap(),
        }
        let vault = Vault::prepare_in(scratch, vault::binary().to_owned());
        run(Command::new("mount").arg("--bind").arg(&below).arg(vault.path())).ok();
        mounts.0.push(vault.path());
        let mut init = vault.command(&["init"]);
        run(init.arg(vault.path()).arg("--key-file").arg(vault.key_file())).ok();
        Some(Disk { kind, trouble, mounts, vault })
    }

    fn path(&self) -> PathBuf {
        self.vault.scratch().join("disk")
    }

    /// Leaves space for `room` MiB more; of a disk that is to fail, in the device below.
    pub fn tighten(&self, room: u64) {
        match self.trouble {
            Trouble::Full => leave(&self.path().join("filler"), &self.path(), room * MIB),
            Trouble::Quota => {
                rustix::fs::syncfs(File::open(self.path()).unwrap()).unwrap();
                self.limit(&(self.charged() + room * MIB).to_string());
            }
            Trouble::Dead => {
                rustix::fs::syncfs(File::open(self.path()).unwrap()).unwrap();
                let place = self.vault.scratch().join("image");
                leave(&place.join("filler"), &place, room * MIB);
            }
            Trouble::Abort => {}
        }
    }

    /// The trouble comes, where it comes at a moment and not by what is written.
    pub fn strike(&self) {
        if self.trouble != Trouble::Abort {
            return;
        }
        match self.kind {
            Kind::Ext4 => {
                let mut remount = Command::new("mount");
                run(remount.args(["-o", "remount,abort"]).arg(self.path()));
            }
            Kind::Xfs => {
                // XFS_IOC_GOINGDOWN with XFS_FSOP_GOING_FLAGS_NOLOGFLUSH (xfs_fs.h).
                let (request, mut flags) = (0x8004_587d_u64, 2_u32);
                let disk = File::open(self.path()).unwrap();
                // SAFETY: the ioctl reads one u32.
                let done = unsafe { libc::ioctl(disk.as_raw_fd(), request, &raw mut flags) };
                assert_eq!(done, 0, "XFS_IOC_GOINGDOWN: {}", std::io::Error::last_os_error());
            }
            Kind::Btrfs => panic!("btrfs has no call for that"),
        }
    }

    /// Whether all works again without mounting the disk anew.
    pub fn heals_in_place(&self) -> bool {
        matches!(self.trouble, Trouble::Full | Trouble::Quota)
    }

    /// Gives space back; a disk that has failed is mounted anew, for which nothing may be mounted
    /// from its vault.
    pub fn heal(&mut self) {
        match self.trouble {
            Trouble::Full => {
                fs::remove_file(self.path().join("filler")).unwrap();
                // btrfs gives space back with the next of its transactions.
                rustix::fs::syncfs(File::open(self.path()).unwrap()).unwrap();
            }
            Trouble::Quota => self.limit("none"),
            Trouble::Dead => {
                fs::remove_file(self.vault.scratch().join("image/filler")).unwrap();
                self.mount_anew();
            }
            Trouble::Abort => self.mount_anew(),
        }
    }

    /// Limits the first subvolume. Through the root, since at its limit a subvolume has no room for
    /// the change of its own limit either.
    fn limit(&self, limit: &str) {
        btrfs(&["qgroup", "limit", limit, "0/256"], &[&self.path()]);
    }

    /// The bytes that its quota counts.
    fn charged(&self) -> u64 {
        let mut show = Command::new(require("btrfs"));
        let shown = run(show.args(["qgroup", "show", "--raw"]).arg(self.path())).ok();
        let group = shown.stdout.lines().find_map(|line| line.trim().strip_prefix("0/256"));
        let bytes = group.and_then(|numbers| numbers.split_whitespace().next());
        bytes.and_then(|number| number.parse().ok()).expect("the size of qgroup 0/256")
    }

    fn mount_anew(&mut self) {
        for path in [self.vault.path(), self.path()] {
            // Somebody who lists mounts may hold it for a moment.
            let done = wait_until(std::time::Duration::from_secs(60), || {
                unmount(&path, UnmountFlags::empty()).ok()
            });
            assert!(done.is_some(), "can't unmount {}", path.display());
            self.mounts.0.pop();
        }
        let place = if self.trouble == Trouble::Dead { "image/image.raw" } else { "image.raw" };
        let image = self.vault.scratch().join(place);
        if self.kind == Kind::Ext4 {
            // 1: errors were corrected, as they are after an abort.
            let checked = run(Command::new(require("e2fsck")).args(["-f", "-y"]).arg(&image));
            assert!(checked.code() <= 1, "{checked}");
        }
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(self.path())).ok();
        self.mounts.0.push(self.path());
        let below = self.path().join("vault");
        run(Command::new("mount").arg("--bind").arg(below).arg(self.vault.path())).ok();
        self.mounts.0.push(self.vault.path());
    }
}

fn btrfs(words: &[&str], paths: &[&Path]) {
    run(Command::new(require("btrfs")).args(words).args(paths)).ok();
}

/// Takes the space of the filesystem at `dir` by a file, but for `room` bytes.
fn leave(filler: &Path, dir: &Path, room: u64) {
    let file = File::create(filler).unwrap();
    let mut taken = 0;
    // What a filesystem calls available and what it gives differ by its own needs.
    for _ in 0..20 {
        let stat = statvfs(dir).unwrap();
        let available = stat.f_bavail * stat.f_frsize;
        if available <= room {
            break;
        }
        let step = (available - room).min(available / 2).max(MIB / 4);
        if fallocate(&file, FallocateFlags::empty(), taken, step).is_err() {
            break;
        }
        taken += step;
        // Until then btrfs calls available what it has just given.
        rustix::fs::syncfs(&file).unwrap();
    }
}
