//! Files and programs that were seen a moment ago: what is remembered of them is still so.

use std::fs;

use crate::account::{Day, Did};
use crate::common::{Vault, require};

/// A line says which life of the file was opened, and what wraps its key then.
#[test]
fn a_file_that_became_another() {
    const OPENED: &str = "Decrypt open a read default/1 ok ro a1";
    let mut day = Day::begin(Vault::init(), &[]);
    let read = |day: &mut Day, path: &str, expected| {
        let path = day.mount.join(path);
        day.here(expected, || fs::read(path)).unwrap();
    };
    day.shell("echo x > a", "GenerateDataKey create a write default/1 ok rw a1");
    day.note("a1", "a");
    read(&mut day, "a", OPENED);
    day.key(["key", "rotate"], "", 0, &["RotateKey rotate - - default/2 ok rw -"]);
    read(&mut day, "a", OPENED);
    day.key(
        ["key", "rewrap"],
        "",
        0,
        &[
            "ReEncrypt rewrap .atrest - default/2 ok rw -",
            "ReEncrypt rewrap a - default/2 ok rw a1",
        ],
    );
    read(&mut day, "a", "Decrypt open a read default/2 ok ro a1");
    day.shell("echo y > a", "GenerateDataKey open a write default/2 ok rw a2");
    day.note("a2", "a");
    read(&mut day, "a", "Decrypt open a read default/2 ok ro a2");
    // Its inode's number is free again, and most filesystems give it to the next file.
    day.none("rm", &["a"]);
    day.shell("echo z > b", "GenerateDataKey create b write default/2 ok rw b1");
    day.note("b1", "b");
    read(&mut day, "b", "Decrypt open b read default/2 ok ro b1");
    day.end("Unmount - - - default/2 ok rw -", &[]);
}

/// A line names the program that a process runs then, not the one before.
#[test]
fn a_process_that_became_another() {
    const OPENED: &str = "Decrypt open a read default/1 ok ro -";
    let mut day = Day::begin(Vault::init(), &[]);
    day.shell("echo x > a", "GenerateDataKey create a write default/1 ok rw -");
    let cat = require("cat").canonicalize().unwrap();
    for _ in 0..50 {
        let shell = day.run(None, "sh", &["-c", "exec cat a < a"]);
        let cat = Did { executable: cat.clone(), ..shell.clone() };
        day.expected.extend([(shell, OPENED), (cat, OPENED)]);
    }
    day.end("Unmount - - - default/1 ok rw -", &[]);
}

/// So does it where both have one name, a moment after the other began.
#[test]
fn a_process_that_became_another_of_the_same_name() {
    const OPENED: &str = "Decrypt open a read default/1 ok ro -";
    let mut day = Day::begin(Vault::init(), &[]);
    day.shell("echo x > a", "GenerateDataKey create a write default/1 ok rw -");
    let [shell, cat] = ["sh", "cat"].map(|program| {
        let copy = day.vault.scratch().make_dir(&format!("{program}-dir")).join("same");
        fs::copy(require(program), &copy).unwrap();
        copy.canonicalize().unwrap()
    });
    let script = format!("exec 3< a; sleep 0.15; exec {} a", cat.display());
    let shell = day.run(None, shell.to_str().unwrap(), &["-c", &script]);
    let cat = Did { executable: cat, ..shell.clone() };
    day.expected.extend([(shell, OPENED), (cat, OPENED)]);
    day.end("Unmount - - - default/1 ok rw -", &[]);
}
