//! Whole blocks and headers: moved, swapped, zeroed, taken from elsewhere.

use super::SealedVault;

const BLOCK: usize = 4096;

fn block(sealed: &[u8], index: usize) -> &[u8] {
    &sealed[index * BLOCK..(index + 1) * BLOCK]
}

fn with_block(sealed: &[u8], index: usize, block: &[u8]) -> Vec<u8> {
    let mut forged = sealed.to_vec();
    forged[index * BLOCK..][..block.len()].copy_from_slice(block);
    forged
}

#[test]
fn blocks_swapped_within_a_file_are_refused() {
    let vault = SealedVault::new();
    let fs = vault.mount();
    let sealed = vault.sealed("three blocks");
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let forged = with_block(&sealed, a, block(&sealed, b));
        vault.refuses(&fs, "three blocks", &forged, &format!("block {b} over block {a}"));
        let forged = with_block(&forged, b, block(&sealed, a));
        vault.refuses(&fs, "three blocks", &forged, &format!("blocks {a} and {b} swapped"));
    }
}

#[test]
fn blocks_of_another_file_of_the_same_length_are_refused() {
    let vault = SealedVault::new();
    let fs = vault.mount();
    let (sealed, other) = (vault.sealed("three blocks"), vault.sealed("three more"));
    for index in 1..3 {
        let forged = with_block(&sealed, index, block(&other, index));
        vault.refuses(&fs, "three blocks", &forged, &format!("block {index} of another file"));
    }
    // The content of block 0 without its header.
    let forged = [&sealed[..256], &other[256..BLOCK], &sealed[BLOCK..]].concat();
    vault.refuses(&fs, "three blocks", &forged, "the content of another file's first block");
}

#[test]
fn a_header_of_another_file_is_refused() {
    let vault = SealedVault::new();
    let fs = vault.mount();
    let (sealed, other) = (vault.sealed("three blocks"), vault.sealed("three more"));
    let forged = with_block(&sealed, 0, &other[..256]);
    vault.refuses(&fs, "three blocks", &forged, "the header of another file");
    let elsewhere = SealedVault::new().sealed("three blocks");
    let forged = with_block(&sealed, 0, &elsewhere[..256]);
    vault.refuses(&fs, "three blocks", &forged, "the header of another vault's file");
    vault.refuses(&fs, "three blocks", &elsewhere, "another vault's file");
}

#[test]
fn zeroed_blocks_are_refused() {
    let vault = SealedVault::new();
    let fs = vault.mount();
    let zeros = [0; BLOCK];
    for name in ["one byte", "one block", "three blocks", "sparse", "grown over"] {
        let sealed = vault.sealed(name);
        let content = (0..sealed.len() / BLOCK).filter(|&index| block(&sealed, index) != zeros);
        for index in content {
            let forged = with_block(&sealed, index, &zeros);
            vault.refuses(&fs, name, &forged, &format!("block {index} zeroed"));
        }
        vault.refuses(&fs, name, &vec![0; sealed.len()], "the whole file zeroed");
        let forged = with_block(&sealed, 0, &zeros[..256]);
        vault.refuses(&fs, name, &forged, "the header zeroed");
        let forged = [&sealed[..256], &zeros[256..], &sealed[BLOCK..]].concat();
        vault.refuses(&fs, name, &forged, "the first block zeroed behind its header");
    }
}

#[test]
fn a_block_of_a_former_life_is_refused() {
    let vault = SealedVault::new();
    let before = vault.sealed("three blocks");
    let fs = vault.mount();
    std::fs::remove_file(vault.path("three blocks")).unwrap();
    let content = super::sealed_vault::write(
        &fs,
        "three blocks",
        // The numbers that it was made with: the same content, under another key.
        30,
        &[crate::common_store::Op::Write { at: 0, len: 9000 }],
    );
    assert_eq!(content, vault.content("three blocks"));
    fs.close().unwrap();
    drop(fs);
    let fs = vault.mount();
    let sealed = vault.sealed("three blocks");
    for index in 0..3 {
        let forged = with_block(&sealed, index, block(&before, index));
        vault.refuses(&fs, "three blocks", &forged, &format!("block {index} of a former life"));
    }
}

#[test]
fn no_two_files_have_equal_blocks_keys_or_ids() {
    let vault = SealedVault::new();
    let (a, b) = (vault.sealed("three blocks"), vault.sealed("three more"));
    assert_ne!(a[16..32], b[16..32], "file ids");
    assert_ne!(a[64..124], b[64..124], "wrapped keys");
    for index in 0..3 {
        assert_ne!(block(&a, index)[256..272], block(&b, index)[256..272]);
    }
}
