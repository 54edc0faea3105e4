//! Whether a trail is as it was written.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::{Chain, Head, link_from_text, split};
use super::directory::Directory;
use super::{EventName, Seal, SealKeeper, TrailError};
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

/// Findings that are told, the rest being more of the kind.
const MOST: usize = 1000;

fn numbered(body: &[u8]) -> Option<Numbered> {
    serde_json::from_slice(&[body, b"}"].concat()).ok()
}

/// What a file's first line says of the chain before it, and of what was wrong with that.
fn begins(first: u64, line: Numbered) -> Option<(Head, Option<String>)> {
    if line.event_name != EventName::TrailBegin || line.sequence != first {
        return None;
    }
    let details = line.request_parameters?.details?;
    let text = |field| details.get(field).and_then(serde_json::Value::as_str);
    let link = link_from_text(text("previousChain")?.as_bytes())?;
    Some((Head { sequence: first.checked_sub(1)?, link }, text("trouble").map(str::to_owned)))
}

/// Reads a whole trail, which may be written meanwhile. `keeper` has the vault's seal; `known` is a
/// head that was kept elsewhere; `epoch` the newest mount that the vault knew of before this.
///
/// # Errors
/// [`TrailError::Missing`], [`TrailError::Io`]; what is wrong with the trail is in the report.
pub fn verify(
    directory: &Path,
    keys: &TrailKeys,
    keeper: &dyn SealKeeper,
    known: Option<Head>,
    epoch: Option<Epoch>,
) -> Result<Report, TrailError> {
    let before = Seal::read(keeper, keys);
    let sealed = before.as_ref().ok().and_then(Option::as_ref);
    let mut check = loop {
        let directory = Directory::find(directory)?;
        let mut check = Check::new(keys, sealed, known);
        match directory.files()?.iter().try_for_each(|first| check.file(&directory, *first)) {
            // The oldest are taken away by a mount that goes on.
            Err(TrailError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            read => break read.map(|()| check)?,
        }
    };
    check.end();
    // Before they are, the vault is told: where one was missed, it is by now.
    check.compare(before.and_then(|_| Seal::read(keeper, keys)), epoch)?;
    Ok(check.report)
}

/// The last files of a trail, from the one on that the vault knows of.
pub(super) struct Tail {
    pub head: Head,
    pub is_sound: bool,
    /// Whole lines of the last file.
    pub lines: u64,
}

impl Tail {
    /// # Errors
    /// [`TrailError::Io`].
    pub fn read(
        directory: &Directory,
        files: &[u64],
        keys: &TrailKeys,
        seal: Option<&Seal>,
    ) -> Result<Self, TrailError> {
        let mut check = Check::new(keys, seal, None);
        for &first in files {
            check.file(directory, first)?;
        }
        let lines = check.line;
        let head = check.end();
        Ok(Self { head, is_sound: check.report.findings.len() == check.noted, lines })
    }
}

struct Check<'a> {
    keys: &'a TrailKeys,
    report: Report,
    chain: Option<Chain>,
    /// The last line that was where it belongs: what follows one that was inserted follows it.
    sound: Head,
    /// The file's name, and the number of its first line.
    file: (String, u64),
    /// Whole lines of it so far.
    line: u64,
    /// The file before ends in the middle of this line, the first of it maybe.
    cut: Option<Finding>,
    /// Findings that are of earlier starts, which wrote them down.
    noted: usize,
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
            cut: None,
            noted: 0,
            anchors,
        }
    }

    fn find(&mut self, what: impl Into<String>) {
        let file = (!self.file.0.is_empty()).then(|| self.file.0.clone());
        let line = (self.line > 0).then_some(self.line);
        self.add(Finding { file, line, what: what.into() });
    }

    fn add(&mut self, finding: Finding) {
        let findings = &mut self.report.findings;
        // What is wrong with the trail as a whole comes last, and is always told.
        if findings.len() < MOST || finding.file.is_none() {
            findings.push(finding);
        } else if findings.len() == MOST {
            let what = "there is more, which is not told".to_owned();
            findings.push(Finding { what, ..finding });
        }
    }

    fn end_of_chain(&self) -> Head {
        self.chain.as_ref().map_or(Head::START, Chain::head)
    }

    fn file(&mut self, directory: &Directory, first: u64) -> Result<(), TrailError> {
        let path = directory.file(first);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.file = (name.unwrap_or_default(), first);
        self.line = 0;
        self.report.files += 1;
        let ends_whole = directory.read(first, |line| {
            self.line(line);
            true
        })?;
        let what = match self.line {
            0 => "the file has no whole line",
            _ => "its last line was cut",
        };
        if self.line == 0 && first != self.end_of_chain().sequence.saturating_add(1) {
            self.find(what);
        } else if self.line == 0 || !ends_whole {
            let (file, line) = (Some(self.file.0.clone()), Some(self.line + 1));
            self.cut.get_or_insert(Finding { file, line, what: what.to_owned() });
        }
        Ok(())
    }

    /// A crash in the middle of a line leaves it cut; what was whole goes on behind it.
    fn settle_cut(&mut self, was_crash: bool) {
        if let Some(finding) = self.cut.take().filter(|_| !was_crash) {
            self.add(finding);
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.line += 1;
        self.report.lines += 1;
        let parts = split(line).and_then(|(body, link)| Some((body, link, numbered(body)?)));
        let Some((body, link, numbered)) = parts else {
            self.settle_cut(false);
            return self.find("this is no line of a trail");
        };
        let sequence = numbered.sequence;
        let is_begin = numbered.event_name == EventName::TrailBegin;
        if self.line == 1 && !self.first_line(numbered) {
            return self.go_on_behind(Head { sequence, link });
        } else if self.line > 1 && is_begin {
            self.find("the beginning of a file stands in the middle of one");
        }
        let Some(chain) = &mut self.chain else {
            self.find("what comes before it in its file is missing");
            return self.go_on_behind(Head { sequence, link });
        };
        let before = chain.head();
        let mut sound = chain.fits(sequence, body, link);
        if !sound && self.sound != before {
            // Behind a line that does not belong here, the one after it may.
            let mut without = Chain::after(self.keys.line.clone(), self.sound);
            sound = without.fits(sequence, body, link);
        }
        let head = Head { sequence, link };
        chain.go_on_behind(head);
        if sound {
            self.sound = head;
            self.meet_anchors(head);
            return;
        }
        let expected = before.sequence.saturating_add(1);
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

    /// The first line of a file continues the file before it, or begins what is kept; returns whether
    /// it is one that can.
    fn first_line(&mut self, line: Numbered) -> bool {
        let Some((before, trouble)) = begins(self.file.1, line) else {
            self.settle_cut(false);
            self.find("the file does not begin as one of its name does");
            return false;
        };
        let end = self.chain.as_ref().map(Chain::head);
        self.settle_cut(end == Some(before));
        match end {
            Some(end) if end.sequence < before.sequence => {
                let (from, to) = (end.sequence + 1, before.sequence);
                self.find(format!("lines {from} to {to}, before this file, are missing"));
            }
            Some(end) if end != before => {
                self.find("the file does not continue the one before it");
            }
            Some(_) | None => {}
        }
        if let Some(trouble) = trouble {
            self.noted += 1;
            self.find(format!("when the trail went on here: {trouble}"));
        }
        self.go_on_behind(before);
        true
    }

    fn go_on_behind(&mut self, head: Head) {
        self.sound = head;
        self.chain = Some(Chain::after(self.keys.line.clone(), head));
        if self.report.first == 0 {
            self.report.first = head.sequence.saturating_add(1);
        }
    }

    fn meet_anchors(&mut self, head: Head) {
        for (anchor, _, seen) in &mut self.anchors {
            *seen |= *anchor == head;
        }
    }

    /// Behind the last file: whether all is there that must be.
    fn end(&mut self) -> Head {
        let end = self.end_of_chain();
        self.settle_cut(self.anchors.iter().all(|(head, ..)| head.sequence <= end.sequence));
        self.file.0.clear();
        self.line = 0;
        self.report.last = end.sequence;
        self.report.head = end.to_string();
        for (anchor, name, seen) in std::mem::take(&mut self.anchors) {
            let Head { sequence, .. } = anchor;
            if sequence > end.sequence {
                self.find(match sequence - end.sequence {
                    1 => format!("the last line, {sequence}, is missing: {name} has it"),
                    _ => format!(
                        "the last lines, {} to {sequence}, are missing: {name} has them",
                        end.sequence + 1
                    ),
                });
            } else if !seen && sequence >= self.report.first {
                self.find(format!("line {sequence} is not the one that {name} has"));
            }
        }
        end
    }

    fn compare(
        &mut self,
        seal: Result<Option<Seal>, TrailError>,
        epoch: Option<Epoch>,
    ) -> Result<(), TrailError> {
        let seal = match seal {
            Ok(Some(seal)) => seal,
            Ok(None) => {
                self.find("the vault has no record of its trail");
                return Ok(());
            }
            Err(error @ TrailError::Seal) => {
                self.find(error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let Report { first, last, files, .. } = self.report;
        self.report.unsealed = last.saturating_sub(seal.head.sequence);
        if first > seal.first || (files == 0 && seal.head.sequence > 0) {
            self.find(format!("the first lines, from {}, are missing", seal.first));
        }
        if let Some(what) = epoch.and_then(|newest| seal.set_back(newest)) {
            self.find(what);
        }
        Ok(())
    }
}
