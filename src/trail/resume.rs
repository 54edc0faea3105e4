//! Finding the end of a trail, to append to it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;

use super::chain::{Head, link_to_text};
use super::directory::Directory;
use super::verify::Tail;
use super::{Checkpoint, TrailError};
use crate::crypto::TrailKeys;
use crate::sys::{self, Show};

/// Lines with greater numbers are not continued: only a forged file has them, and few numbers follow.
const MAX_SEQUENCE: u64 = u64::MAX / 4;

/// The end of a trail.
pub(super) struct ResumePoint {
    /// The last line.
    pub head: Head,
    /// The last file, where it ends as the checkpoint says.
    pub open: Option<File>,
    /// What is wrong with the trail.
    pub trouble: Option<String>,
}

impl ResumePoint {
    /// The end of the trail in `directory`, whose checkpoint is `saved`.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn find(
        directory: &Directory,
        keys: &TrailKeys,
        saved: Option<&Checkpoint>,
    ) -> Result<Self, TrailError> {
        let files = directory.files()?;
        let saved_head = saved.map_or(Head::START, |saved| saved.head);
        let Some(&last) = files.last() else {
            let trouble = (saved_head.sequence > 0)
                .then(|| format!("nothing is left of the trail in {}", directory.path().shown()));
            return Ok(Self { head: saved_head, open: None, trouble });
        };
        if let Some(saved) = saved
            && saved.file.first == last
            && let Some(file) = open_as_saved(directory, saved)?
        {
            return Ok(Self { head: saved.head, open: Some(file), trouble: None });
        }
        // After a crash or tampering, the MACs of the lines tell which of them are whole.
        let from = saved.map_or(1, |saved| saved.file.first);
        let tail = files.partition_point(|first| *first < from.min(last));
        let tail = Tail::read(directory, &files[tail..], keys, saved)?;
        let path = directory.path().shown();
        let trouble = match saved {
            // The first starts write a checkpoint before any other line.
            None if tail.events > 0 => {
                Some(format!("the vault has no record of the trail in {path}"))
            }
            _ if tail.is_sound && (saved.is_none() || files.contains(&from)) => None,
            _ => Some(format!("the trail in {path} was changed; `atrest trail verify` says how")),
        };
        if trouble.is_some() {
            // Numbered behind all existing lines, so that none of them is overwritten.
            let end = (last - 1).saturating_add(tail.lines.max(1));
            let end = if end < MAX_SEQUENCE { end } else { 0 };
            let head = Head { sequence: end.max(saved_head.sequence), ..saved_head };
            return Ok(Self { head, open: None, trouble });
        }
        if tail.lines == 0 {
            // A crash came before its first line. The next file gets the same name.
            directory.remove(last)?;
        }
        Ok(Self { head: tail.head, open: None, trouble })
    }
}

/// The file, if it ends where and as the checkpoint says and has a single name: another name may be that
/// of a copy, which must not change.
fn open_as_saved(directory: &Directory, saved: &Checkpoint) -> Result<Option<File>, TrailError> {
    let io = |source| TrailError::io("open", &directory.file(saved.file.first), source);
    let file = directory.open_file(saved.file.first, OFlags::RDWR).map_err(io)?;
    let is_whole = file.metadata().map_err(io)?.len() == saved.file.len;
    if !is_whole || !sys::has_one_name(&file).map_err(io)? {
        return Ok(None);
    }
    let ending = format!("{}\"}}\n", link_to_text(&saved.head.link));
    let mut found = vec![0; ending.len()];
    let is_long = saved.file.len >= ending.len() as u64;
    let read = is_long
        .then(|| file.read_exact_at(&mut found, saved.file.len - ending.len() as u64).ok())
        .flatten();
    Ok((read.is_some() && found == ending.as_bytes()).then_some(file))
}
