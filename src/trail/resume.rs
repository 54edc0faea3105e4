//! Where a trail ends, for who goes on with it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;

use super::chain::{Head, link_to_text};
use super::directory::Directory;
use super::verify::Tail;
use super::{Seal, TrailError};
use crate::crypto::TrailKeys;
use crate::sys::{self, Show};

/// Beyond it are the numbers of files that somebody else put there: behind them is no room.
const FARTHEST: u64 = u64::MAX / 4;

/// Where a trail ends.
pub(super) struct End {
    /// The last line.
    pub head: Head,
    /// The last file, where it ends as it was sealed.
    pub open: Option<File>,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

impl End {
    /// Of the trail in a directory, of which the vault knows what was sealed.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn find(
        directory: &Directory,
        keys: &TrailKeys,
        sealed: Option<&Seal>,
    ) -> Result<Self, TrailError> {
        let files = directory.files()?;
        let sealed_head = sealed.map_or(Head::START, |seal| seal.head);
        let Some(&last) = files.last() else {
            let trouble = (sealed_head.sequence > 0)
                .then(|| format!("nothing is left of the trail in {}", directory.path().shown()));
            return Ok(Self { head: sealed_head, open: None, trouble });
        };
        if let Some(seal) = sealed
            && seal.file.0 == last
            && let Some(file) = open_as_sealed(directory, seal)?
        {
            return Ok(Self { head: seal.head, open: Some(file), trouble: None });
        }
        // A crash, or somebody else: the lines say themselves how far they are whole.
        let from = sealed.map_or(1, |seal| seal.file.0);
        let tail = files.partition_point(|first| *first < from.min(last));
        let tail = Tail::read(directory, &files[tail..], keys, sealed)?;
        let place = directory.path().shown();
        let trouble = match sealed {
            // The first starts leave no other lines before they seal.
            None if tail.events > 0 => {
                Some(format!("the vault has no record of the trail in {place}"))
            }
            _ if tail.is_sound && (sealed.is_none() || files.contains(&from)) => None,
            _ => Some(format!("the trail in {place} was changed; `atrest trail verify` says how")),
        };
        if trouble.is_some() {
            // Behind all that is there, so that nothing is written over.
            let end = (last - 1).saturating_add(tail.lines.max(1));
            let end = if end < FARTHEST { end } else { 0 };
            let head = Head { sequence: end.max(sealed_head.sequence), ..sealed_head };
            return Ok(Self { head, open: None, trouble });
        }
        if tail.lines == 0 {
            // A crash came before its first line, and the next file takes its place.
            directory.remove(last)?;
        }
        Ok(Self { head: tail.head, open: None, trouble })
    }
}

/// The file, if it ends where and as the seal says, and has no other name: that may be one of a copy,
/// which is not written to.
fn open_as_sealed(directory: &Directory, seal: &Seal) -> Result<Option<File>, TrailError> {
    let io = |source| TrailError::io("open", &directory.file(seal.file.0), source);
    let file = directory.open_file(seal.file.0, OFlags::RDWR).map_err(io)?;
    if file.metadata().map_err(io)?.len() != seal.file.1 || !sys::has_one_name(&file).map_err(io)? {
        return Ok(None);
    }
    let ending = format!("{}\"}}\n", link_to_text(&seal.head.link));
    let mut found = vec![0; ending.len()];
    let is_long = seal.file.1 >= ending.len() as u64;
    let read = is_long
        .then(|| file.read_exact_at(&mut found, seal.file.1 - ending.len() as u64).ok())
        .flatten();
    Ok((read.is_some() && found == ending.as_bytes()).then_some(file))
}
