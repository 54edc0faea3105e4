//! A change of a file: of its attributes, or the origin of one of its content.

use std::time::{Duration, SystemTime};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::fs::{Attr, Handle};

/// A time to set.
#[derive(Debug, Clone, Copy)]
pub enum Time {
    /// The moment of the change.
    Now,
    /// This one.
    At(SystemTime),
}

/// What to change; `None` stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// Permission bits with suid, sgid and sticky.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<Time>,
    /// Last change of the content.
    pub mtime: Option<Time>,
    /// The last change of anything, where the kernel keeps that.
    pub ctime: Option<SystemTime>,
    /// The open file through which it is done: opening it was the permission.
    pub through: Option<Handle>,
}

/// The origin of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The kernel's writeback cache, which keeps the modification time.
    Cache,
    /// A shared mapping where there is no writeback cache: the kernel keeps no time of it.
    Mapping,
    /// A program.
    Program,
    /// A program that waits until it is durable.
    ProgramSync,
}

impl Change {
    pub fn is_empty(&self) -> bool {
        self.mode.is_none()
            && self.uid.is_none()
            && self.gid.is_none()
            && self.atime.is_none()
            && self.mtime.is_none()
    }

    /// Whether the attributes already have the values to set, except for the time of change.
    pub fn keeps(&self, attr: &Attr) -> bool {
        let is_mtime = |time| matches!(time, Time::At(time) if time == attr.mtime);
        self.mode.is_none()
            && self.uid.is_none()
            && self.gid.is_none()
            && self.size.is_none()
            && self.atime.is_none()
            && self.mtime.is_some_and(is_mtime)
    }
}

impl Origin {
    /// Whether the content may be another writer's than the opener's of the handle that carries it.
    pub(in crate::fs) fn is_shared(self) -> bool {
        matches!(self, Self::Cache | Self::Mapping)
    }
}

pub fn timestamps(change: &Change) -> Timestamps {
    Timestamps { last_access: timespec(change.atime), last_modification: timespec(change.mtime) }
}

fn timespec(time: Option<Time>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(Time::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(Time::At(time)) => match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => exact(after.as_secs() as i64, after.subsec_nanos()),
            Err(error) => before_epoch(error.duration()),
        },
    }
}

/// A time before 1970: whole seconds round down, the nanoseconds count up from there.
fn before_epoch(before: Duration) -> Timespec {
    match before.subsec_nanos() {
        0 => exact(-(before.as_secs() as i64), 0),
        nanos => exact(-(before.as_secs() as i64) - 1, 1_000_000_000 - nanos),
    }
}

fn exact(seconds: i64, nanoseconds: u32) -> Timespec {
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() }
}
