//! Who has the vault's directory and not the key finds no byte of content in it, nor in what the
//! machine keeps beside it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::files::open_rw;
use crate::common::{Vault, require, run};

/// Of which all content consists.
const SENTENCE: &[u8] = b"what a program wrote, for a test! ";
const LARGE: usize = 3 << 20;

fn content(len: usize) -> Vec<u8> {
    SENTENCE.iter().copied().cycle().take(len).collect()
}

/// Each file below `dir`, but for what lies in `mountpoint`.
fn files_below(dir: &Path, mountpoint: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && path != mountpoint {
            files_below(&path, mountpoint, found);
        } else if kind.is_file() {
            found.push(path);
        }
    }
}

/// Nothing on the disk has half of the sentence, wherever in a file it begins.
fn assert_not_on_disk(vault: &Vault, when: &str) {
    let mut files = Vec::new();
    files_below(vault.scratch().path(), &vault.mountpoint(), &mut files);
    assert!(files.len() > 10, "{when}: {files:?}");
    for path in files {
        let bytes = fs::read(&path).unwrap();
        for piece in [&SENTENCE[..16], &SENTENCE[16..32]] {
            let at = bytes.windows(16).position(|window| window == piece);
            assert_eq!(at, None, "{when}: content lies in {}", path.display());
        }
    }
}

#[test]
fn no_content_lies_in_the_vault() {
    let vault = Vault::init();
    for options in [&[][..], &["--no-writeback"]] {
        let mount = vault.mount(options);
        for (name, len) in [("small", 40), ("block", 4096), ("large", LARGE)] {
            fs::write(mount.join(name), content(len)).unwrap();
        }
        let changed = open_rw(mount.join("changed"));
        changed.write_all_at(&content(LARGE), 1000).unwrap();
        changed.write_all_at(&content(5000), 70_001).unwrap();
        changed.set_len(100_000).unwrap();
        changed.set_len(200_000).unwrap();
        changed.sync_all().unwrap();
        let copy = mount.join("copy");
        run(Command::new(require("cp")).arg(mount.join("large")).arg(&copy)).ok();
        fs::rename(&copy, mount.join("small")).unwrap();
        let gone = open_rw(mount.join("gone"));
        gone.write_all_at(&content(LARGE), 0).unwrap();
        fs::remove_file(mount.join("gone")).unwrap();
        gone.sync_all().unwrap();
        assert_not_on_disk(&vault, "mounted");
        drop((changed, gone));
        vault.run(&["key", "rotate"]).ok();
        vault.run(&["key", "rewrap"]).ok();
        mount.unmount();
        assert_not_on_disk(&vault, "unmounted");
    }
}
