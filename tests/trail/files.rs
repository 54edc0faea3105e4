//! The trail's files: one after the other, and the oldest gone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::common::{Mounted, Vault, require_root};
use crate::{assert_whole, directory, files_in, lines, trail};

/// Opens a file until the trail has so many lines.
fn open_until(mount: &Mounted, lines: u64) {
    while mount.status_json()["trail"]["last"].as_u64().unwrap() < lines {
        (0..500).for_each(|_| drop(File::open(mount.join("file")).unwrap()));
    }
}

#[test]
fn the_oldest_goes_and_the_chain_holds() {
    require_root();
    let vault = Vault::init();
    let options = ["--trail-file-size", "1", "--trail-files", "3"];
    let mount = vault.mount(&options);
    fs::write(mount.join("file"), b"content").unwrap();
    // A line has some 600 bytes.
    open_until(&mount, 9_000);
    let first = files_in(&directory(&vault))[0].clone();
    assert!(!first.ends_with("00000000000000000001.jsonl"), "{}", first.display());
    assert_whole(&vault);
    mount.unmount();
    let files = files_in(&directory(&vault));
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        let len = file.metadata().unwrap().len();
        assert!(len < 4 << 20, "{} has {len} bytes", file.display());
    }
    let said = trail(&vault, "verify", "--json").ok();
    let report: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let (begun, last) = (report["first"].as_u64().unwrap(), report["last"].as_u64().unwrap());
    assert!(begun > 1 && last - begun + 1 == report["lines"].as_u64().unwrap(), "{report}");
    let all = lines(&vault, "");
    assert_eq!(all[0]["eventName"], "TrailBegin");
    assert_eq!(all[0]["sequence"], begun);
    // One of those kept may not go as those did.
    fs::remove_file(&files[0]).unwrap();
    let said = trail(&vault, "verify", "");
    crate::one_sentence(&said, 3, "the trail was changed in 1 place:");
    assert!(said.stdout.contains(&format!("the first lines, from {begun}, are missing")), "{said}");
}

/// The vault can't be told that files went, so none goes.
#[test]
fn a_mount_for_reading_alone_keeps_them_all() {
    require_root();
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), b"content").unwrap();
    mount.unmount();
    let options = ["--trail-file-size", "1", "--trail-files", "2", "--read-only"];
    let mount = vault.mount(&options);
    open_until(&mount, 8_000);
    mount.unmount();
    assert!(files_in(&directory(&vault)).len() > 2);
    assert_whole(&vault);
    // The next that may write brings them down to as many as there are to be.
    let mount = vault.mount(&options[..4]);
    open_until(&mount, 13_000);
    mount.unmount();
    assert_eq!(files_in(&directory(&vault)).len(), 2);
    assert_whole(&vault);
}

/// By the daemon, and by who reads the files themselves.
#[test]
fn verified_while_files_come_and_go() {
    require_root();
    let vault = Vault::init();
    let mount = vault.mount(&["--trail-file-size", "1", "--trail-files", "2"]);
    fs::write(mount.join("file"), b"content").unwrap();
    let (ended, path) = (AtomicBool::new(false), mount.join("file"));
    let named = format!("--trail {}", directory(&vault).display());
    let (mut said, mut oldest) = (Vec::new(), HashSet::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                File::open(&path).unwrap();
            }
        });
        for _ in 0..25 {
            said.extend(["", &named].map(|args| trail(&vault, "verify", args)));
            oldest.insert(files_in(&directory(&vault)).remove(0));
        }
        ended.store(true, Ordering::Relaxed);
    });
    said.into_iter().for_each(|said| drop(said.ok()));
    assert!(oldest.len() > 3, "{oldest:?}");
    mount.unmount();
    assert_whole(&vault);
}
