//! Files cut and extended to every size there is nearby.

use super::SealedVault;

/// Gives the file each size from nothing to a block more than it has; what is added is `filler`.
/// A size is accepted only when all that was written is still read.
fn resize(name: &str, filler: u8) -> Vec<usize> {
    let vault = SealedVault::new();
    let fs = vault.mount();
    let sealed = vault.sealed(name);
    let mut accepted = Vec::new();
    for size in 1..sealed.len() + 4500 {
        let mut forged = sealed.clone();
        forged.resize(size, filler);
        if vault.accepts(&fs, name, &forged, &format!("a size of {size}, not {}", sealed.len())) {
            accepted.push(size);
        }
    }
    accepted
}

#[test]
fn a_cut_or_extended_file_is_refused() {
    // At a block's end the length is what the last block says, and that is right.
    assert_eq!(resize("three blocks", 0), [3 * 4096, 3 * 4096 + 1128]);
    assert_eq!(resize("one byte", 0), [4096, 4097]);
    assert_eq!(resize("one block", 0), [4096, 4096 + 3808]);
}

#[test]
fn a_file_extended_by_other_bytes_than_zeros_is_refused() {
    assert_eq!(resize("three blocks", 0xa5), [3 * 4096, 3 * 4096 + 1128]);
}

#[test]
fn a_cut_or_extended_file_with_holes_is_refused() {
    let sparse = 4 * 4096 + 14_000 - (3808 + 2 * 4064);
    assert_eq!(resize("sparse", 0), [4 * 4096, sparse]);
    // Its last block is a hole, which says nothing of a length.
    assert_eq!(resize("grown over", 0), [2 * 4096 + 5000 - 3808]);
}

#[test]
fn an_empty_file_that_gets_a_size_is_refused() {
    assert!(resize("empty", 0).is_empty());
    assert!(resize("empty", 7).is_empty());
}

#[test]
fn what_was_never_sealed_is_refused() {
    let vault = SealedVault::new();
    let fs = vault.mount();
    for len in [1, 100, 4096, 4097, 5000, 8192, 9000, 13_416] {
        vault.refuses(&fs, "three blocks", &vec![b'x'; len], &format!("{len} bytes of text"));
    }
}
