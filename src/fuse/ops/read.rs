//! Reads of files and directories.

use fuser::{Generation, INodeNo, ReplyData, ReplyDirectory, ReplyDirectoryPlus};

use crate::fs::{Fs, Handle, Inode};
use crate::fuse::convert;
use crate::fuse::dispatch::Adapter;
use crate::fuse::reply::{TTL, refuse};

/// A read as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct ReadRequest {
    pub inode: Inode,
    pub handle: Handle,
    pub offset: u64,
    pub size: usize,
    /// Whether it changes the time of access.
    pub moves_atime: bool,
}

impl ReadRequest {
    pub fn run(self, fs: &Fs, reply: ReplyData) {
        let Self { inode, handle, offset, size, moves_atime } = self;
        let mut reply = Some(reply);
        let read = fs.may_still_read(inode, handle).and_then(|()| {
            let answer = |content: &[u8]| {
                reply.take().into_iter().for_each(|reply| reply.data(content));
            };
            if moves_atime {
                fs.read_for_program(inode, offset, size, answer)
            } else {
                fs.read(inode, offset, size, answer)
            }
        });
        if let (Err(error), Some(reply)) = (read, reply) {
            reply.error(refuse(&error));
        }
    }
}

impl Adapter {
    pub(in crate::fuse) fn list(&self, dir: Inode, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.fs.readdir(dir, offset, |entry| {
            let kind = convert::kind(entry.kind);
            !reply.add(INodeNo(entry.inode.0), entry.next, kind, &entry.name)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(refuse(&error)),
        }
    }

    pub(in crate::fuse) fn list_with_attributes(
        &self,
        dir: Inode,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.fs.readdir_plus(dir, offset, |found| {
            let (attr, generation) = match &found.entry {
                Some(entry) => (convert::attr(&entry.attr), entry.generation),
                None => (convert::dot(found.listed.inode), 0),
            };
            let (next, name) = (found.listed.next, &found.listed.name);
            !reply.add(attr.ino, next, name, &TTL, &attr, Generation(generation.into()))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(refuse(&error)),
        }
    }
}
