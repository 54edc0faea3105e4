//! SQLite and PostgreSQL on disks that end: what they have said is committed is there.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::common::cluster::{self, Cluster};
use crate::common::{Allow, require, run, run_within};
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
fn sqlite_at_the_end_of_a_quota() {
    for options in [&[][..], &["--no-writeback"]] {
        sqlite_on(Kind::Btrfs, Trouble::Quota, options);
    }
}

const CLIENTS: u64 = 4;

/// One client's rows until something fails: each says its number when it is committed.
fn insert(cluster: &Cluster, client: u64) -> (Vec<String>, String) {
    let mut text = String::new();
    for number in 0..5000 {
        let number = client * 10_000 + number;
        // Of random bytes, which are not compressed.
        text.push_str(&format!(
            "INSERT INTO t SELECT {number}, string_agg(md5(random()::text), '')
                 FROM generate_series(1, 250);
             SELECT {number};\n"
        ));
    }
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), text).unwrap();
    rustix::fs::chmod(script.path(), 0o644.into()).unwrap();
    let script = script.path().to_str().unwrap();
    let args = ["-qAt", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", script];
    let done = run_within(Duration::from_secs(120), &mut cluster.command("psql", &args));
    (done.stdout.lines().map(str::to_owned).collect(), done.stderr)
}

/// Every row that was committed is there, and whole.
fn check_rows(cluster: &Cluster, committed: &[String], when: &str) {
    let found = cluster.query("SELECT n FROM t WHERE length(text) = 8000");
    let found: std::collections::HashSet<&str> = found.lines().collect();
    let gone: Vec<&String> = committed.iter().filter(|row| !found.contains(row.as_str())).collect();
    assert!(gone.is_empty(), "{when}: {} of {} rows: {gone:?}", gone.len(), committed.len());
    cluster.run("pg_amcheck", &["--all", "--install-missing", "--heapallindexed"]);
}

fn postgres_on_a_full_disk_with(options: &[&str]) {
    let Some(mut disk) = Disk::of_size(Kind::Ext4, Trouble::Full, 256) else { return };
    let mut mount = cluster::mount(disk.vault.clone(), options);
    mount.allow(Allow::Errors);
    let mut cluster = Cluster::new(&mount);
    cluster.start();
    cluster.query("CREATE TABLE t(n INTEGER PRIMARY KEY, text TEXT)");
    disk.tighten(12);
    let clients: Vec<(Vec<String>, String)> = thread::scope(|scope| {
        let cluster = &cluster;
        let clients: Vec<_> =
            (0..CLIENTS).map(|client| scope.spawn(move || insert(cluster, client))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let full = clients.iter().any(|(_, error)| error.contains("No space left"));
    let committed: Vec<String> = clients.iter().flat_map(|(rows, _)| rows.clone()).collect();
    let errors: Vec<&String> = clients.iter().map(|(_, error)| error).collect();
    assert!(full && committed.len() > 50, "{options:?}: {} rows, {errors:?}", committed.len());
    // It may have given up already, and could not recover on a full disk.
    cluster.kill9_all();
    disk.heal();
    cluster.start();
    check_rows(&cluster, &committed, "after the recovery");
    cluster.stop();
    cluster.check_pages();
    if !mount.try_unmount().success() {
        mount.forget();
    }
    drop(mount);
    for again in ["a remount", "two"] {
        let mut mount = cluster::mount(disk.vault.clone(), options);
        mount.allow(Allow::Warnings);
        cluster.start();
        check_rows(&cluster, &committed, &format!("{options:?}, after {again}"));
        cluster.stop();
        mount.unmount();
    }
    disk.vault.verify();
}

#[test]
fn postgres_on_a_full_disk() {
    postgres_on_a_full_disk_with(&[]);
}

#[test]
fn postgres_on_a_full_disk_without_the_writeback_cache() {
    postgres_on_a_full_disk_with(&["--no-writeback"]);
}
