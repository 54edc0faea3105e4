//! What the daemon answers about its trail.

use std::path::{Path, PathBuf};

use crate::daemon::trail_readers::Readers;
use crate::fs::Fs;
use crate::keys::policy::Subject;
use crate::service::failure::Failure;
use crate::service::request::TrailRequest;
use crate::service::response::Response;
use crate::service::trail_keeping::directory;
use crate::service::trail_report::{Beside, acknowledge_in, parse_head, trail_keys, verified_with};
use crate::store::Vault;
use crate::trail::{self, TrailError};

/// Lines that the daemon hands over at once.
const BATCH: usize = 20_000;

/// And in bytes, but for the last of them.
const BATCH_LEN: usize = 16 << 20;

/// What the daemon answers a process, of which it notes how far it has come.
///
/// # Errors
/// [`Exit::Trail`] where it keeps none; those of reading.
pub fn answer_about_trail(
    request: &TrailRequest,
    (readers, subject): (&Readers, &Subject),
    vault: &Path,
    fs: &Fs,
) -> Result<Response, Failure> {
    // A copy: a change of the keys would wait, and all others behind it, while the disk is at work.
    let ring = || fs.vault().context().ring().clone();
    let directory = match fs.trail() {
        Some(kept) => {
            kept.flush();
            PathBuf::from(kept.status().directory)
        }
        None => directory(vault, None, || trail_keys(&ring()))?,
    };
    match request {
        TrailRequest::Flush => Ok(directory.into()),
        TrailRequest::Lines(filter) => {
            let (mut lines, mut last) = (Vec::new(), filter.after.unwrap_or_default());
            let mut len = 0;
            trail::query(&directory, filter, &mut |text, line| {
                lines.push(text.to_owned());
                last = line.sequence;
                len += text.len();
                lines.len() < BATCH && len < BATCH_LEN
            })?;
            readers.note(subject, last);
            Ok(lines.into())
        }
        TrailRequest::WhoRead(path) => {
            let now = Vault::file_id(vault, path).map(|id| id.to_string());
            Ok(trail::who_read(&directory, &path.to_string_lossy(), now)?.into())
        }
        TrailRequest::Acknowledge(reason) => {
            let ring = ring();
            let keys = trail_keys(&ring)?;
            let kept = fs.trail().ok_or_else(|| TrailError::Missing(directory.clone()))?;
            let beside = Beside::of_open(vault, fs.vault(), &ring);
            let report = verified_with(vault, (&directory, beside), &keys, None)?;
            acknowledge_in(kept, (&report, reason), &keys, (&ring, subject))?;
            Ok(report.into())
        }
        TrailRequest::Verify(head) => {
            let head = parse_head(head.as_deref())?;
            let ring = ring();
            let keys = trail_keys(&ring)?;
            let beside = Beside::of_open(vault, fs.vault(), &ring);
            Ok(verified_with(vault, (&directory, beside), &keys, head)?.into())
        }
    }
}
