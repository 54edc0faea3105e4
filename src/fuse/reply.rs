//! Replies. An error also goes to the log.

use std::ffi::OsString;
use std::time::Duration;

use fuser::{
    Errno, FileHandle, FopenFlags, Generation, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyStatfs, ReplyXattr,
};
use rustix::fs::StatVfs;

use super::convert;
use super::errno::errno;
use crate::fs::{Attr, Entry, FsError, Handle};
use crate::store::log_failure;

/// How long the kernel may cache entries and attributes. They never get stale: the daemon is the vault's
/// only user, and every change comes through the kernel.
pub(super) const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Logs an error at its level, and returns its errno.
pub(super) fn refuse(error: &FsError) -> Errno {
    log_failure(error.level(), format_args!("{error}"));
    errno(error)
}

pub(super) fn reply_entry(reply: ReplyEntry, entry: Result<Entry, FsError>) {
    match entry {
        Ok(entry) => {
            reply.entry(&TTL, &convert::attr(&entry.attr), Generation(entry.generation.into()));
        }
        Err(error) => reply.error(refuse(&error)),
    }
}

pub(super) fn reply_created(reply: ReplyCreate, entry: &Entry, handle: Handle) {
    let (attr, generation) = (convert::attr(&entry.attr), Generation(entry.generation.into()));
    let handle = FileHandle(handle.0);
    reply.created(&TTL, &attr, generation, handle, FopenFlags::FOPEN_KEEP_CACHE);
}

pub(super) fn reply_empty(reply: ReplyEmpty, result: Result<(), FsError>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(refuse(&error)),
    }
}

/// The target of a symbolic link.
pub(super) fn reply_target(reply: ReplyData, target: Result<OsString, FsError>) {
    match target {
        Ok(target) => reply.data(target.as_encoded_bytes()),
        Err(error) => reply.error(refuse(&error)),
    }
}

pub(super) fn reply_statfs(reply: ReplyStatfs, space: Result<StatVfs, FsError>) {
    match space {
        Ok(space) => reply.statfs(
            space.f_blocks,
            space.f_bfree,
            space.f_bavail,
            space.f_files,
            space.f_ffree,
            space.f_bsize as u32,
            space.f_namemax as u32,
            space.f_frsize as u32,
        ),
        Err(error) => reply.error(refuse(&error)),
    }
}

pub(super) fn reply_xattr(reply: ReplyXattr, size: u32, value: Result<Vec<u8>, FsError>) {
    match value {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(error) => reply.error(refuse(&error)),
    }
}

/// Replies with attributes that the kernel may cache for `ttl`.
pub(super) fn reply_attr(reply: ReplyAttr, ttl: Duration, attr: Result<Attr, FsError>) {
    match attr {
        Ok(attr) => reply.attr(&ttl, &convert::attr(&attr)),
        Err(error) => reply.error(refuse(&error)),
    }
}

/// Whether a log record is only about a late reply: at an unmount the kernel aborts requests that are being
/// answered, which `fuser` logs as an error (ENOENT).
pub fn is_late_reply(record: &log::Record<'_>) -> bool {
    record.target() == "fuser::reply" && record.args().to_string().ends_with("(os error 2)")
}
