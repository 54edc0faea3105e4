//! SQLite on disks that end: what it has said is committed is there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Allow, require, run};
use crate::disk::{Disk, Kind, Trouble};

/// Runs statements; returns what they print up to the first that fails, and whether one did.
fn sqlite(database: &Path, statements: &str) -> (Vec<String>, bool) {
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), statements).unwrap();
    let mut shell = Command::new(require("sqlite3"));
    let read = format!(".read {}", script.path().display());
    let outcome = run(shell.arg("-bail").arg(database).arg(read));
    (outcome.stdout.lines().map(str::to_owned).collect(), outcome.stderr.is_empty())
}

/// Transactions until the disk is full; each says its number when it is committed.
fn transactions(journal: &str) -> String {
    let mut text = format!(
        "PRAGMA journal_mode={journal}; PRAGMA synchronous=FULL;
         CREATE TABLE t(n INTEGER PRIMARY KEY, bytes BLOB);\n"
    );
    for number in 1..1000 {
        text.push_str(&format!(
            "BEGIN; INSERT INTO t VALUES({number}, randomblob(50000));
             UPDATE t SET bytes = randomblob(40000) WHERE n = {number} / 2; COMMIT;
             SELECT {number};\n"
        ));
    }
    text
}

fn check(database: &Path, committed: u64, when: &str) {
    let (found, well) = sqlite(database, "PRAGMA integrity_check; SELECT max(n) FROM t;");
    let newest: Option<u64> = found.get(1).and_then(|text| text.parse().ok());
    let kept = newest.is_some_and(|newest| newest >= committed);
    assert!(well && found[0] == "ok" && kept, "{when}: {found:?}, {committed} were committed");
}

fn sqlite_on(kind: Kind, trouble: Trouble, options: &[&str]) {
    for journal in ["DELETE", "WAL"] {
        let Some(mut disk) = Disk::new(kind, trouble) else { return };
        let vault = disk.vault.clone();
        let mut mount = vault.mount(options);
        mount.allow(Allow::Errors);
        disk.tighten(12);
        let when = format!("{kind:?}, {trouble:?}, {options:?}, {journal}");
        let (said, well) = sqlite(&mount.join("db"), &transactions(journal));
        assert!(!well, "{when}: the disk does not fill");
        let committed = said.last().and_then(|text| text.parse().ok()).unwrap_or(0);
        assert!(committed > 10, "{when}: {said:?}");
        disk.heal();
        check(&mount.join("db"), committed, &when);
        if !mount.try_unmount().success() {
            mount.forget();
        }
        drop(mount);
        for again in ["a remount", "two"] {
            let mut mount = vault.mount(options);
            mount.allow(Allow::Warnings);
            check(&mount.join("db"), committed, &format!("{when}, after {again}"));
            mount.unmount();
        }
        vault.verify();
    }
}

#[test]
fn sqlite_on_full_disks() {
    for options in [&[][..], &["--no-writeback"]] {
        for kind in [Kind::Ext4, Kind::Xfs] {
            sqlite_on(kind, Trouble::Full, options);
        }
    }
}

#[test]
#[ignore = "passes, but btrfs at its quota sometimes refuses to lift the quota"]
fn sqlite_at_the_end_of_a_quota() {
    for options in [&[][..], &["--no-writeback"]] {
        sqlite_on(Kind::Btrfs, Trouble::Quota, options);
    }
}
