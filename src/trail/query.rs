//! Queries. They do not authenticate lines: [`super::verify()`] does.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::chain::{close_json, split};
use super::directory::Directory;
use super::line::Line;
use super::{EventName, TrailError};

/// Selects lines: those that meet all conditions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Of this user.
    pub user: Option<u32>,
    /// Of this path in the mount, or below it.
    pub path: Option<String>,
    /// Of a master key, by name or id.
    pub key: Option<String>,
    /// Of these kinds; empty for all.
    pub events: Vec<EventName>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Of what was refused or failed alone.
    pub denied: bool,
    /// Behind the line of this number.
    pub after: Option<u64>,
}

impl Filter {
    /// Whether a line meets it.
    pub fn meets(&self, line: &Line<'_>) -> bool {
        let is_below = |wanted: &str| {
            line.request_parameters.path.as_deref().is_some_and(|path| is_at_or_below(path, wanted))
        };
        let is_key =
            |wanted: &str| line.resources.iter().any(|key| key.name == wanted || key.id == wanted);
        self.after.is_none_or(|after| line.sequence > after)
            && self.user.is_none_or(|user| line.user_identity.uid == user)
            && (self.events.is_empty() || self.events.contains(&line.event_name))
            && (!self.denied || line.error_code.is_some())
            && self.since.is_none_or(|since| line.event_time >= since)
            && self.until.is_none_or(|until| line.event_time < until)
            && self.key.as_deref().is_none_or(is_key)
            && self.path.as_deref().is_none_or(is_below)
    }

    /// The files that can hold such lines, by the number and time of each file's first line.
    fn files(&self, directory: &Directory) -> Result<Vec<u64>, TrailError> {
        let files = directory.files()?;
        let mut wanted = Vec::with_capacity(files.len());
        for (at, &first) in files.iter().enumerate() {
            let next = files.get(at + 1).copied();
            let is_before = match (next, self.after, self.since) {
                (Some(next), Some(after), _) if next <= after.saturating_add(1) => true,
                (Some(next), _, Some(since)) => {
                    begun(directory, next)?.is_some_and(|begun| begun < since)
                }
                _ => false,
            };
            if !is_before {
                wanted.push(first);
            }
        }
        Ok(wanted)
    }
}

fn is_at_or_below(path: &str, wanted: &str) -> bool {
    wanted.is_empty() || Path::new(path).starts_with(wanted)
}

fn begun(directory: &Directory, first: u64) -> Result<Option<Timestamp>, TrailError> {
    let mut begun = None;
    read(directory, first, |line| {
        begun = parsed(line, &mut Vec::new(), |line| line.event_time);
        false
    })?;
    Ok(begun)
}

/// The number that a line begins with.
pub fn number(line: &str) -> Option<u64> {
    number_of(line.as_bytes())
}

pub(super) fn number_of(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"sequence\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// Reads a file, unless it was removed meanwhile as the oldest one.
fn read(
    directory: &Directory,
    first: u64,
    take: impl FnMut(&[u8]) -> bool,
) -> Result<(), TrailError> {
    match directory.read(first, take) {
        Err(TrailError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        read => read.map(|_| ()),
    }
}

/// Passes a line to `use_it`; `None` where it is not a line of a trail.
pub(super) fn parsed<T>(
    line: &[u8],
    buffer: &mut Vec<u8>,
    use_it: impl FnOnce(&Line<'_>) -> T,
) -> Option<T> {
    close_json(split(line)?.0, buffer);
    serde_json::from_slice::<Line<'_>>(buffer).ok().as_ref().map(use_it)
}

/// Passes the lines that meet `filter` to `take`, oldest first, as text and parsed, until it returns
/// false.
///
/// # Errors
/// [`TrailError::Missing`], [`TrailError::Io`].
pub fn query(
    directory: &Path,
    filter: &Filter,
    take: &mut dyn FnMut(&str, &Line<'_>) -> bool,
) -> Result<(), TrailError> {
    let directory = Directory::find(directory)?;
    let (mut is_wanted, mut buffer) = (true, Vec::new());
    for first in filter.files(&directory)? {
        read(&directory, first, |text| {
            let seen = |after| number_of(text).is_some_and(|number| number <= after);
            if filter.after.is_some_and(seen) {
                return true;
            }
            let taken = parsed(text, &mut buffer, |line| {
                !filter.meets(line) || take(&String::from_utf8_lossy(text), line)
            });
            is_wanted = taken.unwrap_or(true);
            is_wanted
        })?;
        if !is_wanted {
            break;
        }
    }
    Ok(())
}

/// A user and program that opened a file for reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Their user.
    pub uid: u32,
    /// The program.
    pub executable: String,
    /// How often they opened the file.
    pub opened: u64,
    /// How often they were refused.
    pub refused: u64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}

/// The readers of every file that is or was at `path`, whatever its name was when they opened it.
/// `current` is the id of the file at `path`, if there is one.
///
/// # Errors
/// As [`query`].
pub fn who_read(
    directory: &Path,
    path: &str,
    current: Option<String>,
) -> Result<Vec<Reader>, TrailError> {
    let mut file_ids: HashSet<String> = current.into_iter().collect();
    let at_path = Filter { path: Some(path.to_owned()), ..Filter::default() };
    query(directory, &at_path, &mut |_, line| {
        let request = &line.request_parameters;
        if request.path.as_deref() == Some(path) {
            file_ids.extend(request.encryption_context.file_id.as_deref().map(str::to_owned));
        }
        true
    })?;
    let mut readers = BTreeMap::new();
    let opens = Filter {
        events: vec![EventName::Decrypt, EventName::GenerateDataKey],
        ..Filter::default()
    };
    query(directory, &opens, &mut |_, line| {
        let request = &line.request_parameters;
        let file_id = request.encryption_context.file_id.as_deref();
        let is_match = file_id.is_some_and(|id| file_ids.contains(id))
            || request.path.as_deref() == Some(path);
        if is_match && request.access.is_some_and(|access| access.reads()) {
            count_read(&mut readers, line);
        }
        true
    })?;
    Ok(readers.into_values().collect())
}

fn count_read(readers: &mut BTreeMap<(u32, String), Reader>, line: &Line<'_>) {
    let who = &line.user_identity;
    let executable = who.executable.as_deref().unwrap_or_default().to_owned();
    let reader = readers.entry((who.uid, executable.clone())).or_insert(Reader {
        uid: who.uid,
        executable,
        opened: 0,
        refused: 0,
        first: line.event_time,
        last: line.event_time,
    });
    reader.last = line.event_time;
    match line.error_code {
        None => reader.opened += 1,
        Some(_) => reader.refused += 1,
    }
}
