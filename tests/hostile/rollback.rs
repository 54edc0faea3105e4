//! Each part of what belongs to a vault, put back alone, in pairs and all together to an older state.
//! The table is that of the threat model.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Allow, Mounted, Vault, run};

/// Of when a part is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// A moment of the last mount.
    During,
    /// Between the last mount and the one before.
    BeforeMount,
    /// Before the last rotation and rewrap.
    BeforeRotation,
}

const TIMES: [To; 3] = [To::During, To::BeforeMount, To::BeforeRotation];

/// A part that is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// `.atrest/state.json`
    State,
    /// `.atrest/vault.json`
    Description,
    /// `.atrest/trail.json`
    Seal,
    /// `.atrest/ctimes`
    ChangeTimes,
    /// The key file.
    KeyFile,
    /// What the machine knows of the vault.
    Record,
    /// The directory of the trail.
    Trail,
    /// The 256 bytes at the beginning of a file.
    Header,
    /// One later block of it.
    Block,
    /// All of the file.
    File,
    /// The vault's directory with all in it.
    Vault,
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The mount is refused, and goes on with `--accept-rollback`, with a line in the trail.
    Refused,
    /// It opens no more, whatever is said: a key that it takes is missing.
    NoKey,
    /// It mounts, and `verify` names the file.
    Verify,
    /// It mounts, and `trail verify` says so.
    TrailVerify,
    /// It is not found out.
    Possible,
}

use Outcome::{NoKey, Possible, Refused, TrailVerify, Verify};

/// What is put back, and what comes of it at each of [`TIMES`].
const TABLE: &[(&[Part], [Outcome; 3])] = &[
    (&[Part::State], [Refused, Refused, Refused]),
    (&[Part::Description], [Possible, Possible, Possible]),
    (&[Part::Seal], [Refused, Refused, Refused]),
    (&[Part::ChangeTimes], [Possible, Possible, Possible]),
    (&[Part::KeyFile], [Possible, Possible, NoKey]),
    (&[Part::Record], [Possible, Refused, Refused]),
    (&[Part::Trail], [TrailVerify, TrailVerify, TrailVerify]),
    // Of the same life of the file; before the rotation it had another.
    (&[Part::Header], [Possible, Possible, Verify]),
    (&[Part::Block], [Possible, Possible, Verify]),
    (&[Part::File], [Possible, Possible, Possible]),
    (&[Part::Vault], [Refused, Refused, Refused]),
    (&[Part::State, Part::Record], [Possible, Refused, Refused]),
    (&[Part::State, Part::Seal], [Refused, Refused, Refused]),
    (&[Part::State, Part::KeyFile], [Refused, Refused, NoKey]),
    (&[Part::Seal, Part::Trail], [Refused, Refused, Refused]),
    (&[Part::Seal, Part::Record], [Refused, Refused, Refused]),
    (&[Part::Vault, Part::Trail], [Refused, Refused, Refused]),
    (&[Part::Vault, Part::KeyFile], [Refused, Refused, Refused]),
    (&[Part::Vault, Part::Record], [Possible, TrailVerify, TrailVerify]),
    (&[Part::KeyFile, Part::Record], [Possible, Refused, NoKey]),
    (&[Part::Vault, Part::KeyFile, Part::Trail], [Refused, Refused, Refused]),
    (&[Part::Vault, Part::Record, Part::Trail, Part::KeyFile], [Possible, Possible, Possible]),
];

impl Part {
    /// Where it lies, below the scratch directory.
    fn path(self, vault: &Vault) -> PathBuf {
        let home = Path::new("home/state/atrest");
        let id = || {
            let description = fs::read(vault.path().join(".atrest/vault.json")).unwrap();
            let description: serde_json::Value = serde_json::from_slice(&description).unwrap();
            description["vault"].as_str().unwrap().to_owned()
        };
        match self {
            Self::State => "vault/.atrest/state.json".into(),
            Self::Description => "vault/.atrest/vault.json".into(),
            Self::Seal => "vault/.atrest/trail.json".into(),
            Self::ChangeTimes => "vault/.atrest/ctimes".into(),
            Self::KeyFile => "keys/key.json".into(),
            Self::Record => home.join(format!("{}.freshness", id())),
            Self::Trail => home.join(id()),
            Self::Header | Self::Block | Self::File => "vault/file".into(),
            Self::Vault => "vault".into(),
        }
    }

    fn put_back(self, vault: &Vault, from: &Path) {
        let path = self.path(vault);
        let (old, new) = (from.join(&path), vault.scratch().join(&path));
        let range = match self {
            Self::Header => 0..256,
            Self::Block => 4096..8192,
            _ => {
                if new.is_dir() {
                    fs::remove_dir_all(&new).unwrap();
                }
                if old.exists() {
                    copy(&old, &new);
                }
                return;
            }
        };
        let mut bytes = fs::read(&new).unwrap();
        bytes[range.clone()].copy_from_slice(&fs::read(&old).unwrap()[range]);
        fs::write(&new, bytes).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    run(Command::new("cp").args(["-a", "-T"]).arg(from).arg(to)).ok();
}

/// All that belongs to the vault, at a moment.
struct Snapshot(PathBuf);

impl Snapshot {
    fn take(vault: &Vault, name: &str) -> Self {
        let to = vault.scratch().make_dir(name);
        for part in ["vault", "home", "keys/key.json"] {
            copy(&vault.scratch().join(part), &to.join(part));
        }
        Self(to)
    }

    /// As if nothing had happened since. The vault's directory stays the same one.
    fn restore(&self, vault: &Vault) {
        for dir in ["vault", "home"] {
            let dir = vault.scratch().join(dir);
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                    .unwrap();
            }
        }
        for part in ["vault", "home", "keys/key.json"] {
            copy(&self.0.join(part), &vault.scratch().join(part));
        }
    }
}

fn fill(mount: &Mounted, with: u8) {
    fs::write(mount.join("file"), vec![with; 20_000]).unwrap();
    fs::write(mount.join(format!("file {with}")), vec![with; 5_000]).unwrap();
}

/// What comes of the vault as it is now.
fn judge(vault: &Vault) -> Outcome {
    match vault.try_mount(&[]) {
        Err(refusal) if refusal.stderr.contains("has no version") => NoKey,
        Err(refusal) => {
            assert_eq!(refusal.code(), 11, "{refusal}");
            assert!(refusal.stderr.contains("put back"), "{refusal}");
            let mut mount = vault.mount(&["--accept-rollback"]);
            mount.allow(Allow::Errors);
            assert_eq!(mount.status_json()["freshness"]["found"], "accepted-rollback");
            mount.unmount();
            let query = run(vault
                .command(&["trail", "query"])
                .arg(vault.path())
                .args(["--event", "AcceptRollback"]));
            assert!(query.stdout.contains("AcceptRollback"), "{query}");
            // It is the newest state from here on.
            let mut mount = vault.mount(&[]);
            mount.allow(Allow::Errors);
            assert_eq!(mount.status_json()["freshness"]["found"], "fresh");
            mount.unmount();
            Refused
        }
        Ok(mut mount) => {
            mount.allow(Allow::Errors);
            mount.unmount();
            if vault.run(&["verify"]).code() == 3 {
                return Verify;
            }
            match vault.run(&["trail", "verify"]).code() {
                3 => TrailVerify,
                _ => Possible,
            }
        }
    }
}

#[test]
fn each_part_put_back_gives_what_the_table_says() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fill(&mount, b'a');
    mount.unmount();
    let before_rotation = Snapshot::take(&vault, "before rotation");
    vault.run(&["key", "rotate"]).ok();
    vault.run(&["key", "rewrap"]).ok();
    let mount = vault.mount(&[]);
    fill(&mount, b'b');
    mount.unmount();
    let before_mount = Snapshot::take(&vault, "before mount");
    let mount = vault.mount(&[]);
    // Not a new life of the file: one block is written over.
    let file = fs::OpenOptions::new().write(true).open(mount.join("file")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[b'c'; 5_000], 4_000).unwrap();
    file.sync_all().unwrap();
    let during = Snapshot::take(&vault, "during");
    std::os::unix::fs::FileExt::write_all_at(&file, &[b'd'; 15_000], 4_000).unwrap();
    drop(file);
    mount.unmount();
    let end = Snapshot::take(&vault, "end");

    let mut wrong = Vec::new();
    for (parts, expected) in TABLE {
        for (to, expected) in TIMES.into_iter().zip(expected) {
            let from = match to {
                To::During => &during,
                To::BeforeMount => &before_mount,
                To::BeforeRotation => &before_rotation,
            };
            end.restore(&vault);
            parts.iter().for_each(|part| part.put_back(&vault, &from.0));
            let found = judge(&vault);
            if found != *expected {
                wrong.push((parts, to, found, expected));
            }
        }
    }
    assert!(wrong.is_empty(), "(what, to when, found, expected): {wrong:#?}");
}

#[test]
fn what_is_missing_is_told() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fill(&mount, b'a');
    mount.unmount();
    let whole = Snapshot::take(&vault, "whole");
    for (part, expected) in [(Part::Seal, Some(11)), (Part::State, Some(4)), (Part::Record, None)] {
        whole.restore(&vault);
        fs::remove_file(vault.scratch().join(part.path(&vault))).unwrap();
        match vault.try_mount(&[]) {
            Err(refusal) => assert_eq!(Some(refusal.code()), expected, "{part:?}: {refusal}"),
            Ok(mut mount) => {
                mount.allow(Allow::Errors);
                assert_eq!(expected, None, "{part:?} is not missed");
                assert_eq!(mount.status_json()["freshness"]["found"], "first-seen");
                mount.unmount();
            }
        }
    }
}

#[test]
fn a_record_that_was_changed_is_no_record() {
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let record = vault.scratch().join(Part::Record.path(&vault));
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("\"epoch\": 1", "\"epoch\": 0")).unwrap();
    let refusal = vault.try_mount(&[]).err().expect("a record that was changed is believed");
    assert_eq!(refusal.code(), 11, "{refusal}");
    assert!(refusal.stderr.contains("is damaged or was made with other keys"), "{refusal}");
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    let refusal = vault.try_mount(&[]).err().expect("a record that can't be read is passed over");
    assert_eq!(refusal.code(), 11, "{refusal}");
    assert!(refusal.stderr.contains("can't be read"), "{refusal}");
}
