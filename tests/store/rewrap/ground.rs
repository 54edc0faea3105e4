//! A vault of many files without a mount, and what of it a rewrap must leave alone.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use atrest::format::{HEADER_LEN, Header, KeyVersion, MasterKeyId, VaultId};
use atrest::fs::{Fs, Inode, OpenMode, Origin, Rewrap, RewrapSummary, Subject};
use atrest::keys::{DEFAULT_KEY, KeyRing};
use atrest::store::{Access, NameMode, Vault};
use tempfile::TempDir;

pub const CALLER: Subject = Subject::process(0, 0, 1);

/// A vault on tmpfs, open.
pub struct Ground {
    dir: TempDir,
    pub fs: Fs,
}

/// What stays: modification time and inode, and a digest of all behind the header.
type Kept = (i64, i64, u64, Vec<u8>);

impl Ground {
    pub fn new() -> Self {
        let tmpfs = std::env::var_os("ATREST_TEST_TMPFS").unwrap_or("/dev/shm".into());
        let dir = tempfile::Builder::new().prefix("atrest-test.").tempdir_in(tmpfs).unwrap();
        let ring = KeyRing::create(VaultId::random());
        Vault::create(dir.path(), &ring, NameMode::Plain).unwrap();
        let fs = Self::open(dir.path(), ring, Access::ReadWrite);
        Self { dir, fs }
    }

    fn open(dir: &Path, ring: KeyRing, access: Access) -> Fs {
        Fs::new(Vault::open(dir, ring, access).unwrap()).unwrap()
    }

    /// Ends the mount and begins another.
    pub fn again(self) -> Self {
        let Self { dir, fs } = self;
        fs.close().unwrap();
        let ring = fs.vault().context().ring().clone();
        drop(fs);
        let fs = Self::open(dir.path(), ring, Access::ReadWrite);
        Self { dir, fs }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn ring<T>(&self, change: impl FnOnce(&mut KeyRing) -> T) -> T {
        let context = self.fs.vault().context();
        let mut ring = context.ring().clone();
        let changed = change(&mut ring);
        context.replace_ring(ring);
        changed
    }

    pub fn rotate(&self) -> KeyVersion {
        self.ring(|ring| ring.rotate(DEFAULT_KEY).unwrap())
    }

    pub fn default_key(&self) -> MasterKeyId {
        self.ring(|ring| ring.default_key().id())
    }

    pub fn rewrap(&self, how: &Rewrap) -> RewrapSummary {
        self.fs.rewrap(how, &|_| true).unwrap()
    }

    pub fn references(&self, version: u32) -> u64 {
        let key = self.default_key();
        let found = self.fs.references(&key, KeyVersion(version), &|_| true).unwrap();
        assert!(found.unreadable.is_empty(), "{found:?}");
        found.count
    }

    pub fn mkdir(&self, name: &str) -> Inode {
        self.fs.mkdir(Inode::ROOT, OsStr::new(name), 0o755, &CALLER).unwrap().attr.inode
    }

    /// Makes a file and leaves it open.
    pub fn create(&self, dir: Inode, name: &str, content: &[u8]) -> Inode {
        let how = (OpenMode::READ_WRITE, true);
        let (made, _) = self.fs.create(dir, OsStr::new(name), 0o644, how, &CALLER).unwrap();
        let inode = made.attr.inode;
        if !content.is_empty() {
            self.fs.write(inode, 0, content, Origin::Program).unwrap();
        }
        inode
    }

    /// Makes a file and closes it.
    pub fn write(&self, dir: Inode, name: &str, content: &[u8]) -> Inode {
        let inode = self.create(dir, name, content);
        self.fs.release(inode).unwrap();
        inode
    }

    /// What wraps a file's key, by the header in the vault.
    pub fn wrapped_by(&self, path: &str) -> (MasterKeyId, KeyVersion) {
        let bytes = fs::read(self.path().join(path)).unwrap();
        let header = Header::parse(bytes.first_chunk::<HEADER_LEN>().unwrap()).unwrap();
        (header.master_key, header.version)
    }

    /// What a rewrap must leave alone, of every file in the vault.
    pub fn kept(&self) -> BTreeMap<PathBuf, Kept> {
        self.of_each(|path| fs::read(path).unwrap().split_off(HEADER_LEN))
    }

    /// All of every file: what a rehearsal must leave alone.
    pub fn whole(&self) -> BTreeMap<PathBuf, Kept> {
        self.of_each(|path| fs::read(path).unwrap())
    }

    fn of_each(&self, bytes: impl Fn(&Path) -> Vec<u8>) -> BTreeMap<PathBuf, Kept> {
        let mut all = BTreeMap::new();
        let mut dirs = vec![self.path().to_path_buf()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let (path, stat) = (entry.path(), entry.metadata().unwrap());
                if path == self.path().join(".atrest") {
                    continue;
                }
                if stat.is_dir() {
                    dirs.push(path);
                } else if stat.len() > 0 {
                    let digest = sha256(&bytes(&path));
                    all.insert(path, (stat.mtime(), stat.mtime_nsec(), stat.ino(), digest));
                }
            }
        }
        all
    }

    /// Every block of every file must be found whole.
    pub fn verify(&self) {
        let found = self.fs.verify(Path::new(""), &|_| true).unwrap();
        assert!(found.damaged.is_empty(), "{:?}", found.damaged);
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).to_vec()
}
