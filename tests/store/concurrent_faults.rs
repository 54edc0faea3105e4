//! A write that fails while something else happens to the same file.

use std::io;
use std::sync::{Arc, OnceLock, Weak};

use atrest::format::BLOCK_LEN;
use atrest::store::{Backing, SealedFile};

use crate::common_store::{Memory, Mounts, pattern, read_all};

type Meanwhile = Box<dyn Fn(&SealedFile<Interrupted>) + Send + Sync>;

/// A file whose second block can't be written; before that shows, something else happens.
struct Interrupted {
    memory: Memory,
    file: OnceLock<Weak<SealedFile<Interrupted>>>,
    meanwhile: Meanwhile,
}

impl Backing for Interrupted {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if offset != BLOCK_LEN as u64 {
            return self.memory.write_at(buf, offset);
        }
        let file = self.file.get().and_then(Weak::upgrade).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| (self.meanwhile)(&file));
        });
        Err(io::Error::from_raw_os_error(28))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.memory.read_at(buf, offset)
    }

    fn write_unseen(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.memory.write_unseen(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync(&self, metadata: bool) -> io::Result<()> {
        self.memory.sync(metadata)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.memory.punch(offset, len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.memory.allocate(offset, len)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.memory.next_data(offset)
    }

    fn next_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        self.memory.next_hole(offset)
    }
}

/// Appends to a file of one block, which fails while `meanwhile` happens; returns what the next
/// mount reads.
fn fail_while(meanwhile: impl Fn(&SealedFile<Interrupted>) + Send + Sync + 'static) -> Vec<u8> {
    let (memory, mounts) = (Memory::default(), Mounts::first());
    let backing = Interrupted {
        memory: memory.clone(),
        file: OnceLock::new(),
        meanwhile: Box::new(meanwhile),
    };
    let file = Arc::new(SealedFile::open(backing, 0, mounts.context()).unwrap());
    file.backing().file.set(Arc::downgrade(&file)).unwrap();
    file.write(0, &pattern(0, 3808)).unwrap();
    file.write(3808, &pattern(3808, 1000)).unwrap_err();
    let found = read_all(&file).unwrap();
    file.commit().unwrap();
    let next = mounts.after_clean_end().context();
    let file = SealedFile::open(memory.clone(), memory.size(), next).unwrap();
    assert_eq!(read_all(&file).unwrap(), found);
    found
}

#[test]
fn a_header_committed_while_a_write_fails_does_not_keep_its_length() {
    assert_eq!(fail_while(|file| file.commit().unwrap()), pattern(0, 3808));
}

#[test]
fn a_failed_write_below_one_that_succeeded_leaves_zeros() {
    let found = fail_while(|file| file.write(10_000, &pattern(10_000, 50)).unwrap());
    let mut expected = pattern(0, 3808);
    expected.resize(10_000, 0);
    expected.extend(pattern(10_000, 50));
    assert_eq!(found, expected);
}
