//! Single bytes of a file, changed.

use super::SealedVault;

/// Flips each byte of a file, one bit here and all bits there; `harmless` says which bytes may
/// change without anybody's notice.
fn flip_each(vault: &SealedVault, name: &str, harmless: impl Fn(usize) -> bool) {
    let fs = vault.mount();
    let sealed = vault.sealed(name);
    for at in 0..sealed.len() {
        let mut forged = sealed.clone();
        forged[at] ^= if at % 2 == 0 { 1 } else { 0xff };
        let what = format!("byte {at} of {} flipped", sealed.len());
        if harmless(at) {
            assert!(vault.accepts(&fs, name, &forged, &what), "{name}: {what} is an error");
        } else {
            vault.refuses(&fs, name, &forged, &what);
        }
    }
    assert!(vault.accepts(&fs, name, &sealed, "nothing changed"));
}

#[test]
fn each_byte_of_a_block_that_is_full_matters() {
    flip_each(&SealedVault::new(), "one block", |at| at >= 4096);
}

#[test]
fn each_byte_of_a_header_and_of_the_padding_of_a_block_matters() {
    flip_each(&SealedVault::new(), "one byte", |at| at >= 4096);
}

#[test]
fn each_byte_of_several_blocks_matters() {
    flip_each(&SealedVault::new(), "three blocks", |at| at >= 3 * 4096);
}

#[test]
fn each_byte_of_a_hole_matters() {
    flip_each(&SealedVault::new(), "sparse", |at| at >= 4 * 4096);
}

#[test]
fn each_byte_matters_after_a_crash_too() {
    flip_each(&SealedVault::crashed(), "one byte", |at| at >= 4096);
}

#[test]
fn every_bit_of_a_header_matters() {
    let vault = SealedVault::new();
    let fs = vault.mount();
    let sealed = vault.sealed("three blocks");
    for bit in 0..256 * 8 {
        let mut forged = sealed.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        vault.refuses(&fs, "three blocks", &forged, &format!("bit {bit} flipped"));
    }
}
