//! What the daemon needs, below its own mount point: refused before anything is made.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::Place;

impl Place {
    fn mount_with(&self, args: &[&str], environment: &[(&str, PathBuf)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atrest"));
        command.args(["mount", "vault", "mnt", "--key-file", "key.json"]).args(args);
        command.current_dir(self.path("")).env("HOME", self.path(""));
        command.env_remove("XDG_STATE_HOME").env_remove("XDG_CONFIG_HOME");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.output().unwrap()
    }

    #[track_caller]
    fn refused_below(&self, args: &[&str], environment: &[(&str, PathBuf)], what: &str) {
        let code = if args.iter().any(|word| word.ends_with("trail")) { 2 } else { 6 };
        let output = self.mount_with(args, environment);
        let told = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            let _ = Command::new("umount").arg("-l").arg(self.path("mnt")).status();
            panic!("mounted with {what} below the mount point");
        }
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(what) && told.contains("below the mount point"), "{told}");
        assert_eq!(told.trim().lines().count(), 1, "{told}");
        assert_eq!(fs::read_dir(self.path("mnt")).unwrap().count(), 0, "something was made");
    }
}

#[test]
fn the_trail_in_its_default_place() {
    let place = Place::new();
    let home = place.path("mnt");
    place.refused_below(&[], &[("HOME", home.clone())], "the trail");
    place.refused_below(&[], &[("XDG_STATE_HOME", home.join("state"))], "the trail");
}

#[test]
fn files_that_are_named() {
    let place = Place::new();
    place.refused_below(&["--trail", "mnt/trail"], &[], "the trail");
    place.refused_below(&["-o", "trail=mnt/./x/../trail"], &[], "the trail");
    place.refused_below(&["--log-file", "mnt/log"], &[], "the log file");
    place.refused_below(&["--passphrase-file", "mnt/secret"], &[], "the passphrase file");
    place.refused_below(&["--trail-syslog=mnt/log.socket"], &[], "the socket of syslog");
    let key = ["mount", "vault", "mnt", "--key-file", "mnt/key.json"];
    place.refused(&key, 6, "the key file");
}

#[test]
fn symlinks_that_lead_there_or_will() {
    let place = Place::new();
    symlink("mnt", place.path("link")).unwrap();
    symlink("link/not/yet", place.path("dangling")).unwrap();
    place.refused_below(&["--log-file", "link/log"], &[], "the log file");
    place.refused_below(&["--trail", "dangling/trail"], &[], "the trail");
    place.refused_below(&[], &[("XDG_STATE_HOME", place.path("dangling"))], "the trail");
}

/// By another path to the same directory.
#[test]
fn bind_mounts_of_the_mount_point() {
    let place = Place::new();
    fs::create_dir(place.path("bound")).unwrap();
    let (from, to) = (place.path("mnt"), place.path("bound"));
    let bound = Command::new("mount").arg("--bind").args([&from, &to]).output().unwrap();
    if !bound.status.success() {
        eprintln!("not tested: no right to mount");
        return;
    }
    let refused = std::panic::catch_unwind(|| {
        place.refused_below(&["--log-file", "bound/log"], &[], "the log file");
    });
    assert!(Command::new("umount").arg(&to).status().unwrap().success());
    refused.unwrap();
}

/// Not sealed there, and listed by whoever has the vault.
#[test]
fn the_trail_in_the_vault() {
    let place = Place::new();
    let trail = ["mount", "vault", "mnt", "--key-file", "key.json", "--trail", "vault/trail"];
    place.refused(&trail, 2, "the vault");
}
