//! SQLite and PostgreSQL on disks that end: what they have said is committed is there.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::common::cluster::{self, Cluster};
use crate::common::{Allow, Mounted, require, run, run_within, wait_until};
use crate::disk::{ALL, Disk, Kind, Trouble};

/// With the writeback cache and without.
const CACHES: [&[&str]; 2] = [&[], &["--no-writeback"]];
const LONG: Duration = Duration::from_secs(60);

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
        "PRAGMA journal_mode={journal}; PRAGMA synchronous=EXTRA;
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

/// Everything that was committed by number `committed` is there.
fn check(database: &Path, committed: u64, when: &str) {
    let (found, well) = sqlite(database, "PRAGMA integrity_check; SELECT max(n) FROM t;");
    let newest: Option<u64> = found.get(1).and_then(|text| text.parse().ok());
    let kept = newest.is_some_and(|newest| newest >= committed);
    assert!(well && found[0] == "ok" && kept, "{when}: {found:?}, {committed} were committed");
}

/// The trouble comes once `file` has grown to so many MiB.
fn strike_at(disk: &Disk, file: &Path, size: u64) {
    let grown = || fs::metadata(file).ok().filter(|meta| meta.len() >= size << 20);
    assert!(wait_until(LONG, grown).is_some(), "{} does not grow", file.display());
    disk.strike();
}

/// Ends `mount` on a disk with a trouble, mounts twice more, and has each mount checked.
fn remount_twice(
    disk: &mut Disk,
    mut mount: Mounted,
    remount: impl Fn(&Disk) -> Mounted,
    check: impl Fn(&Mounted, &str),
) {
    if !mount.try_unmount().success() {
        mount.forget();
    }
    drop(mount);
    if !disk.heals_in_place() {
        disk.heal();
    }
    for again in ["after a remount", "after two"] {
        let mut mount = remount(disk);
        mount.allow(Allow::Warnings);
        check(&mount, again);
        mount.unmount();
    }
    disk.vault.verify();
}

fn sqlite_on(kind: Kind, trouble: Trouble, options: &[&str]) {
    for journal in ["DELETE", "WAL"] {
        let Some(mut disk) = Disk::new(kind, trouble) else { return };
        let mut mount = disk.vault.mount(options);
        mount.allow(Allow::Errors);
        disk.tighten(12);
        let when = format!("{kind:?}, {trouble:?}, {options:?}, {journal}");
        let database = mount.join("db");
        let (said, well) = thread::scope(|scope| {
            let transacted = scope.spawn(|| sqlite(&database, &transactions(journal)));
            if trouble == Trouble::Abort {
                strike_at(&disk, &database, 2);
            }
            transacted.join().unwrap()
        });
        assert!(!well, "{when}: the disk does not fail");
        let committed = said.last().and_then(|text| text.parse().ok()).unwrap_or(0);
        assert!(committed > 10, "{when}: {said:?}");
        if disk.heals_in_place() {
            disk.heal();
            check(&database, committed, &when);
        }
        let remount = |disk: &Disk| disk.vault.mount(options);
        remount_twice(&mut disk, mount, remount, |mount, again| {
            check(&mount.join("db"), committed, &format!("{when}, {again}"));
        });
    }
}

#[test]
fn sqlite_on_full_disks() {
    for options in CACHES {
        for kind in ALL {
            sqlite_on(kind, Trouble::Full, options);
        }
    }
}

#[test]
fn sqlite_at_the_end_of_a_quota() {
    for options in CACHES {
        sqlite_on(Kind::Btrfs, Trouble::Quota, options);
    }
}

#[test]
fn sqlite_on_disks_that_give_up() {
    for options in CACHES {
        for kind in [Kind::Ext4, Kind::Xfs] {
            sqlite_on(kind, Trouble::Abort, options);
        }
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

fn postgres_on(kind: Kind, trouble: Trouble, options: &[&str]) {
    let size = if kind == Kind::Ext4 { 256 } else { 512 };
    let Some(mut disk) = Disk::of_size(kind, trouble, size) else { return };
    let when = format!("{kind:?}, {trouble:?}, {options:?}");
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
        if trouble == Trouble::Abort {
            thread::sleep(Duration::from_secs(3));
            disk.strike();
        }
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let failed = clients.iter().any(|(_, error)| !error.is_empty());
    let committed: Vec<String> = clients.iter().flat_map(|(rows, _)| rows.clone()).collect();
    let errors: Vec<&String> = clients.iter().map(|(_, error)| error).collect();
    assert!(failed && committed.len() > 20, "{when}: {} rows, {errors:?}", committed.len());
    // It may have given up already, and could not recover on a disk that fails.
    cluster.kill9_all();
    if disk.heals_in_place() {
        disk.heal();
        cluster.start();
        check_rows(&cluster, &committed, "after the recovery");
        cluster.stop();
        cluster.check_pages();
    }
    let cluster = RefCell::new(cluster);
    let remount = |disk: &Disk| cluster::mount(disk.vault.clone(), options);
    remount_twice(&mut disk, mount, remount, |_, again| {
        let mut cluster = cluster.borrow_mut();
        cluster.start();
        check_rows(&cluster, &committed, &format!("{when}, {again}"));
        cluster.stop();
    });
}

#[test]
fn postgres_on_full_disks() {
    CACHES.iter().for_each(|options| postgres_on(Kind::Ext4, Trouble::Full, options));
    postgres_on(Kind::Xfs, Trouble::Full, &[]);
    postgres_on(Kind::Btrfs, Trouble::Full, &[]);
}

#[test]
fn postgres_at_the_end_of_a_quota() {
    CACHES.iter().for_each(|options| postgres_on(Kind::Btrfs, Trouble::Quota, options));
}

#[test]
fn postgres_on_disks_that_give_up() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        CACHES.iter().for_each(|options| postgres_on(kind, Trouble::Abort, options));
    }
}
