//! What is recorded of the use that the mount's users make of master keys.
//!
//! An open leaves one event: `GenerateDataKey` where the file gets a new key by it (it is made,
//! filled or emptied), else `Decrypt`. What is done through an open descriptor leaves none, and a
//! name that is given or taken away none either, since no key is used; but every refusal by the
//! policy is recorded.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::authorize::KeyUse;
use super::open_mode::OpenMode;
use crate::format::KeyVersion;
use crate::fs::ops::open_files::open_file::OpenFile;
use crate::fs::{Fs, FsError, Inode, Subject};
use crate::keys::KeyError;
use crate::store::{FileError, Identity, IntegrityError, KeyChoice};
use crate::trail::{Event, EventName, Failed, Parameters, Purpose, Trail, UsedKey};

/// The truncate of an open that empties a file follows the open within this time, unless the
/// machine is busy.
const TRUNCATE_DELAY: Duration = Duration::from_millis(10);

impl KeyUse<'_> {
    /// The path in the line of this use: one that the policy was asked about, else the path now.
    fn path(&self) -> PathBuf {
        let first = self.paths.get().and_then(|paths| paths.first().cloned());
        first.unwrap_or_else(|| self.fs.path_of(self.file.inode()))
    }
}

impl Fs {
    /// From now on uses of keys are recorded there. Before anything is opened; the first one stays.
    pub fn keep_trail(&self, trail: Arc<Trail>) {
        // There is one mount to a file system, so there is no second trail to lose.
        let _ = self.trail.set(trail);
    }

    /// Where uses of keys are recorded, if they are.
    pub fn trail(&self) -> Option<&Arc<Trail>> {
        self.trail.get()
    }

    /// Before something that can't be taken back: whether keys may be used as far as the trail is
    /// concerned.
    pub(in crate::fs) fn require_trail(&self) -> Result<(), FsError> {
        Ok(self.trail.get().map_or(Ok(()), |trail| trail.check_writable())?)
    }

    /// Records a use of a file's key, or that it was refused, and passes the outcome on.
    pub(in crate::fs) fn record_use(
        &self,
        key_use: &KeyUse<'_>,
        outcome: Result<(), FsError>,
    ) -> Result<(), FsError> {
        let Some(trail) = self.trail.get() else { return outcome };
        let KeyUse { operation, file, mode, subject, .. } = *key_use;
        let is_emptied = key_use.empties();
        let content = if is_emptied { None } else { key_use.identity() };
        let name = match content {
            None if mode.changes() => EventName::GenerateDataKey,
            _ => EventName::Decrypt,
        };
        if let Err(error) = &outcome {
            let refused = self.refused(name, error, |name| {
                event(name, subject, operation.word(), key_use.path(), Some(mode))
            });
            if let Some(mut event) = refused {
                if let Some(Identity { file, by: (key, version) }) = key_use.identity() {
                    event.file = Some(file);
                    match &mut event.key {
                        Some(used) if used.id == key => used.version = Some(version),
                        Some(_) => {}
                        None => event.key = self.used_key(KeyChoice::Named(key), Some(version)),
                    }
                }
                // The caller learns of the refusal, which came first.
                let _ = trail.record(event);
            }
            return outcome;
        }
        let (id, key) = match content {
            Some(Identity { file, by: (key, version) }) => {
                (file, self.used_key(KeyChoice::Named(key), Some(version)))
            }
            None => (file.next_id(), self.used_key(self.key_of_new_content(file)?, None)),
        };
        let mut event = event(name, subject, operation.word(), key_use.path(), Some(mode));
        (event.file, event.key) = (Some(id), key);
        trail.record(event)?;
        if is_emptied && !mode.empty {
            *self.emptying.lock() = Some((file.inode(), subject.pid, Instant::now()));
        }
        Ok(())
    }

    /// Whether a truncate to nothing is the rest of an open(2) that was recorded. The kernel sends it
    /// right after the open: where that was the last one seen, /proc has nothing to add.
    pub(in crate::fs) fn is_truncate_of_recorded_open(
        &self,
        inode: Inode,
        subject: &Subject,
    ) -> bool {
        let recorded = self.emptying.lock().take_if(|(file, thread, when)| {
            (*file, *thread) == (inode, subject.pid) && when.elapsed() < TRUNCATE_DELAY
        });
        recorded.is_some() || subject.is_emptying()
    }

    /// Records that a file was made and opened.
    pub(in crate::fs) fn record_create(
        &self,
        (parent, name): (Inode, &OsStr),
        file: &OpenFile,
        key: KeyChoice,
        mode: OpenMode,
        subject: &Subject,
    ) -> Result<(), FsError> {
        let Some(trail) = self.trail.get() else { return Ok(()) };
        let path = self.path_in(parent, name);
        let mut event = event(EventName::GenerateDataKey, subject, "create", path, Some(mode));
        (event.file, event.key) = (Some(file.next_id()), self.used_key(key, None));
        Ok(trail.record(event)?)
    }

    /// Records what was refused for want of a key or of permission, and passes the outcome on.
    pub(in crate::fs) fn record_refused(
        &self,
        operation: &'static str,
        path: impl FnOnce() -> PathBuf,
        subject: &Subject,
        outcome: Result<(), FsError>,
    ) -> Result<(), FsError> {
        // Where there is no file, one was to be made.
        let name = EventName::GenerateDataKey;
        if let (Some(trail), Err(error)) = (self.trail.get(), &outcome)
            && let Some(event) =
                self.refused(name, error, |name| event(name, subject, operation, path(), None))
        {
            let _ = trail.record(event);
        }
        outcome
    }

    /// The event of a refusal for want of a key or of permission, with the key that was refused. Its
    /// name is the use that the policy refused, or else `asked`. `None` for another error.
    fn refused(
        &self,
        asked: EventName,
        error: &FsError,
        event: impl FnOnce(EventName) -> Event,
    ) -> Option<Event> {
        let failed = refusal(error)?;
        let mut event = event(match error {
            FsError::Denied { action, .. } => EventName::of_action(*action),
            _ => asked,
        });
        event.failed = Some(failed);
        let ring = self.vault.context().ring();
        let key = key_of(error).and_then(|name| ring.key(name).ok());
        event.key = key.map(|key| UsedKey::of(key, None));
        Some(event)
    }

    /// Records that a file's key was wrapped anew.
    pub(in crate::fs) fn record_rewrap(
        &self,
        subject: &Subject,
        path: &Path,
        before: Option<Identity>,
        after: Option<Identity>,
    ) -> Result<(), FsError> {
        let (Some(trail), Some(before), Some(after)) = (self.trail.get(), before, after) else {
            return Ok(());
        };
        let ((from, version), (key, newer)) = (before.by, after.by);
        let mut event = Event::new(EventName::ReEncrypt, subject.clone());
        event.file = Some(after.file);
        event.key = self.used_key(KeyChoice::Named(key), Some(newer));
        event.parameters = Parameters::of_file("rewrap", path.to_owned());
        let source = format!("{from}/{version}");
        event.parameters.details = Some(serde_json::json!({ "sourceKeyMaterialId": source }));
        Ok(trail.record(event)?)
    }

    /// A master key, the default one for `None`, at a version or the current one.
    fn used_key(&self, key: KeyChoice, version: Option<KeyVersion>) -> Option<UsedKey> {
        let ring = self.vault.context().ring();
        let key = ring.key_by_id(&key.id(&ring)).ok()?;
        Some(UsedKey::of(key, Some(version.unwrap_or(key.current()))))
    }
}

fn event(
    name: EventName,
    subject: &Subject,
    operation: &'static str,
    path: PathBuf,
    mode: Option<OpenMode>,
) -> Event {
    let mut event = Event::new(name, subject.clone().with_executable());
    event.parameters = Parameters::of_file(operation, path);
    if let Some(mode) = mode {
        event.parameters.purpose = Purpose::of(mode.read, mode.changes());
        event.read_only = !mode.changes();
    }
    event
}

/// The name of the master key in an error, where it has one.
fn key_of(error: &FsError) -> Option<&str> {
    let error = match error {
        FsError::Denied { key, .. } => return Some(key),
        FsError::Key(error) | FsError::File { error: FileError::Key(error), .. } => error,
        _ => return None,
    };
    match error {
        KeyError::Ring(error) => error.key(),
        _ => None,
    }
}

/// The refusal of a key in an error; `None` for another error.
fn refusal(error: &FsError) -> Option<Failed> {
    match error {
        FsError::Denied { .. } => Some(Failed::denied(error.to_string())),
        FsError::Key(key) | FsError::File { error: FileError::Key(key), .. } => Some(key.into()),
        FsError::File { error: FileError::Integrity(IntegrityError::WrappedKey), .. } => {
            Some(Failed::forged(error.to_string()))
        }
        FsError::NotFound
        | FsError::Stale
        | FsError::Reserved
        | FsError::Unsupported
        | FsError::Invalid
        | FsError::PastEnd
        | FsError::ForgedAssignment(_)
        | FsError::Trail(_)
        | FsError::Backing(_)
        | FsError::File { .. } => None,
    }
}
