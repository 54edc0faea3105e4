//! What verifying goes through, line by line.

use std::collections::HashSet;

use serde::Deserialize;

use super::chain::{Chain, Head, link_from_text, split};
use super::directory::Directory;
use super::mounts::range;
use super::report::{Finding, Report};
use super::{EventName, Mounts, Seal, TrailError};
use crate::crypto::TrailKeys;
use crate::format::Epoch;

/// A trail that is being read.
pub(super) struct Check<'a> {
    keys: &'a TrailKeys,
    pub report: Report,
    chain: Option<Chain>,
    /// The last line that was where it belongs: what follows one that was inserted follows it.
    sound: Head,
    /// The file's name, and the number of its first line.
    file: (String, u64),
    /// Whole lines of it so far.
    pub line: u64,
    /// The file before ends in the middle of this line, the first of it maybe.
    cut: Option<Finding>,
    /// The newest mount that a line tells of.
    newest: Epoch,
    /// The newest mount of which a line tells the end.
    ended: Epoch,
    /// Mounts between those that lines tell of.
    untold: Vec<(Epoch, Epoch)>,
    /// Lines that do not begin a file.
    pub events: u64,
    /// Digests of findings that were looked into.
    pub acknowledged: HashSet<String>,
    /// Findings that are of earlier starts, which wrote them down.
    pub noted: usize,
    /// Lines that must be there with this link, and whether they were seen.
    anchors: Vec<(Head, &'static str, bool)>,
}

impl<'a> Check<'a> {
    /// Before the first file, of what must be there.
    pub fn new(keys: &'a TrailKeys, seal: Option<&Seal>, known: Option<Head>) -> Self {
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
            newest: Epoch(0),
            ended: Epoch(0),
            untold: Vec::new(),
            events: 0,
            acknowledged: HashSet::new(),
            noted: 0,
            anchors,
        }
    }

    /// Tells what is wrong at the place that was read last, or behind all with the trail as a whole.
    pub fn find(&mut self, what: impl Into<String>) {
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

    /// Reads the next file.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn file(&mut self, directory: &Directory, first: u64) -> Result<(), TrailError> {
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
        let told = numbered.told();
        self.events += u64::from(!is_begin);
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
            self.note(told);
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

    /// Takes what an authentic line tells of mounts, and of findings.
    fn note(&mut self, told: Option<Told>) {
        match told {
            Some(Told::Begin { epoch, after_clean_end }) => {
                let before = Epoch(epoch.0.saturating_sub(1));
                if after_clean_end && self.newest == before && self.ended < before {
                    self.find(format!(
                        "mount {} ended cleanly, and there is no line of its end",
                        before.0
                    ));
                }
                if epoch <= self.newest {
                    self.find(format!(
                        "mount {} began behind mount {}: the vault was set back",
                        epoch.0, self.newest.0
                    ));
                }
                if let Some(after) = self.told_upto()
                    && epoch.0 > after.0 + 1
                {
                    self.untold.push((Epoch(after.0 + 1), before));
                }
                self.newest = self.newest.max(epoch);
            }
            Some(Told::End(epoch)) => self.ended = self.ended.max(epoch),
            Some(Told::Gap { lost, epoch }) => {
                self.report.lost += lost;
                // What is missed then is the end of that mount, with the rest.
                self.ended = self.ended.max(epoch);
            }
            Some(Told::Acknowledged(digests)) => self.acknowledged.extend(digests),
            None => {}
        }
    }

    /// The newest mount that the lines so far tell of, if they tell of all up to it: files that went
    /// when there were enough had the lines of older ones.
    fn told_upto(&self) -> Option<Epoch> {
        (self.newest > Epoch(0) || self.report.first == 1).then_some(self.newest)
    }

    fn meet_anchors(&mut self, head: Head) {
        for (anchor, _, seen) in &mut self.anchors {
            *seen |= *anchor == head;
        }
    }

    /// Behind the last file: whether all is there that must be.
    pub fn end(&mut self) -> Head {
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

    /// Whether it is what the vault's seal says, which was read after it.
    ///
    /// # Errors
    /// [`TrailError::Io`] where that could not be read.
    pub fn compare(
        &mut self,
        seal: Result<Option<Seal>, TrailError>,
        mounts: Option<&Mounts>,
    ) -> Result<(), TrailError> {
        let seal = match seal {
            Ok(Some(seal)) => seal,
            // The first starts leave no other lines before they seal.
            Ok(None) if self.events == 0 && mounts.is_some_and(Mounts::need_no_lines) => {
                return Ok(());
            }
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
        self.report.without_trail = seal.passed_over;
        if let Some(gap) = seal.gap {
            self.report.lost += gap.lost;
            self.ended = self.ended.max(gap.epoch);
        }
        if first > seal.first || (files == 0 && seal.head.sequence > 0) {
            self.find(format!("the first lines, from {}, are missing", seal.first));
        }
        match mounts {
            Some(mounts) => self.compare_mounts(&seal, mounts),
            None => self.find("the vault's record of its mounts is missing or was changed"),
        }
        Ok(())
    }

    /// Whether there is a line of each mount.
    fn compare_mounts(&mut self, seal: &Seal, mounts: &Mounts) {
        let Mounts { newest, ended, without_line } = mounts;
        if *newest < self.newest {
            self.find(format!(
                "the trail tells of mount {} and the vault knows of {}: the vault was set back",
                self.newest.0, newest.0
            ));
        }
        let set_back = seal.set_back(*newest, without_line);
        // Of those that the seal does not know, `set_back` tells.
        let upto = seal.epoch.min(*newest);
        if let Some(after) = self.told_upto().filter(|after| *after < upto) {
            self.untold.push((Epoch(after.0 + 1), upto));
        }
        for (first, last) in std::mem::take(&mut self.untold) {
            for missing in without_line.outside(first, last) {
                self.find(format!(
                    "{} no line of the beginning: the trail was set back, or could not be kept then",
                    range(missing)
                ));
            }
        }
        set_back.into_iter().for_each(|what| self.find(what));
        if *ended && self.newest == *newest && self.ended < *newest {
            self.find(format!("mount {} ended cleanly, and there is no line of its end", newest.0));
        }
    }
}

/// What of a line tells its place.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Numbered {
    sequence: u64,
    event_name: EventName,
    request_parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    details: Option<serde_json::Value>,
}

impl Numbered {
    fn told(&self) -> Option<Told> {
        let details = || self.request_parameters.as_ref()?.details.as_ref();
        let epoch = || details()?.get("epoch")?.as_u64().map(Epoch);
        let is = |name| details().is_some_and(|details| details.get(name) == Some(&true.into()));
        match self.event_name {
            // A mount for reading alone is none of those that count.
            EventName::Mount | EventName::Unmount if is("readOnly") => None,
            EventName::Mount => {
                Some(Told::Begin { epoch: epoch()?, after_clean_end: is("afterCleanEnd") })
            }
            EventName::Unmount => epoch().map(Told::End),
            EventName::TrailGap => Some(Told::Gap {
                lost: details()?.get("lost")?.as_u64()?,
                epoch: epoch().unwrap_or_default(),
            }),
            EventName::AcknowledgeTrail => {
                let digests = details()?.get("findings")?.as_array()?.iter();
                let digests = digests.filter_map(serde_json::Value::as_str).map(str::to_owned);
                Some(Told::Acknowledged(digests.collect()))
            }
            _ => None,
        }
    }
}

/// What a line tells beside its place.
enum Told {
    /// A mount began.
    Begin {
        /// Its number.
        epoch: Epoch,
        /// The one before it had ended cleanly.
        after_clean_end: bool,
    },
    /// A mount ended.
    End(Epoch),
    /// Events were lost while the trail could not be written.
    Gap {
        /// How many.
        lost: u64,
        /// The mount that ended meanwhile, 0 for none.
        epoch: Epoch,
    },
    /// These findings were looked into.
    Acknowledged(Vec<String>),
}

/// Findings that are told, the rest being more of the kind.
const MOST: usize = 1000;

pub(super) fn numbered(body: &[u8]) -> Option<Numbered> {
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
