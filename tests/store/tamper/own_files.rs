//! The vault's own files, changed and put back to an older state.

use std::fs;

use atrest::store::{Access, VaultError};

use super::SealedVault;
use super::sealed_vault::{Reading, read, write};
use crate::common_store::Op;

/// Changes each byte of one of the vault's own files: the vault is not opened.
fn each_byte_matters(name: &str) {
    let vault = SealedVault::new();
    let path = vault.path(".atrest").join(name);
    let genuine = fs::read(&path).unwrap();
    for at in 0..genuine.len() {
        // Not 0x20: a UUID in capitals is the same UUID.
        for mask in [0x01, 0x02, 0x04, 0x10, 0x80] {
            let mut forged = genuine.clone();
            forged[at] ^= mask;
            fs::write(&path, &forged).unwrap();
            let opened = vault.open(Access::ReadOnly);
            let text = String::from_utf8_lossy(&forged);
            assert!(
                opened.is_err(),
                "byte {at} of {name} changed by {mask:#x} is believed: {text}"
            );
        }
    }
    for len in 0..genuine.len() - 1 {
        fs::write(&path, &genuine[..len]).unwrap();
        assert!(vault.open(Access::ReadOnly).is_err(), "{name} cut to {len} bytes is believed");
    }
    fs::remove_file(&path).unwrap();
    assert!(vault.open(Access::ReadOnly).is_err(), "a vault without {name} is opened");
    fs::write(&path, &genuine).unwrap();
    vault.open(Access::ReadOnly).unwrap();
}

#[test]
fn each_byte_of_the_description_matters() {
    each_byte_matters("vault.json");
}

#[test]
fn each_byte_of_the_record_of_mounts_matters() {
    each_byte_matters("state.json");
}

#[test]
fn the_own_files_of_another_vault_are_refused() {
    let (vault, other) = (SealedVault::new(), SealedVault::new());
    for name in ["vault.json", "state.json"] {
        let path = vault.path(".atrest").join(name);
        let genuine = fs::read(&path).unwrap();
        fs::copy(other.path(".atrest").join(name), &path).unwrap();
        let error = vault.open(Access::ReadOnly).unwrap_err();
        let named =
            matches!(error, VaultError::OtherKeyFile { .. } | VaultError::Damaged("state.json"));
        assert!(named, "{name}: {error}");
        fs::write(&path, genuine).unwrap();
    }
}

#[test]
fn a_record_of_mounts_put_back_is_found_out_by_the_files_of_later_mounts() {
    let vault = SealedVault::new();
    let path = vault.path(".atrest/state.json");
    let old = fs::read(&path).unwrap();
    let ops = [Op::Write { at: 0, len: 5000 }];
    let mut contents = Vec::new();
    for name in ["second mount", "third mount"] {
        let mount = vault.mount();
        contents.push(write(&mount, name, 0, &ops));
        mount.close().unwrap();
    }
    fs::write(&path, old).unwrap();
    let mount = vault.open(Access::ReadOnly).unwrap();
    for name in ["second mount", "third mount"] {
        let Reading::Refused(why) = read(&mount, name) else { panic!("{name} is read") };
        assert!(why.contains("no record"), "{why}");
    }
    let Reading::Content(content) = read(&mount, "three blocks") else { panic!("it is older") };
    assert_eq!(content, vault.content("three blocks"));
}
