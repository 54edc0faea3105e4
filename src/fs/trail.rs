//! What is recorded of the use that the mount's users make of master keys.
//!
//! An open leaves one event: `GenerateDataKey` where the file gets a new key by it (it is made,
//! filled or emptied), else `Decrypt`. What is done through an open descriptor leaves none, and a
//! name that is given or taken away none either, since no key is used; but what the policy refuses
//! is recorded wherever it is asked.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::open_file::OpenFile;
use super::permission::{Wanted, empties};
use super::{Caller, Fs, FsError, Inode};
use crate::format::KeyVersion;
use crate::keys::KeyError;
use crate::store::{FileError, Identity, IntegrityError, KeyChoice};
use crate::trail::{Event, EventName, Failed, Parameters, Purpose, Trail, UsedKey, Who};

/// So soon after an open that empties a file its truncate comes, unless the machine is busy.
const AT_ONCE: Duration = Duration::from_millis(10);

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
    pub(super) fn trail_admits(&self) -> Result<(), FsError> {
        Ok(self.trail.get().map_or(Ok(()), |trail| trail.admit())?)
    }

    /// Records that a file was opened, or that it was refused, and passes the outcome on.
    pub(super) fn record_open(
        &self,
        operation: &'static str,
        (inode, file): (Inode, &OpenFile),
        wanted: Wanted,
        caller: &Caller,
        outcome: Result<(), FsError>,
    ) -> Result<(), FsError> {
        let Some(trail) = self.trail.get() else { return outcome };
        // One that can't be read is told to who reads it.
        let identity = || self.identities.of((inode, file), self.vault.context()).ok().flatten();
        let emptied = empties(file, wanted, caller);
        let content = if emptied { None } else { identity() };
        let name = match content {
            None if wanted.changes() => EventName::GenerateDataKey,
            _ => EventName::Decrypt,
        };
        let path = || self.path_of(inode);
        if let Err(error) = &outcome {
            let asked = (name, Some(wanted));
            if let Some(mut event) = self.refused(operation, path, asked, caller.who(), error) {
                if let Some(Identity { file, by: (key, version) }) = identity() {
                    event.file = Some(file);
                    match &mut event.key {
                        Some(used) if used.id == key => used.version = Some(version),
                        Some(_) => {}
                        None => event.key = self.used_key(KeyChoice::Named(key), Some(version)),
                    }
                }
                // What is told is why it was refused in the first place.
                let _ = trail.record(event);
            }
            return outcome;
        }
        let (id, key) = match content {
            Some(Identity { file, by: (key, version) }) => {
                (file, self.used_key(KeyChoice::Named(key), Some(version)))
            }
            None => (file.next_id(), self.used_key(self.key_of_new_content(inode, file)?, None)),
        };
        let mut event = event(name, caller.who(), operation, path(), Some(wanted));
        (event.file, event.key) = (Some(id), key);
        trail.record(event)?;
        if emptied && !wanted.empty {
            *self.emptying.lock() = Some((inode, caller.pid, Instant::now()));
        }
        Ok(())
    }

    /// Whether a truncate to nothing is the rest of an open(2) that was recorded. The kernel sends it
    /// right after the open: where that was the last one seen, /proc has nothing to add.
    pub(super) fn is_rest_of_open(&self, inode: Inode, caller: &Caller) -> bool {
        let told = self.emptying.lock().take_if(|(file, thread, when)| {
            (*file, *thread) == (inode, caller.pid) && when.elapsed() < AT_ONCE
        });
        told.is_some() || caller.is_emptying()
    }

    /// Records that a file was made and opened.
    pub(super) fn record_create(
        &self,
        (parent, name): (Inode, &OsStr),
        file: &OpenFile,
        key: KeyChoice,
        wanted: Wanted,
        caller: &Caller,
    ) -> Result<(), FsError> {
        let Some(trail) = self.trail.get() else { return Ok(()) };
        let path = self.path_in(parent, name);
        let mut event =
            event(EventName::GenerateDataKey, caller.who(), "create", path, Some(wanted));
        (event.file, event.key) = (Some(file.next_id()), self.used_key(key, None));
        Ok(trail.record(event)?)
    }

    /// Records what was refused for want of a key or of permission, and passes the outcome on.
    pub(super) fn record_refused<T>(
        &self,
        operation: &'static str,
        path: impl FnOnce() -> PathBuf,
        who: impl FnOnce() -> Who,
        outcome: Result<T, FsError>,
    ) -> Result<T, FsError> {
        // Where there is no file, one was to be made.
        let asked = (EventName::GenerateDataKey, None);
        if let (Some(trail), Err(error)) = (self.trail.get(), &outcome)
            && let Some(event) = self.refused(operation, path, asked, who(), error)
        {
            let _ = trail.record(event);
        }
        outcome
    }

    /// The event of a refusal for want of a key or of permission, with the key that was wanting and
    /// the use of it: what a policy refused, or else what was asked for. `None` for one about
    /// something else.
    fn refused(
        &self,
        operation: &'static str,
        path: impl FnOnce() -> PathBuf,
        (asked, wanted): (EventName, Option<Wanted>),
        who: Who,
        error: &FsError,
    ) -> Option<Event> {
        let failed = refusal(error)?;
        let name = match error {
            FsError::Denied { action, .. } => EventName::of_action(*action),
            _ => asked,
        };
        let mut event = event(name, who, operation, path(), wanted);
        event.failed = Some(failed);
        let ring = self.vault.context().ring();
        let key = key_of(error).and_then(|name| ring.key(name).ok());
        event.key = key.map(|key| UsedKey::of(key, None));
        Some(event)
    }

    /// Records that a file's key was wrapped anew.
    pub(super) fn record_rewrap(
        &self,
        who: &Who,
        path: &Path,
        before: Option<Identity>,
        after: Option<Identity>,
    ) -> Result<(), FsError> {
        let (Some(trail), Some(before), Some(after)) = (self.trail.get(), before, after) else {
            return Ok(());
        };
        let ((from, version), (key, newer)) = (before.by, after.by);
        let mut event = Event::new(EventName::ReEncrypt, who.clone());
        event.file = Some(after.file);
        event.key = self.used_key(KeyChoice::Named(key), Some(newer));
        event.parameters = Parameters::of_file("rewrap", path.to_owned());
        let source = format!("{from}/{version}");
        event.parameters.details = Some(serde_json::json!({ "sourceKeyMaterialId": source }));
        Ok(trail.record(event)?)
    }

    /// A master key at a version or the current one.
    fn used_key(&self, key: KeyChoice, version: Option<KeyVersion>) -> Option<UsedKey> {
        let ring = self.vault.context().ring();
        let key = ring.key_by_id(&key.id(&ring)).ok()?;
        Some(UsedKey::of(key, Some(version.unwrap_or(key.current()))))
    }
}

fn event(
    name: EventName,
    who: Who,
    operation: &'static str,
    path: PathBuf,
    wanted: Option<Wanted>,
) -> Event {
    let mut event = Event::new(name, who);
    event.parameters = Parameters::of_file(operation, path);
    if let Some(wanted) = wanted {
        event.parameters.purpose = Purpose::of(wanted.read, wanted.changes());
        event.read_only = !wanted.changes();
    }
    event
}

/// The name of the master key that an error is about, where it says so.
fn key_of(error: &FsError) -> Option<&str> {
    let error = match error {
        FsError::Denied { key, .. } => return Some(key),
        FsError::Key(error) | FsError::File { error: FileError::Key(error), .. } => error,
        _ => return None,
    };
    match error {
        KeyError::Disabled(key)
        | KeyError::PendingDeletion { key, .. }
        | KeyError::Destroyed(key)
        | KeyError::NoSuchVersion { key, .. }
        | KeyError::VersionRetired { key, .. }
        | KeyError::Forged { key, .. } => Some(key),
        _ => None,
    }
}

/// What an error says of a key; `None` where it is about something else.
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
