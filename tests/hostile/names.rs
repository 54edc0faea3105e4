//! Names that a terminal would obey, that end a line of a log, or that read backwards: of files, of
//! the vault, the mount point, the key file and the trail.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::mounted::{daemons_of, is_mounted, kill_and_wait};
use crate::common::{Scratch, Vault, require_root, run_within};

/// A title for the terminal, a second line, CSI as one character, text from right to left, DEL, and
/// what is no UTF-8.
const HOSTILE: &[u8] =
    b"x\x1b]0;title\x07\nERROR forged\r\t\xc2\x9b31m\xe2\x80\xae\xe2\x81\xa6\x7f\xff\\";

fn hostile(suffix: &str) -> OsString {
    let mut name = OsStr::from_bytes(HOSTILE).to_owned();
    name.push(suffix);
    name
}

/// The places, all with such names; what is mounted goes with it.
struct Place {
    vault: Vault,
}

impl Place {
    /// A path that is UTF-8, as those who read the table of mounts expect.
    fn at(&self, suffix: &str) -> PathBuf {
        let name = hostile(suffix).into_encoded_bytes();
        let text: Vec<u8> = name.into_iter().filter(|byte| *byte != 0xff).collect();
        self.vault.scratch().join(OsStr::from_bytes(&text))
    }

    /// Runs a command; what it prints is text and nothing else.
    #[track_caller]
    fn run(&self, args: &[&OsStr]) -> i32 {
        let mut command = self.vault.command(&[]);
        command.env("ATREST_KEY_FILE", self.at("key")).args(args);
        let outcome = run_within(Duration::from_secs(120), &mut command);
        // For the reader of a failure.
        eprintln!("{outcome}");
        assert_text(&format!("{args:?}"), &outcome.stdout);
        assert_text(&format!("{args:?}"), &outcome.stderr);
        outcome.code()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mountpoint = self.at("mnt");
        if daemons_of(&mountpoint).is_empty() {
            return;
        }
        daemons_of(&mountpoint).into_iter().for_each(kill_and_wait);
        let _ = Command::new("umount").arg("-l").arg(&mountpoint).status();
    }
}

#[track_caller]
fn assert_text(what: &str, printed: &str) {
    let bad = |c: &char| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if let Some(c) = printed.chars().find(bad) {
        panic!("{what} printed {c:?}: {printed:?}");
    }
    let forged = printed.lines().any(|line| line.starts_with("ERROR forged"));
    assert!(!forged, "{what} printed a line that is part of a name: {printed:?}");
}

#[test]
fn no_command_and_no_log_shows_them_as_they_are() {
    require_root();
    let place =
        Place { vault: Vault::prepare_in(Scratch::new(), crate::common::vault::binary().into()) };
    let (vault, mountpoint, log) = (place.at("vault"), place.at("mnt"), place.at("log"));
    let key = place.at("key");
    // The vault keeps where the trail lies as text.
    let trail = place.at("trail");
    fs::create_dir(&mountpoint).unwrap();
    let on = |words: &[&str], rest: &[&OsStr]| {
        let args: Vec<&OsStr> = words
            .iter()
            .map(|word| os(word))
            .chain([vault.as_os_str()])
            .chain(rest.iter().copied())
            .collect();
        place.run(&args)
    };
    let name = hostile("name");
    let (dir, under) = (hostile("dir"), OsStr::from_bytes(b"a\x1b[31m\n\xe2\x80\xaeb"));
    assert_eq!(on(&["init"], &[os("--key-file"), key.as_os_str()]), 0);
    // A grant names what is there.
    fs::write(vault.join(under), b"").unwrap();
    let grant =
        [os("--everyone"), os("--allow"), os("decrypt,generate-data-key"), os("--under"), under];
    assert_eq!(on(&["key", "grant"], &grant), 0);
    let options = [
        mountpoint.as_os_str(),
        os("--log-file"),
        log.as_os_str(),
        os("--trail"),
        trail.as_os_str(),
    ];
    assert_eq!(on(&["mount"], &options), 0);
    assert!(is_mounted_at(&mountpoint));
    fs::write(mountpoint.join(&name), vec![1; 20_000]).unwrap();
    fs::create_dir(mountpoint.join(&dir)).unwrap();
    fs::read(mountpoint.join(&name)).unwrap();
    let commands: [(&[&str], &[&OsStr]); 12] = [
        (&["status"], &[]),
        (&["status", "--json"], &[]),
        (&["key", "list"], &[]),
        (&["key", "list", "--json"], &[]),
        (&["policy", "show"], &[]),
        (&["policy", "show", "--json"], &[]),
        (&["key", "assign"], &[os("default"), &dir]),
        (&["verify"], &[&name]),
        (&["trail", "query"], &[]),
        (&["trail", "query", "--json"], &[]),
        (&["trail", "who-read"], &[&name]),
        (&["trail", "verify"], &[]),
    ];
    let all = |what: &str| {
        for (words, rest) in commands {
            let code = on(words, rest);
            // A name that is no UTF-8 can't be asked about by way of a daemon.
            assert!(
                code == 0 || what != "sound" || !rest.is_empty(),
                "{words:?} of what is {what}: {code}"
            );
        }
        for (user, operation) in [("0", "read"), ("65534", "create")] {
            let rest = [name.as_os_str(), os("--user"), os(user), os(operation)];
            on(&["policy", "simulate"], &rest);
        }
        on(&["verify"], &[&hostile("absent")]);
        on(&["mount"], &[&hostile("absent")]);
        on(&["mount"], &[mountpoint.as_os_str()]);
        on(&["key", "assign"], &[&hostile("absent"), os("/")]);
        on(&["key", "rotate"], &[os("--key-file"), &hostile("absent")]);
        on(&["key", "restore"], &[&hostile("absent")]);
        on(&["key", "list"], &[os("--passphrase-file"), &hostile("absent")]);
        on(&["trail", "verify"], &[os("--trail"), &hostile("absent")]);
        on(&["nope"], &[&name]);
    };
    all("sound");
    // Damage, for the names of what is damaged, in the log too.
    assert_eq!(place.run(&[os("umount"), mountpoint.as_os_str()]), 0);
    let mut stored = fs::read_dir(&vault).unwrap().map(|entry| entry.unwrap().path());
    let stored = stored.find(|path| path.metadata().is_ok_and(|found| found.len() > 5000)).unwrap();
    let mut bytes = fs::read(&stored).unwrap();
    bytes[5000] ^= 1;
    fs::write(&stored, bytes).unwrap();
    assert_eq!(on(&["mount"], &options), 0);
    assert!(fs::read(mountpoint.join(&name)).is_err());
    all("damaged");
    assert_eq!(place.run(&[os("umount"), mountpoint.as_os_str()]), 0);
    all("unmounted");
    let said = fs::read(&log).unwrap();
    let said = String::from_utf8(said).expect("the log is UTF-8");
    assert_text("the log", &said);
    assert!(said.contains(r"x\x1b]0;title\x07\nERROR forged\r\t\u{9b}31m\u{202e}"), "{said}");
    let backup = place.at("backup");
    assert_eq!(on(&["key", "backup"], &[backup.as_os_str()]), 0);
}

fn is_mounted_at(mountpoint: &Path) -> bool {
    // /proc/mounts escapes what ends a word.
    !daemons_of(mountpoint).is_empty() || is_mounted(mountpoint)
}

fn os(word: &str) -> &OsStr {
    OsStr::new(word)
}
