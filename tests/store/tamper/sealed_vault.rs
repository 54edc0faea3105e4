//! A vault on a disk, written and cleanly closed, and then in an attacker's hands.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use atrest::format::VaultId;
use atrest::fs::{Fs, FsError, Inode, OpenMode, Origin, Subject};
use atrest::keys::KeyRing;
use atrest::store::{Access, FileError, NameMode, Vault, VaultError};
use tempfile::TempDir;

use crate::common_store::Op;

/// Some files, each of which differs in what its blocks hold.
pub fn contents() -> Vec<(&'static str, Vec<Op>)> {
    vec![
        ("empty", vec![]),
        ("one byte", vec![Op::Write { at: 0, len: 1 }]),
        ("one block", vec![Op::Write { at: 0, len: 3808 }]),
        ("three blocks", vec![Op::Write { at: 0, len: 9000 }]),
        ("three more", vec![Op::Write { at: 0, len: 9000 }]),
        ("sparse", vec![Op::Write { at: 9000, len: 5000 }]),
        ("grown over", vec![Op::Write { at: 0, len: 100 }, Op::Truncate(5000)]),
    ]
}

/// The vault, its keys, and what its files hold.
pub struct SealedVault {
    dir: TempDir,
    pub ring: KeyRing,
    files: Vec<(&'static str, Vec<u8>)>,
}

/// What came of reading a file.
pub enum Reading {
    Content(Vec<u8>),
    Refused(String),
}

impl SealedVault {
    /// With the files of [`contents`], of a mount that ended cleanly.
    pub fn new() -> Self {
        Self::made(|fs| fs.close().unwrap())
    }

    /// With the files of [`contents`], of a mount that died when all of them were closed.
    pub fn crashed() -> Self {
        Self::made(|_| ())
    }

    fn made(end: impl Fn(&Fs)) -> Self {
        let ring = KeyRing::create(VaultId::random());
        let dir = tempfile::tempdir().unwrap();
        Vault::create(dir.path(), &ring, NameMode::Plain).unwrap();
        let mut made = Self { dir, ring, files: Vec::new() };
        let fs = made.mount();
        for (file, (name, ops)) in contents().into_iter().enumerate() {
            let content = write(&fs, name, file * 10, &ops);
            made.files.push((name, content));
        }
        end(&fs);
        made
    }

    pub fn open(&self, access: Access) -> Result<Fs, VaultError> {
        let vault = Vault::open(self.dir.path(), self.ring.clone(), access)?;
        Ok(Fs::new(vault).unwrap())
    }

    pub fn mount(&self) -> Fs {
        self.open(Access::ReadWrite).unwrap()
    }

    pub fn content(&self, name: &str) -> &[u8] {
        &self.files.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// The file as it lies in the vault.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn sealed(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Puts other bytes into the file, which stays the same file.
    pub fn replace(&self, name: &str, sealed: &[u8]) {
        let file = fs::File::options().write(true).open(self.path(name)).unwrap();
        file.write_all_at(sealed, 0).unwrap();
        file.set_len(sealed.len() as u64).unwrap();
    }

    /// The file with other bytes in the vault is refused, by a reader and by verify.
    #[track_caller]
    pub fn refuses(&self, fs: &Fs, name: &str, sealed: &[u8], what: &str) {
        assert!(!self.accepts(fs, name, sealed, what), "{name}: {what} goes unnoticed");
    }

    /// Whether the file with other bytes in the vault still reads as what was written, to the
    /// last byte; verify agrees. What is neither that nor an error fails the test.
    #[track_caller]
    pub fn accepts(&self, fs: &Fs, name: &str, sealed: &[u8], what: &str) -> bool {
        self.replace(name, sealed);
        let accepted = match read(fs, name) {
            Reading::Refused(_) => false,
            Reading::Content(found) => {
                assert!(
                    found == self.content(name),
                    "{name}: {what} gives {} wrong bytes",
                    found.len()
                );
                true
            }
        };
        let summary = fs.verify(Path::new(name), &|_| true).unwrap();
        assert_eq!(summary.files, 1);
        assert_eq!(summary.damaged.is_empty(), accepted, "{name}: {what}: verify says otherwise");
        // Parts of it are refused or right as well.
        let content = self.content(name);
        for (at, expected) in content.chunks(2000).enumerate() {
            if let Reading::Content(found) = read_part(fs, name, at as u64 * 2000, 2000) {
                let expected = &expected[..found.len().min(expected.len())];
                assert!(found == expected, "{name}: {what} gives wrong bytes from {}", at * 2000);
            }
        }
        accepted
    }
}

/// Makes a file and closes it; returns its content.
pub fn write(fs: &Fs, name: &str, number: usize, ops: &[Op]) -> Vec<u8> {
    let caller = Subject::process(0, 0, 1);
    let how = (OpenMode::READ_WRITE, true);
    let (made, _) = fs.create(Inode::ROOT, OsStr::new(name), 0o600, how, &caller).unwrap();
    let mut content = Vec::new();
    for (number, op) in (number..).zip(ops) {
        op.apply(number, &mut content);
        match *op {
            Op::Write { at, len } => {
                let bytes = Op::bytes(number, at, len);
                fs.write(made.attr.inode, at, &bytes, Origin::Program).unwrap();
            }
            Op::Truncate(len) => {
                let change = atrest::fs::Change { size: Some(len), ..Default::default() };
                fs.setattr(made.attr.inode, &change, &caller).unwrap();
            }
            _ => panic!("no {op:?} in a vault"),
        }
    }
    fs.release(made.attr.inode).unwrap();
    content
}

/// All of the file, as a program gets it.
pub fn read(fs: &Fs, name: &str) -> Reading {
    read_part(fs, name, 0, 1 << 20)
}

fn read_part(fs: &Fs, name: &str, offset: u64, len: usize) -> Reading {
    let inode = fs.lookup(Inode::ROOT, OsStr::new(name)).unwrap().attr.inode;
    let caller = Subject::process(0, 0, 1);
    let content = fs.open(inode, OpenMode::READ, &caller).and_then(|_| {
        let content = fs.read(inode, offset, len, <[u8]>::to_vec);
        fs.release(inode).unwrap();
        content
    });
    fs.forget(inode, 1);
    match content {
        Ok(content) => Reading::Content(content),
        Err(FsError::File { error: FileError::Integrity(error), path }) => {
            assert_eq!(path, Path::new(name));
            Reading::Refused(error.to_string())
        }
        Err(error) => panic!("{name}: {error} is not said of a file that was tampered with"),
    }
}
