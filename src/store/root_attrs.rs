//! What the root of the mount shows as its mode and its owner. The vault's own directory has others:
//! nobody else is to reach what lies below it.

use std::io;

use base64::prelude::{BASE64_STANDARD, Engine};
use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

use super::description;
use super::own_files::OwnFiles;
use crate::crypto::MacKey;

const FILE: &str = "root.json";
/// The file always has this length, so that the next one can be written over it where the disk is
/// full.
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

#[derive(Serialize, Deserialize)]
struct Authenticated {
    #[serde(flatten)]
    attrs: RootAttrs,
    mac: String,
}

impl RootAttrs {
    /// Those of a directory itself.
    pub fn of(stat: &Stat) -> Self {
        Self { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid }
    }

    /// What was kept; `None` where nothing was, or it is not what was written.
    pub(super) fn read(own: &OwnFiles, key: &MacKey) -> Option<Self> {
        Self::parse(&own.read(FILE).ok()?, key)
    }

    /// Those in the file's bytes, authenticated.
    pub(super) fn parse(bytes: &[u8], key: &MacKey) -> Option<Self> {
        let kept: Authenticated = serde_json::from_slice(bytes).ok()?;
        let mac = description::decode(&kept.mac).ok()?;
        key.verify(&serde_json::to_vec(&kept.attrs).ok()?, &mac).ok()?;
        Some(kept.attrs)
    }

    /// Keeps them, durably.
    ///
    /// # Errors
    /// What the backing filesystem says; the old ones are then still there.
    pub(super) fn write(self, own: &OwnFiles, key: &MacKey) -> io::Result<()> {
        own.replace(FILE, &self.to_bytes(key)?)
    }

    /// The file's bytes.
    pub(super) fn to_bytes(self, key: &MacKey) -> io::Result<Vec<u8>> {
        let mac = BASE64_STANDARD.encode(key.mac(&serde_json::to_vec(&self)?));
        let mut bytes = serde_json::to_vec(&Authenticated { attrs: self, mac })?;
        bytes.resize(LEN - 1, b' ');
        bytes.push(b'\n');
        Ok(bytes)
    }
}
