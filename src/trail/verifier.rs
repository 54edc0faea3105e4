//! Verifies a trail line by line, then against the checkpoint and the vault's record of its mounts.

use std::collections::HashSet;

use super::chain::{Chain, Head, split};
use super::claims::{Claims, FileStart, Statement, parse_claims};
use super::directory::Directory;
use super::mounts::mounts_have;
use super::report::{Finding, Report};
use super::{Checkpoint, EventName, Mounts, TrailError};
use crate::crypto::TrailKeys;
use crate::format::Epoch;

/// The most findings about single lines that are reported.
const MAX_FINDINGS: usize = 1000;

/// The state of verifying a trail.
pub(super) struct Verifier<'a> {
    keys: &'a TrailKeys,
    pub report: Report,
    chain: Option<Chain>,
    /// The last line that was in its place. A line behind an inserted one continues the chain here.
    sound: Head,
    file: CurrentFile,
    /// Whole lines of the file so far.
    pub line: u64,
    /// The incomplete line at the end of the file before.
    cut: Option<Finding>,
    /// The newest mount of which a line records the beginning.
    newest: Epoch,
    /// The newest mount of which a line records the end.
    ended: Epoch,
    /// Mounts without a line, between mounts with one.
    unrecorded: Vec<UnrecordedMounts>,
    /// Lines that do not begin a file.
    pub events: u64,
    /// Digests of findings that were acknowledged.
    pub acknowledged: HashSet<String>,
    /// Findings that first lines of files record.
    pub noted: usize,
    anchors: Vec<Anchor>,
}

/// The file that is being read.
#[derive(Default)]
struct CurrentFile {
    name: String,
    /// The number of its first line, by its name.
    first: u64,
}

/// Mounts from `first` to `last`.
struct UnrecordedMounts {
    first: Epoch,
    last: Epoch,
}

/// A line that the trail must hold.
struct Anchor {
    head: Head,
    /// Where it is known from.
    source: &'static str,
    seen: bool,
}

impl<'a> Verifier<'a> {
    /// Of a trail that must hold the lines that the checkpoint and `known` name.
    pub fn new(keys: &'a TrailKeys, checkpoint: Option<&Checkpoint>, known: Option<Head>) -> Self {
        let anchor = |head, source| Anchor { head, source, seen: false };
        let saved = checkpoint.map(|saved| anchor(saved.head, "the vault's seal"));
        let known = known.map(|head| anchor(head, "the head that was kept"));
        let anchors = saved.into_iter().chain(known).filter(|it| it.head.sequence > 0).collect();
        Self {
            keys,
            report: Report::default(),
            chain: None,
            sound: Head::START,
            file: CurrentFile::default(),
            line: 0,
            cut: None,
            newest: Epoch(0),
            ended: Epoch(0),
            unrecorded: Vec::new(),
            events: 0,
            acknowledged: HashSet::new(),
            noted: 0,
            anchors,
        }
    }

    /// Reports a defect of the line that was read last, or, after the last file, of the whole trail.
    pub fn find(&mut self, what: impl Into<String>) {
        let file = (!self.file.name.is_empty()).then(|| self.file.name.clone());
        let line = (self.line > 0).then_some(self.line);
        self.add(Finding { file, line, what: what.into() });
    }

    fn add(&mut self, finding: Finding) {
        let findings = &mut self.report.findings;
        // Findings about the whole trail come last and are always reported.
        if findings.len() < MAX_FINDINGS || finding.file.is_none() {
            findings.push(finding);
        } else if findings.len() == MAX_FINDINGS {
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
    pub fn read_file(&mut self, directory: &Directory, first: u64) -> Result<(), TrailError> {
        let path = directory.file(first);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.file = CurrentFile { name: name.unwrap_or_default(), first };
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
            let (file, line) = (Some(self.file.name.clone()), Some(self.line + 1));
            self.cut.get_or_insert(Finding { file, line, what: what.to_owned() });
        }
        Ok(())
    }

    /// Reports an incomplete line that no crash explains.
    fn report_cut(&mut self) {
        if let Some(finding) = self.cut.take() {
            self.add(finding);
        }
    }

    /// Forgets an incomplete line that a crash left: no whole line is missing behind it.
    fn forgive_cut(&mut self) {
        self.cut = None;
    }

    fn line(&mut self, line: &[u8]) {
        self.line += 1;
        self.report.lines += 1;
        let parts = split(line).and_then(|(body, link)| Some((body, link, parse_claims(body)?)));
        let Some((body, link, claims)) = parts else {
            self.report_cut();
            return self.find("this is no line of a trail");
        };
        let sequence = claims.sequence;
        let is_begin = claims.event_name == EventName::TrailBegin;
        let statement = claims.statement();
        self.events += u64::from(!is_begin);
        if self.line == 1 && !self.first_line(claims) {
            return self.continue_from(Head { sequence, link });
        } else if self.line > 1 && is_begin {
            self.find("the beginning of a file stands in the middle of one");
        }
        let Some(chain) = &mut self.chain else {
            self.find("what comes before it in its file is missing");
            return self.continue_from(Head { sequence, link });
        };
        let before = chain.head();
        let mut sound = chain.fits(sequence, body, link);
        if !sound && self.sound != before {
            // Behind an inserted line the next one continues the chain before it.
            let mut without = Chain::after(self.keys.line.clone(), self.sound);
            sound = without.fits(sequence, body, link);
        }
        let head = Head { sequence, link };
        chain.continue_from(head);
        if sound {
            self.sound = head;
            self.meet_anchors(head);
            self.note(statement);
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

    /// Checks that the first line of a file continues the file before it; returns whether it can be a
    /// first line at all.
    fn first_line(&mut self, line: Claims) -> bool {
        let Some(FileStart { before, trouble }) = line.file_start(self.file.first) else {
            self.report_cut();
            self.find("the file does not begin as one of its name does");
            return false;
        };
        let end = self.chain.as_ref().map(Chain::head);
        if end == Some(before) {
            self.forgive_cut();
        }
        self.report_cut();
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
        self.continue_from(before);
        true
    }

    fn continue_from(&mut self, head: Head) {
        self.sound = head;
        self.chain = Some(Chain::after(self.keys.line.clone(), head));
        if self.report.first == 0 {
            self.report.first = head.sequence.saturating_add(1);
        }
    }

    /// Takes note of what an authentic line states.
    fn note(&mut self, statement: Option<Statement>) {
        match statement {
            Some(Statement::Begin { epoch, after_clean_end }) => {
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
                if let Some(after) = self.recorded_up_to()
                    && epoch.0 > after.0 + 1
                {
                    let first = Epoch(after.0 + 1);
                    self.unrecorded.push(UnrecordedMounts { first, last: before });
                }
                self.newest = self.newest.max(epoch);
            }
            Some(Statement::End(epoch)) => self.ended = self.ended.max(epoch),
            Some(Statement::Gap { lost, epoch }) => {
                self.report.lost += lost;
                // The line of that mount's end is among the lost.
                self.ended = self.ended.max(epoch);
            }
            Some(Statement::Acknowledged(digests)) => self.acknowledged.extend(digests),
            None => {}
        }
    }

    /// The newest mount that the lines so far record; `None` where the lines of older mounts may have
    /// been in files that were removed as the oldest.
    fn recorded_up_to(&self) -> Option<Epoch> {
        (self.newest > Epoch(0) || self.report.first == 1).then_some(self.newest)
    }

    fn meet_anchors(&mut self, head: Head) {
        for anchor in &mut self.anchors {
            anchor.seen |= anchor.head == head;
        }
    }

    /// Checks, after the last file, that all lines are there that must be. Returns the end of the chain.
    pub fn end(&mut self) -> Head {
        let end = self.end_of_chain();
        if self.anchors.iter().all(|anchor| anchor.head.sequence <= end.sequence) {
            self.forgive_cut();
        }
        self.report_cut();
        self.file.name.clear();
        self.line = 0;
        self.report.last = end.sequence;
        self.report.head = end.to_string();
        for Anchor { head, source, seen } in std::mem::take(&mut self.anchors) {
            let sequence = head.sequence;
            if sequence > end.sequence {
                self.find(match sequence - end.sequence {
                    1 => format!("the last line, {sequence}, is missing: {source} has it"),
                    _ => format!(
                        "the last lines, {} to {sequence}, are missing: {source} has them",
                        end.sequence + 1
                    ),
                });
            } else if !seen && sequence >= self.report.first {
                self.find(format!("line {sequence} is not the one that {source} has"));
            }
        }
        end
    }

    /// Compares the trail with a checkpoint that was read after it, and with the vault's mounts.
    ///
    /// # Errors
    /// [`TrailError::Io`] where the checkpoint could not be read.
    pub fn compare(
        &mut self,
        checkpoint: Result<Option<Checkpoint>, TrailError>,
        mounts: Option<&Mounts>,
    ) -> Result<(), TrailError> {
        let checkpoint = match checkpoint {
            Ok(Some(checkpoint)) => checkpoint,
            // The first starts write a checkpoint before any other line.
            Ok(None) if self.events == 0 && mounts.is_some_and(Mounts::need_no_lines) => {
                return Ok(());
            }
            Ok(None) => {
                self.find("the vault has no record of its trail");
                return Ok(());
            }
            Err(error @ TrailError::Checkpoint) => {
                self.find(error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let Report { first, last, files, .. } = self.report;
        self.report.unsealed = last.saturating_sub(checkpoint.head.sequence);
        self.report.without_trail = checkpoint.without_trail;
        if let Some(gap) = checkpoint.gap {
            self.report.lost += gap.lost;
            self.ended = self.ended.max(gap.epoch);
        }
        if first > checkpoint.first || (files == 0 && checkpoint.head.sequence > 0) {
            self.find(format!("the first lines, from {}, are missing", checkpoint.first));
        }
        match mounts {
            Some(mounts) => self.compare_mounts(&checkpoint, mounts),
            None => self.find("the vault's record of its mounts is missing or was changed"),
        }
        Ok(())
    }

    /// Checks that there is a line of each mount.
    fn compare_mounts(&mut self, checkpoint: &Checkpoint, mounts: &Mounts) {
        let Mounts { newest, ended, without_line } = mounts;
        if *newest < self.newest {
            self.find(format!(
                "the trail tells of mount {} and the vault knows of {}: the vault was set back",
                self.newest.0, newest.0
            ));
        }
        let rollback = checkpoint.rollback_message(*newest, without_line);
        // `rollback` is about the mounts after these.
        let last = checkpoint.epoch.min(*newest);
        if let Some(after) = self.recorded_up_to().filter(|after| *after < last) {
            self.unrecorded.push(UnrecordedMounts { first: Epoch(after.0 + 1), last });
        }
        for UnrecordedMounts { first, last } in std::mem::take(&mut self.unrecorded) {
            for (first, last) in without_line.outside(first, last) {
                self.find(format!(
                    "{} no line of the beginning: the trail was set back, or could not be kept then",
                    mounts_have(first, last)
                ));
            }
        }
        rollback.into_iter().for_each(|what| self.find(what));
        if *ended && self.newest == *newest && self.ended < *newest {
            self.find(format!("mount {} ended cleanly, and there is no line of its end", newest.0));
        }
    }
}
