//! Operations on the content of files, by new descriptors and by kept ones.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use rand::RngExt;
use rustix::fs::{FallocateFlags, copy_file_range, fallocate};

use super::{LONGEST, TreeModel};
use crate::common::Mapping;
use crate::common::files::{assert_same, read_at};

impl TreeModel {
    pub(super) fn write(&mut self) {
        let Some((id, file)) = self.a_descriptor() else { return };
        let (offset, length) = self.a_range();
        let bytes = self.some_bytes(length);
        file.write_all_at(&bytes, offset).unwrap();
        self.files[id].put(offset, &bytes);
    }

    pub(super) fn append(&mut self) {
        let Some((path, id)) = self.a_file() else { return };
        let length = self.random.random_range(1..5000);
        let bytes = self.some_bytes(length);
        let end = self.files[id].content.len() as u64;
        if end < LONGEST {
            OpenOptions::new()
                .append(true)
                .open(self.root.join(path))
                .unwrap()
                .write_all(&bytes)
                .unwrap();
            self.files[id].put(end, &bytes);
        }
    }

    pub(super) fn truncate(&mut self) {
        let Some((id, file)) = self.a_descriptor() else { return };
        let lengths = [0, 1, 3807, 3808, 3809, 4096, 7872, 7873, LONGEST / 3, LONGEST];
        let length = lengths[self.random.random_range(0..lengths.len())];
        file.set_len(length).unwrap();
        self.files[id].resize(length);
    }

    pub(super) fn rewrite(&mut self) {
        let Some((path, id)) = self.a_file() else { return };
        let length = self.random.random_range(0..9000);
        let bytes = self.some_bytes(length);
        fs::write(self.root.join(path), &bytes).unwrap();
        self.files[id].resize(0);
        self.files[id].put(0, &bytes);
    }

    pub(super) fn punch(&mut self) {
        let Some((id, file)) = self.a_descriptor() else { return };
        let (offset, length) = self.a_range();
        fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length)
            .unwrap();
        self.files[id].zero(offset, length);
    }

    pub(super) fn allocate(&mut self) {
        let Some((id, file)) = self.a_descriptor() else { return };
        let (offset, length) = self.a_range();
        fallocate(&file, FallocateFlags::empty(), offset, length).unwrap();
        let model = &mut self.files[id];
        model.resize((offset + length).max(model.content.len() as u64));
    }

    pub(super) fn copy(&mut self) {
        let (Some((from, source)), Some((to, target))) = (self.a_descriptor(), self.a_descriptor())
        else {
            return;
        };
        if from == to {
            return;
        }
        let ((mut at, length), (mut put, _)) = (self.a_range(), self.a_range());
        let (start, goal) = (at, put);
        let mut copied = 0;
        while copied < length {
            match copy_file_range(
                &source,
                Some(&mut at),
                &target,
                Some(&mut put),
                (length - copied) as usize,
            )
            .unwrap()
            {
                0 => break,
                more => copied += more as u64,
            }
        }
        let content = &self.files[from].content;
        let expected = content
            .get(start as usize..)
            .map_or(&[][..], |rest| &rest[..rest.len().min(length as usize)]);
        assert_eq!(copied, expected.len() as u64, "copy_file_range");
        let bytes = expected.to_vec();
        if !bytes.is_empty() {
            self.files[to].put(goal, &bytes);
        }
    }

    pub(super) fn map(&mut self) {
        let Some((id, file)) = self.a_descriptor() else { return };
        let length = self.files[id].content.len();
        if length == 0 {
            return;
        }
        let mut mapping = Mapping::shared(&file, length).unwrap();
        let start = self.random.random_range(0..length);
        let bytes = self.some_bytes((length - start).min(5000) as u64);
        mapping.bytes_mut()[start..start + bytes.len()].copy_from_slice(&bytes);
        mapping.sync().unwrap();
        self.files[id].put(start as u64, &bytes);
    }

    pub(super) fn read(&mut self) {
        let Some((id, file)) = self.a_descriptor() else { return };
        let (offset, length) = self.a_range();
        let content = &self.files[id].content;
        let expected = content
            .get(offset as usize..)
            .map_or(&[][..], |rest| &rest[..rest.len().min(length as usize)]);
        assert_same(
            &read_at(&file, offset, length as usize),
            expected,
            &format!("step {}: read", self.steps),
        );
    }

    pub(super) fn sync(&mut self) {
        let Some((_, file)) = self.a_descriptor() else { return };
        if self.steps.is_multiple_of(2) { file.sync_all() } else { file.sync_data() }.unwrap();
    }

    pub(super) fn keep_open(&mut self) {
        if let Some((id, file)) = self.a_descriptor().filter(|_| self.open.len() < 8) {
            self.open.push((id, file));
        }
    }

    pub(super) fn close(&mut self) {
        if !self.open.is_empty() {
            let at = self.random.random_range(0..self.open.len());
            self.open.swap_remove(at);
        }
    }
}
