//! The hot path in pieces. Each case prepares itself and gives what is then done again and again.

use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use atrest::crypto::{Aead, BlockCipher, DataKey, FileKeys, Secret};
use atrest::format::{
    BLOCK_LEN, BlockIndex, BlockSpan, Epoch, FIRST_CAPACITY, FileId, Header, Holes, NEXT_CAPACITY,
    VaultId, open_block, seal_block, stored_len,
};
use atrest::keys::KeyRing;
use atrest::store::{Context, EpochRecord, RangeLocks, RealFile, SealedFile};
use rustix::fs::{MemfdFlags, memfd_create};

/// What is measured.
pub type Work = Box<dyn FnMut()>;
type Prepare = fn() -> Work;

/// Each case by its name.
pub const CASES: [(&str, Prepare); 9] = [
    ("block_seal", block_seal),
    ("block_open", block_open),
    ("header_open", header_open),
    ("range_lock", range_lock),
    ("write_4k", || write(4096)),
    ("write_128k", || write(128 * 1024)),
    ("read_4k", || read(4096)),
    ("read_128k", || read(128 * 1024)),
    ("open_and_read_4k", open_and_read),
];

/// Plaintext bytes of the file that is read and written: many blocks, the last of them full.
const LEN: u64 = FIRST_CAPACITY as u64 + 63 * NEXT_CAPACITY as u64;

fn block_seal() -> Work {
    let (cipher, file) = (BlockCipher::new(&Secret::random()), FileId::random());
    let (plain, mut block) = (vec![0x5a; NEXT_CAPACITY], vec![0; BLOCK_LEN]);
    Box::new(move || seal_block(&cipher, &file, BlockIndex(1), black_box(&plain), &mut block))
}

fn block_open() -> Work {
    let (cipher, file) = (BlockCipher::new(&Secret::random()), FileId::random());
    let (mut plain, mut block) = (vec![0x5a; NEXT_CAPACITY], vec![0; BLOCK_LEN]);
    seal_block(&cipher, &file, BlockIndex(1), &plain, &mut block);
    Box::new(move || {
        open_block(&cipher, &file, BlockIndex(1), black_box(&block), &mut plain).unwrap();
    })
}

/// From the bytes to the keys: parse, unwrap, derive, authenticate.
fn header_open() -> Work {
    let (vault_id, file_id, key) = (VaultId::random(), FileId::random(), DataKey::random());
    let ring = KeyRing::create(vault_id);
    let id = ring.default_key().id();
    let (master_key, version, wrapped) = ring.wrap_by_id(&id, file_id.as_bytes(), &key).unwrap();
    let holes = Holes::default();
    let (committed_len, epoch) = (LEN, Epoch(1));
    let header =
        Header { file_id, vault_id, master_key, version, wrapped, holes, committed_len, epoch };
    let bytes = header.to_bytes(&FileKeys::derive(&key, file_id.as_bytes()).header);
    Box::new(move || {
        let header = Header::parse(black_box(&bytes)).unwrap();
        let subject = header.file_id.as_bytes();
        let unwrapped = ring.unwrap(&header.master_key, header.version, subject, &header.wrapped);
        let keys = FileKeys::derive(&unwrapped.unwrap(), subject);
        Header::authenticate(&bytes, &keys.header).unwrap();
    })
}

/// Taken and given back, with nobody else there.
fn range_lock() -> Work {
    let locks = RangeLocks::default();
    Box::new(move || drop(black_box(locks.exclusive(BlockSpan::one(BlockIndex(7))))))
}

/// Overwrites the middle of a file, at the start of a block.
fn write(len: usize) -> Work {
    let (file, data) = (sealed_file().0, vec![0xa5; len]);
    Box::new(move || file.write(BlockIndex(9).start(), black_box(&data)).unwrap())
}

fn read(len: usize) -> Work {
    let file = sealed_file().0;
    Box::new(move || {
        let read = file.read_with(BlockIndex(9).start(), len, |plain| black_box(plain).len());
        assert_eq!(read.unwrap(), len);
    })
}

/// The first read of a file that was not open: its header is opened too.
fn open_and_read() -> Work {
    let (_, fd, context) = sealed_file();
    Box::new(move || {
        let backing = RealFile::new(fd.try_clone().unwrap(), false);
        let file = SealedFile::open(backing, stored_len(LEN), Arc::clone(&context)).unwrap();
        assert_eq!(file.read_with(0, 4096, |plain| black_box(plain).len()).unwrap(), 4096);
    })
}

/// A file with content, in memory; its backing; and the mount it is of.
fn sealed_file() -> (SealedFile<RealFile>, OwnedFd, Arc<Context>) {
    let fd = memfd_create("atrest-micro", MemfdFlags::CLOEXEC).unwrap();
    let record = EpochRecord::default().begin();
    let context = Arc::new(Context::new(KeyRing::create(VaultId::random()), record));
    let backing = RealFile::new(fd.try_clone().unwrap(), true);
    let file = SealedFile::open(backing, 0, Arc::clone(&context)).unwrap();
    file.write(0, &vec![0x3c; LEN as usize]).unwrap();
    file.commit().unwrap();
    (file, fd, context)
}
