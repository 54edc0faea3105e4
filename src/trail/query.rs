//! Looking things up in a trail. Lines are believed here; [`super::verify`] says whether they may be.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::chain::{closed, split};
use super::directory::Directory;
use super::line::Line;
use super::{EventName, TrailError};

/// Which lines are wanted: those that meet all of it.
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

    /// The files that can hold such lines: the first line of each tells where and when it begins.
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

/// Reads a file, if it was not taken away meanwhile, as the oldest are.
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

/// What `use_it` makes of a line; `None` for what is none.
pub(super) fn parsed<T>(
    line: &[u8],
    room: &mut Vec<u8>,
    use_it: impl FnOnce(&Line<'_>) -> T,
) -> Option<T> {
    closed(split(line)?.0, room);
    serde_json::from_slice::<Line<'_>>(room).ok().as_ref().map(use_it)
}

/// Hands the lines that meet `filter` to `take`, as they are written and as what they say, oldest
/// first, until it has enough.
///
/// # Errors
/// [`TrailError::Missing`], [`TrailError::Io`].
pub fn query(
    directory: &Path,
    filter: &Filter,
    take: &mut dyn FnMut(&str, &Line<'_>) -> bool,
) -> Result<(), TrailError> {
    let directory = Directory::find(directory)?;
    let (mut go_on, mut room) = (true, Vec::new());
    for first in filter.files(&directory)? {
        read(&directory, first, |text| {
            let seen = |after| number_of(text).is_some_and(|number| number <= after);
            if filter.after.is_some_and(seen) {
                return true;
            }
            let taken = parsed(text, &mut room, |line| {
                !filter.meets(line) || take(&String::from_utf8_lossy(text), line)
            });
            go_on = taken.unwrap_or(true);
            go_on
        })?;
        if !go_on {
            break;
        }
    }
    Ok(())
}

/// Somebody who could read a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Their user.
    pub uid: u32,
    /// By which program.
    pub executable: String,
    /// How often they opened it.
    pub opened: u64,
    /// How often they were refused.
    pub refused: u64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}

/// Who opened for reading what lies or lay at `path`, under whichever name they did. `now` is the id
/// of the file that lies there, if one does.
///
/// # Errors
/// As [`query`].
pub fn who_read(
    directory: &Path,
    path: &str,
    now: Option<String>,
) -> Result<Vec<Reader>, TrailError> {
    let mut lives: HashSet<String> = now.into_iter().collect();
    let at_path = Filter { path: Some(path.to_owned()), ..Filter::default() };
    query(directory, &at_path, &mut |_, line| {
        let request = &line.request_parameters;
        if request.path.as_deref() == Some(path) {
            lives.extend(request.encryption_context.file_id.as_deref().map(str::to_owned));
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
        let life = request.encryption_context.file_id.as_deref();
        let is_it =
            life.is_some_and(|life| lives.contains(life)) || request.path.as_deref() == Some(path);
        if is_it && request.access.is_some_and(|access| access.reads()) {
            note(&mut readers, line);
        }
        true
    })?;
    Ok(readers.into_values().collect())
}

fn note(readers: &mut BTreeMap<(u32, String), Reader>, line: &Line<'_>) {
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
