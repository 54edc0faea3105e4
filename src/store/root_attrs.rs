//! What the root of the mount shows as its mode and its owner. The vault's own directory has others:
//! nobody else is to reach what lies below it.

use std::io;

use rustix::fs::Stat;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::own_files::OwnFiles;
use crate::crypto::MacKey;
use crate::format::Authenticated;
use crate::sys;

/// Its name.
pub(super) const FILE: &str = "root.json";
/// Bytes of the file.
const LEN: usize = 512;

/// Mode and owner of the mount's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootAttrs {
    /// Permission bits, with suid, sgid and sticky.
    pub mode: u32,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl RootAttrs {
    /// Those of a directory itself.
    pub fn of(stat: &Stat) -> Self {
        Self { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid }
    }

    /// What can be shown of them: nobody can be an owner whom this user namespace does not map, and a user
    /// who is not root is the owner of all. The vault's directory has `own`.
    pub(super) fn shown(self, own: Self) -> Self {
        if !geteuid().is_root() {
            // Whoever else was its owner, as before it came to this machine, can't be any more.
            return Self { uid: own.uid, gid: own.gid, ..self };
        }
        let uid = if sys::maps_user(self.uid) { self.uid } else { own.uid };
        let gid = if sys::maps_group(self.gid) { self.gid } else { own.gid };
        Self { mode: self.mode, uid, gid }
    }

    /// What was kept; `None` where nothing was, or it is not what was written.
    pub(super) fn read(own: &OwnFiles, key: &MacKey) -> Option<Self> {
        Self::parse(&own.read(FILE).ok()?, key)
    }

    /// Those in the file's bytes, authenticated.
    pub(super) fn parse(bytes: &[u8], key: &MacKey) -> Option<Self> {
        Authenticated::open(bytes, key)
    }

    /// Keeps them, durably.
    ///
    /// # Errors
    /// As [`OwnFiles::replace`].
    pub(super) fn write(self, own: &OwnFiles, key: &MacKey) -> io::Result<()> {
        own.replace(FILE, &self.to_bytes(key)?)
    }

    /// The file's bytes.
    pub(super) fn to_bytes(self, key: &MacKey) -> io::Result<Vec<u8>> {
        Authenticated::new(self, key)?.to_line(LEN)
    }
}
