//! SQLite's shell, with each journal, checked by its own integrity_check.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::common::{Campaign, Mounted, Vault, require, run_within};

/// Runs statements and returns what they print.
fn sqlite(database: &Path, statements: &str) -> String {
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), statements).unwrap();
    let mut shell = Command::new(require("sqlite3"));
    shell.arg("-bail").arg(database).arg(format!(".read {}", script.path().display()));
    let outcome = run_within(Duration::from_secs(300), &mut shell).ok();
    assert_eq!(outcome.stderr, "", "{outcome}");
    outcome.stdout
}

/// Inserts, updates and deletes in many transactions: what remains is a matter of arithmetic.
fn work(journal: &str, mmap: u64) -> String {
    let rounds = Campaign::pick(60, 600);
    let mut text = format!(
        "PRAGMA journal_mode={journal}; PRAGMA mmap_size={mmap}; PRAGMA busy_timeout=20000;\n"
    );
    text.push_str(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b BLOB); CREATE INDEX i ON t(a);\n",
    );
    for round in 0..rounds {
        text.push_str(&format!(
            "BEGIN; WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<50)
             INSERT INTO t(a, b) SELECT 'row ' || ({round}*50+x), randomblob(x*20) FROM n; COMMIT;\n"
        ));
        text.push_str(&format!(
            "UPDATE t SET b = zeroblob(id % 3000) WHERE id % 7 = {};\n",
            round % 7
        ));
        text.push_str(&format!("BEGIN; DELETE FROM t WHERE id % 11 = {}; ROLLBACK;\n", round % 11));
        text.push_str(&format!("DELETE FROM t WHERE id % 13 = 5 AND id < {};\n", round * 50));
    }
    text.push_str("VACUUM; PRAGMA integrity_check;\n");
    text
}

const SUMMARY: &str = "PRAGMA integrity_check; SELECT count(*), sum(id), sum(length(a)) FROM t;";

fn with_journal(journal: &str, mmap: u64) {
    for options in [&[][..], &["--no-writeback"]] {
        let vault = Vault::init();
        let mount = vault.mount(options);
        let bare = vault.scratch().join("bare.db");
        let statements = work(journal, mmap);
        sqlite(&bare, &statements);
        let expected = sqlite(&bare, SUMMARY);
        assert!(expected.starts_with("ok\n"));
        sqlite(&mount.join("db"), &statements);
        assert_eq!(sqlite(&mount.join("db"), SUMMARY), expected);
        let mount = mount.remount(options);
        assert_eq!(sqlite(&mount.join("db"), SUMMARY), expected, "after a remount");
        mount.unmount();
        vault.verify();
    }
}

#[test]
fn write_ahead_log() {
    with_journal("WAL", 0);
}

#[test]
fn write_ahead_log_and_mapped_pages() {
    with_journal("WAL", 1 << 28);
}

#[test]
fn rollback_journal() {
    with_journal("DELETE", 0);
}

#[test]
fn rollback_journal_kept_and_truncated() {
    with_journal("TRUNCATE", 1 << 28);
    with_journal("PERSIST", 0);
}

/// Several processes write to one database and wait for each other's locks.
fn many_writers(mount: Mounted, journal: &str) {
    let database = mount.join("db");
    sqlite(
        &database,
        &format!("PRAGMA journal_mode={journal}; CREATE TABLE t(who INTEGER, n INTEGER);"),
    );
    let rounds = Campaign::pick(30, 300);
    thread::scope(|scope| {
        for who in 0..4 {
            let database = &database;
            scope.spawn(move || {
                let mut text = String::from("PRAGMA busy_timeout=120000;\n");
                for n in 0..rounds {
                    text.push_str(&format!(
                        "BEGIN IMMEDIATE; INSERT INTO t VALUES({who}, {n}); COMMIT;\n"
                    ));
                }
                sqlite(database, &text);
            });
        }
    });
    let found = sqlite(
        &database,
        "PRAGMA integrity_check; SELECT who, count(*), sum(n) FROM t GROUP BY who;",
    );
    let each: Vec<String> =
        (0..4).map(|who| format!("{who}|{rounds}|{}", rounds * (rounds - 1) / 2)).collect();
    assert_eq!(found.trim(), format!("ok\n{}", each.join("\n")));
}

#[test]
fn processes_share_a_database() {
    for journal in ["WAL", "DELETE"] {
        many_writers(Vault::init().mount(&[]), journal);
        many_writers(Vault::init().mount(&["--no-writeback"]), journal);
    }
}
