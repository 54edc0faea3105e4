//! What a crash excuses, and for how long.

use std::fs;
use std::path::PathBuf;

use super::SealedVault;
use super::sealed_vault::{Reading, read, write};
use crate::common_store::Op;
use atrest::store::{Access, VaultError};

const NAMES: [&str; 6] =
    ["one byte", "one block", "three blocks", "three more", "sparse", "grown over"];

/// What needs a crash as an explanation: the file as it could be forged, and what it is.
fn forgeries(vault: &SealedVault, name: &str) -> Vec<(Vec<u8>, &'static str)> {
    let sealed = vault.sealed(name);
    let longer = [&sealed[..], &vec![0; 3 * 4096]].concat();
    let headless = [&[0; 256][..], &sealed[256..]].concat();
    vec![
        (longer, "made three blocks longer"),
        (headless, "without its header"),
        (vec![0; sealed.len()], "zeroed"),
    ]
}

fn never_stop() -> bool {
    true
}

#[test]
fn a_mount_that_recovers_and_ends_cleanly_ends_what_a_crash_excuses() {
    let vault = SealedVault::crashed();
    let sealed: Vec<_> = NAMES.iter().map(|name| vault.sealed(name)).collect();
    let fs = vault.mount();
    assert_eq!(fs.verify("".as_ref(), &|_| true).unwrap().left_by_crash.len(), NAMES.len());
    assert_eq!(fs.recover(&never_stop).unwrap(), NAMES.len() as u64);
    assert_eq!(fs.recover(&never_stop).unwrap(), 0);
    fs.close().unwrap();
    drop(fs);
    let fs = vault.mount();
    assert!(!fs.vault().context().epochs().any_crashed());
    for (name, crashed) in NAMES.iter().zip(&sealed) {
        let genuine = vault.sealed(name);
        assert!(vault.accepts(&fs, name, &genuine, "nothing"));
        for (forged, what) in forgeries(&vault, name) {
            vault.refuses(&fs, name, &forged, what);
        }
        // A copy from before, whole, is what the header says: a restored backup is readable.
        assert!(vault.accepts(&fs, name, crashed, "its state of before"));
        vault.accepts(&fs, name, &genuine, "nothing");
    }
    let found = fs.verify("".as_ref(), &|_| true).unwrap();
    assert_eq!((found.damaged, found.left_by_crash), (vec![], Vec::<PathBuf>::new()));
}

#[test]
fn a_crash_excuses_until_all_files_were_recovered() {
    let vault = SealedVault::crashed();
    let ends: [&dyn Fn(&atrest::fs::Fs); 2] =
        [&|_| (), &|fs| assert!(matches!(fs.recover(&|| false), Err(VaultError::Stopped)))];
    for end in ends {
        let fs = vault.mount();
        end(&fs);
        fs.close().unwrap();
        drop(fs);
        let fs = vault.open(Access::ReadOnly).unwrap();
        assert!(fs.vault().context().epochs().any_crashed());
    }
}

#[test]
fn a_file_without_its_header_is_zeros_after_recovery_and_before() {
    let vault = SealedVault::crashed();
    let (longer, _) = forgeries(&vault, "three blocks").swap_remove(1);
    vault.replace("three blocks", &longer);
    let mtime = |name| fs::metadata(vault.path(name)).unwrap().modified().unwrap();
    let before = mtime("three blocks");
    let fs = vault.mount();
    fs.recover(&never_stop).unwrap();
    assert_eq!(mtime("three blocks"), before);
    fs.close().unwrap();
    drop(fs);
    let fs = vault.mount();
    let Reading::Content(found) = read(&fs, "three blocks") else { panic!("it is refused") };
    assert!(found == [0; 9000]);
}

#[test]
fn a_file_that_is_damaged_stays_so_and_keeps_no_other_from_recovery() {
    let vault = SealedVault::crashed();
    let mut damaged = vault.sealed("three blocks");
    damaged[20] ^= 1;
    vault.replace("three blocks", &damaged);
    let fs = vault.mount();
    fs.recover(&never_stop).unwrap();
    write(&fs, "new", 0, &[Op::Write { at: 0, len: 5000 }]);
    fs.close().unwrap();
    drop(fs);
    let fs = vault.mount();
    assert!(!fs.vault().context().epochs().any_crashed());
    assert!(matches!(read(&fs, "three blocks"), Reading::Refused(_)));
    assert!(matches!(read(&fs, "new"), Reading::Content(_)));
}
