//! Whether a trail is as it was written.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::{Chain, Head, link_from_text, split};
use super::directory::Directory;
use super::{EventName, Seal, TrailError};
use crate::crypto::TrailKeys;
use crate::format::Epoch;

/// What is wrong at a place of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file's name; none where it is about the trail as a whole.
    pub file: Option<String>,
    /// The line in the file, from 1.
    pub line: Option<u64>,
    /// In a sentence.
    pub what: String,
}

/// What [`verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Files looked at.
    pub files: u64,
    /// Lines looked at.
    pub lines: u64,
    /// The number of the first line that is kept.
    pub first: u64,
    /// The number of the last line.
    pub last: u64,
    /// Its head, to be kept elsewhere.
    pub head: String,
    /// Lines behind those that the vault knows of: of a mount that runs or has crashed.
    pub unsealed: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// What of a line tells its place.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Numbered {
    sequence: u64,
    event_name: EventName,
    request_parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    details: Option<serde_json::Value>,
}

fn numbered(body: &[u8]) -> Option<Numbered> {
    serde_json::from_slice(&[body, b"}"].concat()).ok()
}

/// What a file's first line, if it is one, says of the chain before it.
pub(super) fn begins(first: u64, body: &[u8]) -> Option<Head> {
    let line = numbered(body)?;
    if line.event_name != EventName::TrailBegin || line.sequence != first {
        return None;
    }
    let details = line.request_parameters?.details?;
    let link = link_from_text(details.get("previousChain")?.as_str()?.as_bytes())?;
    Some(Head { sequence: first.checked_sub(1)?, link })
}

/// Reads a whole trail. `seal` is the vault's, if it has one; `known` a head that was kept
/// elsewhere; `epoch` the newest mount that the vault knows of.
///
/// # Errors
/// [`TrailError::Missing`], [`TrailError::Io`]; what is wrong with the trail is in the report.
pub fn verify(
    directory: &Path,
    keys: &TrailKeys,
    seal: Option<&Seal>,
    known: Option<Head>,
    epoch: Option<Epoch>,
) -> Result<Report, TrailError> {
    let directory = Directory::find(directory)?;
    let files = directory.files()?;
    let mut check = Check::new(keys, seal, known);
    for &first in &files {
        check.begin_file(&directory, first);
        let ends_whole = directory.read(first, |line| {
            check.line(line);
            true
        })?;
        check.end_file(ends_whole);
    }
    Ok(check.finish(&files, seal, epoch))
}

struct Check<'a> {
    keys: &'a TrailKeys,
    report: Report,
    chain: Option<Chain>,
    /// The last line that was where it belongs: what follows one that was inserted follows it.
    sound: Head,
    /// The chain before a file, and its first line's number.
    file: (String, u64),
    line: u64,
    /// Lines that must be there with this link, and whether they were seen.
    anchors: Vec<(Head, &'static str, bool)>,
}

impl<'a> Check<'a> {
    fn new(keys: &'a TrailKeys, seal: Option<&Seal>, known: Option<Head>) -> Self {
        let sealed = seal.map(|seal| (seal.head, "the vault's seal", false));
        let known = known.map(|head| (head, "the head that was kept", false));
        let anchors =
            sealed.into_iter().chain(known).filter(|(head, ..)| head.sequence > 0).collect();
        Self {
            keys,
            report: Report::default(),
            chain: None,
            sound: Head::START,
            file: (String::new(), 0),
            line: 0,
            anchors,
        }
    }

    fn find(&mut self, what: String) {
        let file = (!self.file.0.is_empty()).then(|| self.file.0.clone());
        let line = (self.line > 0).then_some(self.line);
        self.report.findings.push(Finding { file, line, what });
    }

    fn begin_file(&mut self, directory: &Directory, first: u64) {
        let path = directory.file(first);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.file = (name.unwrap_or_default(), first);
        self.line = 0;
        self.report.files += 1;
    }

    fn line(&mut self, line: &[u8]) {
        self.line += 1;
        self.report.lines += 1;
        let parts = split(line).and_then(|(body, link)| Some((body, link, numbered(body)?)));
        let Some((body, link, Numbered { sequence, event_name, .. })) = parts else {
            return self.find("this is no line of a trail".to_owned());
        };
        if self.line == 1 {
            self.first_line(body);
        } else if event_name == EventName::TrailBegin {
            self.find("the beginning of a file stands in the middle of one".to_owned());
        }
        let Some(chain) = &mut self.chain else {
            return self.find("what comes before it in its file is missing".to_owned());
        };
        let expected = chain.head().sequence + 1;
        let (mut sound, before) = (chain.fits(sequence, body, link), chain.head());
        if !sound && self.sound != before {
            // Behind a line that does not belong here, the one after it may.
            let mut without = Chain::after(self.keys.line.clone(), self.sound);
            sound = without.fits(sequence, body, link);
        }
        chain.follow(sequence, body, link);
        if sound {
            self.sound = Head { sequence, link };
            self.meet_anchors(Head { sequence, link });
            return;
        }
        self.find(match sequence {
            _ if sequence == expected => {
                format!("line {sequence} was changed, or the one before it")
            }
            _ if sequence > expected => match sequence - expected {
                1 => format!("line {expected} is missing"),
                _ => format!("lines {expected} to {} are missing", sequence - 1),
            },
            _ => format!("line {sequence} stands where line {expected} belongs"),
        });
    }

    /// The first line of a file continues the file before it, or begins what is kept.
    fn first_line(&mut self, body: &[u8]) {
        let Some(before) = begins(self.file.1, body) else {
            return self.find("the file does not begin as one of its name does".to_owned());
        };
        match self.chain.as_ref().map(Chain::head) {
            Some(end) if end.sequence < before.sequence => {
                let (from, to) = (end.sequence + 1, before.sequence);
                self.find(format!("lines {from} to {to}, before this file, are missing"));
            }
            Some(end) if end != before => {
                self.find("the file does not continue the one before it".to_owned());
            }
            Some(_) | None => {}
        }
        self.sound = before;
        self.chain = Some(Chain::after(self.keys.line.clone(), before));
        if self.report.first == 0 {
            self.report.first = before.sequence + 1;
        }
    }

    fn end_file(&mut self, ends_whole: bool) {
        if self.line == 0 {
            self.find("the file has no whole line".to_owned());
        } else if !ends_whole {
            self.line += 1;
            // A crash in the middle of a line leaves that, behind what the vault knows of.
            let last = self.chain.as_ref().map_or(0, |chain| chain.head().sequence);
            let sealed = self.anchors.iter().any(|(head, ..)| head.sequence > last);
            if sealed {
                self.find("the line was cut".to_owned());
            }
        }
    }

    fn meet_anchors(&mut self, head: Head) {
        for (anchor, _, seen) in &mut self.anchors {
            *seen |= *anchor == head;
        }
    }

    fn finish(mut self, files: &[u64], seal: Option<&Seal>, epoch: Option<Epoch>) -> Report {
        self.file.0.clear();
        self.line = 0;
        let end = self.chain.as_ref().map_or(Head::START, Chain::head);
        self.report.last = end.sequence;
        self.report.head = end.to_string();
        for (anchor, name, seen) in std::mem::take(&mut self.anchors) {
            let Head { sequence, .. } = anchor;
            if sequence > end.sequence {
                let what = match sequence - end.sequence {
                    1 => format!("the last line, {sequence}, is missing: {name} has it"),
                    _ => format!(
                        "the last lines, {} to {sequence}, are missing: {name} has them",
                        end.sequence + 1
                    ),
                };
                self.find(what);
            } else if !seen && sequence >= self.report.first {
                self.find(format!("line {sequence} is not the one that {name} has"));
            }
        }
        match seal {
            Some(seal) => {
                self.report.unsealed = end.sequence.saturating_sub(seal.head.sequence);
                let first = self.report.first;
                if first > seal.first || (first == 0 && seal.head.sequence > 0 && files.is_empty())
                {
                    self.find(format!("the first lines, from {}, are missing", seal.first));
                }
                if let Some(Epoch(newest)) = epoch.filter(|epoch| *epoch > seal.epoch) {
                    let known = seal.epoch.0;
                    self.find(format!(
                        "the vault has been mounted {newest} times and its trail knows of {known}: \
                         the trail was set back, or could not be kept"
                    ));
                }
            }
            None => self.find("the vault has no record of its trail".to_owned()),
        }
        self.report
    }
}
