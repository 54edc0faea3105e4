//! A disk that is soon full, with a vault on it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{UnmountFlags, unmount};

use crate::common::{Scratch, Vault, require_root, run, vault};

/// What the disk is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Tmpfs,
    /// In a file, by a loop device.
    Ext4,
}

/// A mounted disk of 16 MiB. It is unmounted on drop, before the scratch directory goes.
pub struct SmallDisk {
    mounts: Mounts,
    /// The vault on it; its key file, mount point and logs lie elsewhere.
    pub vault: Vault,
}

struct Mounts(Vec<PathBuf>);

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // What a failed test still holds open goes with it.
            let _ = unmount(path, UnmountFlags::DETACH);
        }
    }
}

impl SmallDisk {
    /// A disk of each kind that this machine has.
    pub fn each(test: impl Fn(SmallDisk)) {
        require_root();
        test(SmallDisk::new(Kind::Tmpfs));
        if Path::new("/dev/loop-control").exists() {
            test(SmallDisk::new(Kind::Ext4));
        } else {
            eprintln!("not tested on ext4: there are no loop devices here (/dev/loop-control)");
        }
    }

    fn new(kind: Kind) -> SmallDisk {
        let scratch = Scratch::new();
        let (disk, image) = (scratch.make_dir("disk"), scratch.join("image"));
        let mut mount = Command::new("mount");
        match kind {
            Kind::Tmpfs => mount.args(["-t", "tmpfs", "-o", "size=16m", "atrest-test"]),
            Kind::Ext4 => {
                File::create(&image).unwrap().set_len(16 << 20).unwrap();
                // Without a part that is kept for root, who runs these tests; with the blocks that
                // larger disks have.
                let options = ["-q", "-m", "0", "-b", "4096"];
                run(Command::new("mkfs.ext4").args(options).arg(&image)).ok();
                mount.args(["-o", "loop"]).arg(&image)
            }
        };
        run(mount.arg(&disk)).ok();
        let mut mounts = Mounts(vec![disk.clone()]);
        fs::create_dir(disk.join("vault")).unwrap();
        let vault = Vault::prepare_in(scratch, vault::binary().to_owned());
        run(Command::new("mount").arg("--bind").arg(disk.join("vault")).arg(vault.path())).ok();
        mounts.0.push(vault.path());
        run(vault.command(&["init"]).arg(vault.path()).arg("--key-file").arg(vault.key_file()))
            .ok();
        SmallDisk { mounts, vault }
    }

    /// Its size in bytes, about.
    pub fn size(&self) -> u64 {
        16 << 20
    }

    /// A path on the disk, beside the vault.
    pub fn join(&self, name: &str) -> PathBuf {
        self.mounts.0[0].join(name)
    }

    /// Takes what space there is with files beside the vault. The first one is too large for the last
    /// blocks: to grow by one of them it may need another for its list of extents.
    pub fn fill(&self) {
        let mut fillers = (0..).map(|number| fill(&self.join(&format!("filler-{number}"))));
        fillers.find(|taken| *taken == 0);
    }

    /// Gives it back.
    pub fn make_room(&self) {
        for entry in fs::read_dir(self.join("")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with("filler-") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    /// Remounts the vault's directory, so that it can be read alone; the disk stays writable.
    pub fn make_vault_read_only(&self) {
        let mut remount = Command::new("mount");
        run(remount.args(["-o", "remount,bind,ro"]).arg(self.vault.path())).ok();
    }
}

/// Appends to a file until there is not a block left; returns how many bytes were taken.
#[track_caller]
pub fn fill(path: &Path) -> u64 {
    let mut file = File::create(path).unwrap();
    let mut taken = 0;
    for step in [256 * 1024, 4096] {
        loop {
            let gained = append_until_full(&mut file, step);
            taken += gained;
            if gained == 0 {
                break;
            }
            // ext4 refuses early what it may need for itself, and finds space at a commit. What
            // this says is what the last append has said.
            let _ = rustix::fs::syncfs(&file);
        }
    }
    taken
}

#[track_caller]
fn append_until_full(file: &mut File, step: usize) -> u64 {
    let mut gained = 0;
    loop {
        // Each step for itself: what is only in a cache has not been given space.
        match file.write_all(&vec![b'f'; step]).and_then(|()| file.sync_all()) {
            Ok(()) => gained += step as u64,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
                return gained;
            }
        }
        assert!(gained < 64 << 20, "the disk does not fill");
    }
}
