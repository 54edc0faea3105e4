//! Rotation: headers change, and nothing else does.

mod ground;
mod kinds;
mod many;
mod meanwhile;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};

use atrest::fs::Rewrap;
use atrest::keys::DEFAULT_KEY;
use atrest::store::{Access, VaultError};

use crate::tamper::sealed_vault::{Reading, SealedVault, contents, read};

/// The files that have a key.
fn names() -> Vec<&'static str> {
    contents().into_iter().filter(|(_, ops)| !ops.is_empty()).map(|(name, _)| name).collect()
}

fn times(vault: &SealedVault, name: &str) -> (i64, i64, u64) {
    let stat = fs::metadata(vault.path(name)).unwrap();
    (stat.mtime(), stat.mtime_nsec(), stat.size())
}

#[test]
fn a_rewrap_writes_the_header_and_keeps_the_time() {
    let mut vault = SealedVault::new();
    let before: Vec<_> = names().iter().map(|n| (vault.sealed(n), times(&vault, n))).collect();
    vault.ring.rotate(DEFAULT_KEY).unwrap();
    let mount = vault.mount();
    let summary = mount.rewrap(&Rewrap::default(), &|_| true).unwrap();
    // The vault's own key is counted with the files.
    assert_eq!(summary.rewrapped, names().len() as u64 + 1);
    assert_eq!((summary.empty, summary.failed.len()), (1, 0));
    for (name, (sealed, stat)) in names().into_iter().zip(before) {
        let now = vault.sealed(name);
        assert_ne!(now[..256], sealed[..256], "{name}");
        assert!(now[256..] == sealed[256..], "the content of {name} was touched");
        assert_eq!(times(&vault, name), stat, "{name}");
        let Reading::Content(content) = read(&mount, name) else { panic!("{name} is refused") };
        assert!(content == vault.content(name), "{name} reads otherwise");
    }
    let again = mount.rewrap(&Rewrap::default(), &|_| true).unwrap();
    assert_eq!((again.rewrapped, again.already_new), (0, names().len() as u64));
}

#[test]
fn a_rewrap_that_was_stopped_goes_on_where_it_was() {
    let mut vault = SealedVault::new();
    vault.ring.rotate(DEFAULT_KEY).unwrap();
    let mount = vault.mount();
    let seen = AtomicU32::new(0);
    let stopped = mount.rewrap(&Rewrap::default(), &|_| seen.fetch_add(1, Ordering::Relaxed) < 2);
    assert!(matches!(stopped, Err(VaultError::Stopped)), "{stopped:?}");
    mount.close().unwrap();
    drop(mount);
    let mount = vault.mount();
    for name in names() {
        let Reading::Content(content) = read(&mount, name) else { panic!("{name} is refused") };
        assert!(content == vault.content(name), "{name} reads otherwise");
    }
    let summary = mount.rewrap(&Rewrap::default(), &|_| true).unwrap();
    assert!(summary.already_new > 0 && summary.rewrapped > 0, "{summary:?}");
    // The vault's own key went first, and is not counted again.
    assert_eq!(summary.already_new + summary.rewrapped, names().len() as u64);
}

#[test]
fn without_the_old_version_a_file_that_was_not_rewrapped_is_refused_and_others_are_read() {
    let mut vault = SealedVault::new();
    let stale = vault.sealed("three blocks");
    vault.ring.rotate(DEFAULT_KEY).unwrap();
    let mount = vault.mount();
    mount.rewrap(&Rewrap::default(), &|_| true).unwrap();
    mount.close().unwrap();
    drop(mount);
    vault.ring.retire(DEFAULT_KEY, atrest::format::KeyVersion(1)).unwrap();
    let mount = vault.open(Access::ReadOnly).unwrap();
    for name in names() {
        assert!(matches!(read(&mount, name), Reading::Content(_)), "{name} is refused");
    }
    vault.replace("three blocks", &stale);
    let summary = mount.verify(std::path::Path::new(""), &|_| true).unwrap();
    assert_eq!(summary.damaged.len(), 1, "{summary:?}");
    assert!(summary.damaged[0].reason.contains("retired"), "{summary:?}");
}
