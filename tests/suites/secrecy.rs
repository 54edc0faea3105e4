//! Nothing of the plaintext is in the vault.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::common::files::open_rw;
use crate::common::{Mapping, Mounted, Vault, pattern, random_bytes};

const WINDOW: usize = 16;

/// Text and bytes as people have them; every window of 16 of them is looked for.
fn sources() -> Vec<Vec<u8>> {
    let text: String =
        (0..3000).map(|n| format!("{n}: the quick brown fox jumps over the lazy dog\n")).collect();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = vec![
        text.into_bytes(),
        pattern(0, 200_000),
        random_bytes(1, 200_000),
        b"a small secret, 31 bytes of it.".to_vec(),
    ];
    sources.extend(
        ["Cargo.toml", "Cargo.lock", "LICENSE"].map(|name| fs::read(project.join(name)).unwrap()),
    );
    sources
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files_below(&path));
        } else {
            all.push(path);
        }
    }
    all
}

/// Every way in which bytes come into a file.
fn write_all_ways(mount: &Mounted, number: usize, bytes: &[u8]) {
    let path = |way: &str| mount.join(format!("{number}-{way}"));
    fs::write(path("whole"), bytes).unwrap();
    let mut file = open_rw(path("appended"));
    for (count, piece) in bytes.chunks(777).enumerate() {
        file.write_all(piece).unwrap();
        if count % 20 == 0 {
            file.sync_data().unwrap();
        }
    }
    let file = open_rw(path("mapped"));
    file.set_len(bytes.len() as u64).unwrap();
    let mut mapping = Mapping::shared(&file, bytes.len()).unwrap();
    mapping.bytes_mut().copy_from_slice(bytes);
    mapping.sync().unwrap();
    let file = open_rw(path("sparse"));
    file.write_all_at(bytes, 1_000_003).unwrap();
    file.set_len(1_000_003 + bytes.len() as u64 / 2).unwrap();
    let file = open_rw(path("overwritten"));
    file.write_all_at(&vec![0; bytes.len()], 0).unwrap();
    file.sync_all().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    fs::copy(path("whole"), path("copied")).unwrap();
    fs::write(path("removed"), bytes).unwrap();
    fs::remove_file(path("removed")).unwrap();
}

fn search(mut mount: Mounted) {
    let vault = mount.vault().clone();
    let sources = sources();
    for (number, bytes) in sources.iter().enumerate() {
        write_all_ways(&mount, number, bytes);
    }
    mount.try_unmount().ok();
    let windows = sources.iter().flat_map(|bytes| bytes.windows(WINDOW));
    // A run of one byte is nobody's text, and zeros fill every hole.
    let windows: HashSet<&[u8]> =
        windows.filter(|window| window.iter().any(|byte| byte != &window[0])).collect();
    let mut searched = 0;
    for path in files_below(&vault.path()) {
        let stored = fs::read(&path).unwrap();
        searched += stored.len();
        for (at, window) in stored.windows(WINDOW).enumerate() {
            assert!(
                !windows.contains(window),
                "plaintext at byte {at} of {}: {window:?}",
                path.display()
            );
        }
    }
    assert!(searched > 4_000_000, "only {searched} bytes were searched");
    let log = mount.log();
    assert!(!log.contains("brown fox") && !log.contains("a small secret"));
}

#[test]
fn no_sixteen_bytes_of_the_sources_are_in_the_vault() {
    search(Vault::init().mount(&[]));
    search(Vault::init().mount(&["--no-writeback"]));
}

/// One content in many files, and in one file again: never the same stored block.
#[test]
fn equal_content_is_never_stored_equally() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let content = pattern(0, 50_000);
    for number in 0..40 {
        fs::write(mount.join(number.to_string()), &content).unwrap();
    }
    let first: Vec<Vec<u8>> = {
        let mount = mount.remount(&[]);
        let stored = (0..40)
            .map(|number| fs::read(vault.path().join(number.to_string())).unwrap())
            .collect();
        for number in 0..40 {
            fs::write(mount.join(number.to_string()), &content).unwrap();
        }
        stored
    };
    let second = (0..40).map(|number| fs::read(vault.path().join(number.to_string())).unwrap());
    let mut seen = HashSet::new();
    for stored in first.into_iter().chain(second) {
        for block in stored.chunks_exact(4096) {
            assert!(seen.insert(block.to_vec()), "two stored blocks are equal");
        }
    }
    assert!(seen.len() > 900);
}
