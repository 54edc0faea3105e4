//! Each part of what belongs to a vault, put back alone, in pairs and all together to an older state.
//! The table is that of the threat model.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Allow, Mounted, Vault, run};
use crate::root_attrs::show_mode;

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
    /// `.atrest/root.json`
    Root,
    /// What the machine knows of the vault.
    Record,
    /// The same, as if it had never known anything.
    NoRecord,
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
    (&[Part::Root], [Refused, Refused, Refused]),
    (&[Part::KeyFile], [Possible, Possible, NoKey]),
    (&[Part::NoRecord], WITHOUT_RECORD),
    (&[Part::Vault, Part::NoRecord], WITHOUT_RECORD),
    (&[Part::Vault, Part::KeyFile, Part::Trail, Part::NoRecord], WITHOUT_RECORD),
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
    // The trail stays as it is.
    (&[Part::State, Part::Seal, Part::Record], [Possible, Refused, Refused]),
    (&[Part::State, Part::Seal, Part::Root, Part::Record], [Possible, TrailVerify, Verify]),
    (&[Part::Vault, Part::Trail], [Refused, Refused, Refused]),
    (&[Part::Vault, Part::KeyFile], [Refused, Refused, Refused]),
    (&[Part::Vault, Part::Record], [Possible, TrailVerify, TrailVerify]),
    (&[Part::KeyFile, Part::Record], [Possible, Refused, NoKey]),
    (&[Part::Vault, Part::KeyFile, Part::Trail], [Refused, Refused, Refused]),
    (&[Part::Vault, Part::Record, Part::Trail, Part::KeyFile], [Possible, Possible, Possible]),
];

/// The vault knows that this machine had a record, if the machine has a name.
const WITHOUT_RECORD: [Outcome; 3] = [Refused, Refused, Refused];

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
            Self::Root => "vault/.atrest/root.json".into(),
            Self::KeyFile => "keys/key.json".into(),
            Self::Record | Self::NoRecord => home.join(format!("{}.freshness", id())),
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
            Self::NoRecord => return fs::remove_file(&new).unwrap(),
            _ => {
                if self == Self::Vault {
                    // What is mounted stays the same directory.
                    empty(&new);
                } else if new.is_dir() {
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

fn empty(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
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
            empty(&vault.scratch().join(dir));
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
        Err(refusal) if refusal.stderr.contains("has no version") => {
            assert_eq!(refusal.code(), 11, "{refusal}");
            NoKey
        }
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

/// A vault with its states of before its last rotation, and between its last two mounts.
fn with_a_history() -> (Vault, Snapshot, Snapshot) {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fill(&mount, b'a');
    show_mode(&mount, 0o711);
    mount.unmount();
    let before_rotation = Snapshot::take(&vault, "before rotation");
    vault.run(&["key", "rotate"]).ok();
    vault.run(&["key", "rewrap"]).ok();
    let mount = vault.mount(&[]);
    fill(&mount, b'b');
    show_mode(&mount, 0o750);
    mount.unmount();
    let before_mount = Snapshot::take(&vault, "before mount");
    (vault, before_rotation, before_mount)
}

/// Not a new life of the file: some blocks are written over, durably.
fn write_over(mount: &Mounted, with: u8, len: usize) {
    let file = fs::OpenOptions::new().write(true).open(mount.join("file")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![with; len], 4_000).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn each_part_put_back_gives_what_the_table_says() {
    let (vault, before_rotation, before_mount) = with_a_history();
    let mount = vault.mount(&[]);
    write_over(&mount, b'c', 5_000);
    show_mode(&mount, 0o751);
    let during = Snapshot::take(&vault, "during");
    write_over(&mount, b'd', 15_000);
    show_mode(&mount, 0o755);
    mount.unmount();
    let end = Snapshot::take(&vault, "end");

    let has_name = atrest::sys::machine_id().is_some();
    let table = TABLE.iter().filter(|(parts, _)| has_name || !parts.contains(&Part::NoRecord));
    let mut wrong = Vec::new();
    for (parts, expected) in table {
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

/// What comes of what is put back while a daemon has the vault, which goes on, is asked for a new
/// version of its key, and is unmounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// The daemon refuses to use the key file, and the next mount does.
    KeyRefused,
    /// The daemon refuses to use the key file; the next mount finds nothing.
    DaemonAlone,
    /// The next mount is refused, as in the other table.
    MountRefused,
    /// The file can't be read, at once or afterwards, and `verify` names it.
    Damage,
    /// `trail verify` says so.
    TrailFinds,
    /// The unmount says that the mount did not end cleanly: its own files are gone.
    EndFails,
    /// The end of the mount writes it anew: nothing is put back.
    Overwritten,
    /// It is not found out.
    Unnoticed,
}

/// What is put back while it is mounted, and what comes of it at each of [`TIMES`].
const BESIDE: &[(&[Part], [Beside; 3])] = {
    use Beside::{
        DaemonAlone, Damage, EndFails, KeyRefused, MountRefused, Overwritten, TrailFinds, Unnoticed,
    };
    &[
        (&[Part::State], [Overwritten, Overwritten, Overwritten]),
        (&[Part::Description], [Unnoticed, Unnoticed, Unnoticed]),
        (&[Part::Seal], [Overwritten, Overwritten, Overwritten]),
        (&[Part::Root], [MountRefused, MountRefused, MountRefused]),
        (&[Part::KeyFile], [KeyRefused, KeyRefused, KeyRefused]),
        (&[Part::NoRecord], [Overwritten, Overwritten, Overwritten]),
        (&[Part::Record], [Overwritten, Overwritten, Overwritten]),
        (&[Part::Trail], [TrailFinds, TrailFinds, TrailFinds]),
        (&[Part::Header], [Unnoticed, Unnoticed, Damage]),
        (&[Part::Block], [Unnoticed, Unnoticed, Damage]),
        (&[Part::File], [Unnoticed, Unnoticed, Unnoticed]),
        (&[Part::Vault], [EndFails, MountRefused, MountRefused]),
        (&[Part::State, Part::Record], [Overwritten, Overwritten, Overwritten]),
        (&[Part::State, Part::Seal], [Overwritten, Overwritten, Overwritten]),
        (&[Part::State, Part::KeyFile], [KeyRefused, KeyRefused, KeyRefused]),
        (&[Part::Seal, Part::Trail], [TrailFinds, TrailFinds, TrailFinds]),
        (&[Part::Seal, Part::Record], [Overwritten, Overwritten, Overwritten]),
        (&[Part::State, Part::Seal, Part::Record], [Overwritten, Overwritten, Overwritten]),
        (&[Part::Vault, Part::Trail], [TrailFinds, MountRefused, MountRefused]),
        (&[Part::Vault, Part::KeyFile], [KeyRefused, KeyRefused, KeyRefused]),
        (&[Part::Vault, Part::Record], [EndFails, MountRefused, MountRefused]),
        (&[Part::KeyFile, Part::Record], [KeyRefused, KeyRefused, KeyRefused]),
        (
            &[Part::Vault, Part::Record, Part::Trail, Part::KeyFile],
            [DaemonAlone, DaemonAlone, DaemonAlone],
        ),
    ]
};

/// Judges what was put back beside `mount`.
fn judge_beside(vault: &Vault, mut mount: Mounted, parts: &[Part], from: &Path) -> Beside {
    mount.allow(Allow::Errors);
    let own = |part: &Part| {
        !matches!(part, Part::Trail | Part::Vault | Part::Header | Part::Block | Part::File)
    };
    let read = |mount: &Mounted| fs::read(mount.join("file"));
    let opened = read(&mount);
    let rotated = vault.run(&["key", "rotate"]);
    let ended = mount.try_unmount();
    if !ended.success() {
        mount.forget();
        assert_eq!(ended.code(), 1, "{ended}");
    }
    if rotated.code() == 11 {
        return match vault.try_mount(&[]) {
            Err(refusal) => {
                assert_eq!(refusal.code(), 11, "{refusal}");
                Beside::KeyRefused
            }
            Ok(mut mount) => {
                mount.allow(Allow::Errors);
                Beside::DaemonAlone
            }
        };
    }
    rotated.ok();
    let is_old = |part: &Part| {
        let path = part.path(vault);
        fs::read(from.join(&path)).ok() == fs::read(vault.scratch().join(&path)).ok()
    };
    let overwritten = parts.iter().all(|part| own(part) && !is_old(part));
    match vault.try_mount(&[]) {
        Err(refusal) => {
            assert_eq!(refusal.code(), 11, "{refusal}");
            return Beside::MountRefused;
        }
        Ok(mut mount) => {
            mount.allow(Allow::Errors);
            let damaged = opened.is_err() || read(&mount).is_err();
            mount.unmount();
            let verified = vault.run(&["verify"]).code();
            if damaged || verified == 3 {
                return Beside::Damage;
            }
        }
    }
    match vault.run(&["trail", "verify"]).code() {
        3 => Beside::TrailFinds,
        _ if !ended.success() => Beside::EndFails,
        _ if overwritten => Beside::Overwritten,
        _ => Beside::Unnoticed,
    }
}

#[test]
fn each_part_put_back_beside_a_mount_gives_what_the_table_says() {
    let (vault, before_rotation, before_mount) = with_a_history();
    let during = vault.scratch().join("during");
    let mut wrong = Vec::new();
    for (parts, expected) in BESIDE {
        for (to, expected) in TIMES.into_iter().zip(expected) {
            before_mount.restore(&vault);
            let mount = vault.mount(&[]);
            write_over(&mount, b'c', 5_000);
            show_mode(&mount, 0o751);
            if during.exists() {
                fs::remove_dir_all(&during).unwrap();
            }
            Snapshot::take(&vault, "during");
            write_over(&mount, b'd', 15_000);
            show_mode(&mount, 0o755);
            // Its line is in the trail at once.
            vault.run(&["key", "rotate"]).ok();
            let from = match to {
                To::During => &during,
                To::BeforeMount => &before_mount.0,
                To::BeforeRotation => &before_rotation.0,
            };
            parts.iter().for_each(|part| part.put_back(&vault, from));
            let found = judge_beside(&vault, mount, parts, from);
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
    let machine = atrest::sys::machine_id().map(|_| "is missing, and the vault told it of");
    for (part, expected) in [
        (Part::Seal, Some("is missing")),
        (Part::State, Some("is missing")),
        (Part::Root, Some("are missing")),
        (Part::Record, machine),
    ] {
        whole.restore(&vault);
        fs::remove_file(vault.scratch().join(part.path(&vault))).unwrap();
        match vault.try_mount(&[]) {
            Err(refusal) => {
                let what = expected.unwrap_or_else(|| panic!("{part:?} is asked for: {refusal}"));
                assert_eq!(refusal.code(), 11, "{part:?}: {refusal}");
                assert!(refusal.stderr.contains(what), "{part:?}: {refusal}");
                let mut mount = vault.mount(&["--accept-rollback"]);
                mount.allow(Allow::Errors);
                assert_eq!(fs::read(mount.join("file")).unwrap(), vec![b'a'; 20_000]);
                fs::write(mount.join("file"), b"more").unwrap();
                mount.unmount();
                let mount = vault.mount(&[]);
                assert_eq!(mount.status_json()["freshness"]["found"], "fresh");
                assert_eq!(fs::read(mount.join("file")).unwrap(), b"more");
                mount.unmount();
                vault.verify();
            }
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
    assert!(refusal.stderr.contains("whether it was put back"), "nobody knows that: {refusal}");
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    let refusal = vault.try_mount(&[]).err().expect("a record that can't be read is passed over");
    assert_eq!(refusal.code(), 11, "{refusal}");
    assert!(refusal.stderr.contains("can't be read"), "{refusal}");
}

/// The machine's record speaks also where nobody mounts.
#[test]
fn a_trail_set_back_with_its_vault_is_found_by_trail_verify_alone() {
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let older = Snapshot::take(&vault, "older");
    vault.mount(&[]).unmount();
    vault.run(&["trail", "verify"]).ok();
    let record = fs::read(vault.scratch().join(Part::Record.path(&vault))).unwrap();
    [Part::Vault, Part::Trail].iter().for_each(|part| part.put_back(&vault, &older.0));
    let found = vault.run(&["trail", "verify"]);
    assert_eq!(found.code(), 3, "{found}");
    for what in ["it knows of 1 mount and this machine of 2 mounts", "and there were"] {
        assert!(found.stdout.contains(what), "{found}");
    }
    let path = vault.scratch().join(Part::Record.path(&vault));
    assert_eq!(fs::read(&path).unwrap(), record, "verify wrote it");
    // Nor does a missing one go unnoticed.
    fs::remove_file(&path).unwrap();
    let found = vault.run(&["trail", "verify"]);
    if atrest::sys::machine_id().is_some() {
        assert_eq!(found.code(), 3, "{found}");
        assert!(found.stdout.contains("is missing, and the vault told it of"), "{found}");
    }
    assert!(!path.exists());
    let mut mount = vault.mount(&["--accept-rollback"]);
    mount.allow(Allow::Warnings);
    vault.run(&["trail", "verify"]).ok();
    mount.unmount();
    vault.run(&["trail", "verify"]).ok();
}
