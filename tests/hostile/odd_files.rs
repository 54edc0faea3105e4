//! A FIFO, a device, a directory, a symbolic link or a gibibyte of nothing in the place of each file
//! that the commands read or write.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::common::mounted::{daemons_of, is_mounted};
use crate::common::{
    Allow, Mounted, Outcome, Vault, require_root, run_within, wait_until, write_secret,
};

/// A command takes some milliseconds; with this machine busy, this is a hang.
const HANG: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
enum Odd {
    Fifo,
    Device,
    Directory,
    Link,
    Dangling,
    Sparse,
}

const ODD: [Odd; 6] =
    [Odd::Fifo, Odd::Device, Odd::Directory, Odd::Link, Odd::Dangling, Odd::Sparse];

impl Odd {
    fn put(self, path: &Path, outside: &Path) {
        let _ = fs::remove_file(path);
        match self {
            Odd::Fifo => mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
            // /dev/zero: its end never comes.
            Odd::Device => {
                let device = rustix::fs::makedev(1, 5);
                mknodat(CWD, path, FileType::CharacterDevice, Mode::RWXU, device).unwrap();
            }
            Odd::Directory => fs::create_dir(path).unwrap(),
            Odd::Link => symlink(outside, path).unwrap(),
            Odd::Dangling => symlink(outside.with_extension("absent"), path).unwrap(),
            Odd::Sparse => {
                write_secret(path, "");
                File::options().write(true).open(path).unwrap().set_len(1 << 30).unwrap();
            }
        }
    }
}

/// A vault that has been mounted, with a file outside of it that nobody may touch.
struct Place {
    vault: Vault,
    outside: PathBuf,
}

impl Place {
    fn new() -> Self {
        let vault = Vault::init();
        let mount = vault.mount(&[]);
        fs::write(mount.join("file"), "content").unwrap();
        mount.unmount();
        let outside = vault.scratch().join("outside");
        write_secret(&outside, "kept");
        Self { vault, outside }
    }

    fn trail(&self) -> PathBuf {
        let state = self.vault.scratch().join("home/state/atrest");
        let mut found = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
        found.find(|path| path.is_dir()).unwrap()
    }

    fn path(&self, place: &str) -> PathBuf {
        match place.split_once('/') {
            Some(("vault", name)) => self.vault.path().join(".atrest").join(name),
            Some(("trail", "last")) => {
                let files = fs::read_dir(self.trail()).unwrap().map(|entry| entry.unwrap().path());
                files.filter(|path| path.extension().is_some()).max().unwrap()
            }
            Some(("trail", name)) => self.trail().join(name),
            _ => self.vault.scratch().join(place),
        }
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let mut command = self.vault.command(args);
        let outcome = run_within(HANG, &mut bounded(command.arg(self.vault.path())));
        // Ended by itself.
        outcome.code();
        assert!(outcome.stderr.len() < 4096, "{outcome}");
        outcome
    }

    fn mount(&self) -> Option<Mounted> {
        let outcome = |mut command: Command| run_within(HANG, &mut command);
        let mut mount = Mounted::try_mount_with(&self.vault, &[], outcome).ok()?;
        mount.allow(Allow::Errors);
        Some(mount)
    }

    fn unmount(&self, mut mount: Mounted) {
        let ended = run_within(HANG, self.vault.command(&["umount"]).arg(self.vault.mountpoint()));
        ended.code();
        assert!(!is_mounted(&self.vault.mountpoint()), "{ended}");
        // Where the lock is gone, umount does not see that the daemon still ends.
        let gone = || daemons_of(&self.vault.mountpoint()).is_empty().then_some(());
        assert!(wait_until(HANG, gone).is_some(), "the daemon goes on");
        mount.forget();
    }

    /// Every command that reads or writes one of the places.
    fn run_all(&self) {
        self.run(&["status"]);
        self.run(&["verify"]);
        self.run(&["key", "list"]);
        self.run(&["key", "rotate"]);
        self.run(&["key", "rewrap"]);
        self.run(&["policy", "show"]);
        self.run(&["trail", "verify"]);
        self.run(&["trail", "query"]);
    }
}

/// A command with no room for all of a file of a gibibyte.
fn bounded(command: &Command) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", r#"ulimit -v 700000; exec "$0" "$@""#]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Where files lie that the program makes itself.
const PLACES: [&str; 15] = [
    "vault/vault.json",
    "vault/vault.json.new",
    "vault/state.json",
    "vault/state.json.new",
    "vault/lock",
    "vault/trail.json",
    "vault/trail.json.new",
    "vault/ctimes",
    "keys/key.json",
    "keys/key.json.lock",
    "keys/key.json.new",
    "keys/key.json.prev",
    "keys/key.json.prev.new",
    "trail/lock",
    "trail/last",
];

fn unmounted(odd: Odd) {
    require_root();
    for name in PLACES {
        eprintln!("{odd:?} as {name}");
        let place = Place::new();
        odd.put(&place.path(name), &place.outside);
        place.run_all();
        if let Some(mount) = place.mount() {
            place.run(&["status"]);
            fs::read(mount.join("file")).unwrap();
            fs::write(mount.join("file"), "other content").unwrap();
            place.unmount(mount);
        }
        assert_eq!(fs::read(&place.outside).unwrap(), b"kept", "{odd:?} as {name}");
        assert!(!place.outside.with_extension("absent").exists(), "{odd:?} as {name}");
    }
}

#[test]
fn a_fifo() {
    unmounted(Odd::Fifo);
}

#[test]
fn a_device() {
    unmounted(Odd::Device);
}

#[test]
fn a_directory() {
    unmounted(Odd::Directory);
}

#[test]
fn a_link() {
    unmounted(Odd::Link);
    unmounted(Odd::Dangling);
}

#[test]
fn a_gibibyte() {
    unmounted(Odd::Sparse);
}

/// All of them at once, below a mount that goes on.
#[test]
fn while_it_is_mounted() {
    require_root();
    for odd in ODD {
        let place = Place::new();
        let Some(mount) = place.mount() else { panic!("{odd:?}: no mount") };
        for name in PLACES {
            odd.put(&place.path(name), &place.outside);
        }
        place.run_all();
        fs::write(mount.join("file"), "other content").unwrap();
        place.unmount(mount);
        assert_eq!(fs::read(&place.outside).unwrap(), b"kept", "{odd:?}");
        assert!(!place.outside.with_extension("absent").exists(), "{odd:?}");
    }
}

/// Files that the user names: a link is theirs to follow.
#[test]
fn files_that_are_named() {
    require_root();
    let place = Place::new();
    let named = place.vault.scratch().join("named");
    let path = named.to_str().unwrap();
    for odd in ODD {
        if named.is_dir() {
            fs::remove_dir(&named).unwrap();
        }
        odd.put(&named, &place.outside);
        place.run(&["key", "list", "--key-file", path]);
        // The link's file would do.
        if !matches!(odd, Odd::Link) {
            let refused = place.run(&["key", "protector", "add", "--new-passphrase-file", path]);
            assert_eq!(refused.code(), 5, "{odd:?}: {refused}");
        }
        let mut restore = place.vault.command(&["key", "restore"]);
        let restored = run_within(HANG, restore.arg(place.vault.path()).arg(&named));
        assert_ne!(restored.code(), 0, "{odd:?}: {restored}");
        let mut mount = place.vault.command(&["mount"]);
        mount.arg(place.vault.path()).arg(place.vault.mountpoint()).args(["--log-file", path]);
        let mounted = run_within(HANG, &mut mount);
        let is_log = matches!(odd, Odd::Link | Odd::Dangling | Odd::Sparse);
        assert_eq!(mounted.success(), is_log, "{odd:?}: {mounted}");
        if is_log {
            run_within(HANG, place.vault.command(&["umount"]).arg(place.vault.mountpoint())).ok();
        }
    }
}
