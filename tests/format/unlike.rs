//! No two files are sealed alike, and nothing of a file's content shows in the vault.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;

use atrest::format::{HEADER_LEN, Header, VaultId};
use atrest::fs::{Change, Fs, Inode, OpenMode, Origin, Subject};
use atrest::keys::KeyRing;
use atrest::store::{Access, NameMode, Vault};
use tempfile::TempDir;

use crate::bytes::random_bytes;

const CALLER: Subject = Subject::process(0, 0, 1);

fn new_vault() -> (TempDir, KeyRing, Fs) {
    let (dir, ring) = (tempfile::tempdir().unwrap(), KeyRing::create(VaultId::random()));
    Vault::create(dir.path(), &ring, NameMode::Plain).unwrap();
    let vault = Vault::open(dir.path(), ring.clone(), Access::ReadWrite).unwrap();
    (dir, ring, Fs::new(vault).unwrap())
}

/// Makes a file, or replaces the content of one, and closes it.
fn write(fs: &Fs, name: &str, content: &[u8]) {
    let (name, how) = (OsStr::new(name), (OpenMode::WRITE, false));
    let inode = match fs.lookup(Inode::ROOT, name) {
        Ok(found) => {
            fs.open(found.attr.inode, OpenMode::WRITE, &CALLER).unwrap();
            found.attr.inode
        }
        Err(_) => fs.create(Inode::ROOT, name, 0o600, how, &CALLER).unwrap().0.attr.inode,
    };
    let change = Change { size: Some(0), ..Change::default() };
    fs.setattr(inode, &change, &CALLER).unwrap();
    fs.write(inode, 0, content, Origin::Program).unwrap();
    fs.release(inode).unwrap();
}

#[test]
fn each_file_and_each_life_of_a_file_has_a_key_of_its_own() {
    let (dir, ring, fs) = new_vault();
    let (mut keys, mut ids, mut nonces) = (HashSet::new(), HashSet::new(), HashSet::new());
    let files = 500;
    for life in 0..2 {
        for file in 0..files {
            let name = format!("file {file}");
            write(&fs, &name, b"the same in all of them");
            let sealed = fs::read(dir.path().join(&name)).unwrap();
            let header = Header::parse(sealed.first_chunk::<HEADER_LEN>().unwrap()).unwrap();
            let id = header.file_id.as_bytes();
            let key = ring.unwrap(&header.master_key, header.version, id, &header.wrapped).unwrap();
            assert!(keys.insert(*key.expose()), "the key of {name} in life {life} is another's");
            assert!(ids.insert(*id), "the id of {name} in life {life} is another's");
            assert!(nonces.insert(header.wrapped.nonce), "a nonce was used twice");
        }
    }
    assert_eq!(keys.len(), 2 * files);
    fs.close().unwrap();
}

#[test]
fn no_sixteen_bytes_of_a_file_show_in_the_vault() {
    let (dir, _ring, fs) = new_vault();
    let mut plain = HashSet::new();
    for (file, len) in [16, 100, 3808, 3809, 20_000].into_iter().enumerate() {
        let content = random_bytes(file as u64, len);
        plain.extend(content.windows(16).map(<[u8]>::to_vec));
        write(&fs, &format!("file {file}"), &content);
    }
    fs.close().unwrap();
    let mut seen = 0;
    for below in ["", ".atrest"] {
        for entry in fs::read_dir(dir.path().join(below)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                seen += bytes.len();
                let shown = bytes.windows(16).position(|window| plain.contains(window));
                assert_eq!(shown, None, "plaintext in {}", entry.path().display());
            }
        }
    }
    assert!(seen > 24_000, "only {seen} bytes were looked through");
}
