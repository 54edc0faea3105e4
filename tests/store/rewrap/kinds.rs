//! Files of every kind: read-only, of several names, open, without a name; and what is asked for
//! besides the plain rewrap.

use std::ffi::OsStr;
use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atrest::format::KeyVersion;
use atrest::fs::{Inode, Origin, Rewrap};
use atrest::store::{RewrapTarget, VaultError};

use super::ground::Ground;

const FILES: u64 = 6;

/// One file of each kind; three of them stay open.
fn one_of_each() -> (Ground, [Inode; 3]) {
    let ground = Ground::new();
    ground.write(Inode::ROOT, "plain", b"plain");
    ground.write(Inode::ROOT, "empty", b"");
    let read_only = ground.write(Inode::ROOT, "read only", b"read only");
    let change = atrest::fs::Change { mode: Some(0o444), ..Default::default() };
    ground.fs.setattr(read_only, &change, &super::ground::CALLER).unwrap();
    let linked = ground.write(Inode::ROOT, "linked", b"linked");
    let dir = ground.mkdir("dir");
    ground.fs.link(linked, dir, OsStr::new("again"), &super::ground::CALLER).unwrap();
    let open = ground.create(Inode::ROOT, "open", b"open");
    // Its first block is the kernel's affair, so that only the second was written here.
    let sparse = ground.create(Inode::ROOT, "sparse", b"");
    ground.fs.write(sparse, 5000, b"sparse", Origin::Cache).unwrap();
    let unlinked = ground.create(Inode::ROOT, "unlinked", b"unlinked");
    ground.fs.unlink(Inode::ROOT, OsStr::new("unlinked")).unwrap();
    (ground, [open, sparse, unlinked])
}

#[test]
fn files_of_every_kind_are_rewrapped_and_counted_once() {
    let (ground, open) = one_of_each();
    ground.rotate();
    assert_eq!(ground.references(1), FILES + 1);
    let summary = ground.rewrap(&Rewrap::default());
    assert_eq!((summary.rewrapped, summary.empty), (FILES + 1, 1), "{summary:?}");
    assert_eq!((summary.already_new, summary.failed.len()), (0, 0), "{summary:?}");
    assert_eq!(ground.references(1), 0);
    let again = ground.rewrap(&Rewrap::default());
    assert_eq!((again.rewrapped, again.already_new, again.empty), (0, FILES, 1), "{again:?}");
    let mode = fs::metadata(ground.path().join("read only")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o444);
    // What is open goes on, and its later headers are of the new version too.
    for inode in open {
        ground.fs.write(inode, 9000, b"more", Origin::Program).unwrap();
        ground.fs.release(inode).unwrap();
    }
    assert_eq!(ground.references(1), 0);
    ground.verify();
}

#[test]
fn a_rehearsal_counts_and_writes_nothing() {
    let (ground, _open) = one_of_each();
    ground.rotate();
    let before = ground.whole();
    let how = Rewrap { dry_run: true, ..Rewrap::default() };
    let summary = ground.rewrap(&how);
    assert_eq!((summary.rewrapped, summary.empty), (FILES + 1, 1), "{summary:?}");
    assert!(before == ground.whole());
    assert_eq!(ground.references(1), FILES + 1);
    assert_eq!(ground.rewrap(&Rewrap::default()).rewrapped, summary.rewrapped);
}

#[test]
fn another_key_takes_files_over_and_they_stay_with_it() {
    let (ground, _open) = one_of_each();
    let other = ground.ring(|ring| ring.create_key("other").unwrap());
    ground.ring(|ring| ring.rotate("other").unwrap());
    let summary = ground.rewrap(&Rewrap { to: RewrapTarget::Named(other), ..Rewrap::default() });
    assert_eq!(summary.rewrapped, FILES + 1, "{summary:?}");
    assert_eq!(ground.wrapped_by("plain"), (other, KeyVersion(2)));
    assert_eq!(ground.references(1), 0);
    ground.rotate();
    let plain = ground.rewrap(&Rewrap::default());
    assert_eq!((plain.rewrapped, plain.already_new), (0, FILES), "each stays with its own key");
    ground.verify();
}

#[test]
fn a_key_that_does_not_wrap_is_said_once_and_changes_nothing() {
    let (ground, _open) = one_of_each();
    let other = ground.ring(|ring| ring.create_key("other").unwrap());
    ground.ring(|ring| ring.disable("other").unwrap());
    let before = ground.whole();
    let refused = ground
        .fs
        .rewrap(&Rewrap { to: RewrapTarget::Named(other), ..Rewrap::default() }, &|_| true)
        .unwrap_err();
    assert!(matches!(refused, VaultError::Key(_)), "{refused:?}");
    assert!(before == ground.whole());
}

#[test]
fn no_more_headers_are_written_in_a_second_than_allowed() {
    let ground = Ground::new();
    for file in 0..50 {
        ground.write(Inode::ROOT, &format!("file {file}"), b"content");
    }
    ground.rotate();
    let how = Rewrap { rate: NonZeroU32::new(100), ..Rewrap::default() };
    let began = Instant::now();
    assert_eq!(ground.rewrap(&how).rewrapped, 51);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(490), "{took:?}");
    // What is new already takes no turn.
    let began = Instant::now();
    assert_eq!(ground.rewrap(&how).already_new, 50);
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
}

#[test]
fn references_are_named_and_what_cannot_be_read_is_told() {
    let ground = Ground::new();
    let key = ground.default_key();
    let references = || ground.fs.references(&key, KeyVersion(1), &|_| true).unwrap();
    for file in 0..20 {
        ground.write(Inode::ROOT, &format!("file {file}"), b"content");
    }
    ground.rotate();
    let found = references();
    assert_eq!((found.count, found.some.len()), (21, 10), "{found:?}");
    assert_eq!(found.some[0], Path::new(".atrest"));
    ground.rewrap(&Rewrap::default());
    assert!(references().none());
    fs::write(ground.path().join("foreign"), [b'x'; 8192]).unwrap();
    fs::write(ground.path().join("short"), b"x").unwrap();
    let found = references();
    let paths: Vec<_> = found.unreadable.iter().map(|failure| failure.path.clone()).collect();
    assert_eq!((found.count, paths), (0, vec![PathBuf::from("foreign"), PathBuf::from("short")]));
    assert!(!found.none());
    let summary = ground.rewrap(&Rewrap::default());
    assert_eq!((summary.failed.len(), summary.already_new), (2, 20), "{summary:?}");
}
