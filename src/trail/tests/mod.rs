//! Tests of the trail, by what they show.

mod campaign;
mod crash;
mod directory;
mod durable;
mod failing;
mod query;
mod tampering;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::directory::Directory;
use super::writer::{TimedEvent, Writer};
use super::*;
use crate::crypto::{Secret, TrailKeys};
use crate::format::{Epoch, EpochSet, VaultId};
use crate::keys::policy::Subject;

/// A vault's memory of its trail.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Option<Vec<u8>>>>);

impl CheckpointStore for Memory {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().clone())
    }

    fn write(&self, bytes: &[u8], _durability: Durability) -> io::Result<()> {
        *self.0.lock() = Some(bytes.to_owned());
        Ok(())
    }
}

/// A trail in a directory of its own, and what the vault knows.
struct Scratch {
    directory: tempfile::TempDir,
    memory: Memory,
    vault_id: VaultId,
    keys: TrailKeys,
    settings: Settings,
    epoch: Epoch,
    /// Mounts that leave no line of themselves.
    without_line: EpochSet,
}

impl Scratch {
    fn with(settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let vault_id = VaultId::random();
        let keys = TrailKeys::derive(&Secret::random(), &[7; 16]);
        Self {
            directory,
            memory: Memory::default(),
            vault_id,
            keys,
            settings,
            epoch: Epoch(1),
            without_line: EpochSet::default(),
        }
    }

    /// Of files that hold about so many lines.
    fn of_files(lines: u64) -> Self {
        Self::with(Settings { file_len: lines * 480, ..Settings::default() })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("trail")
    }

    fn begin(&self) -> Start {
        Start {
            vault_id: self.vault_id,
            keys: self.keys.clone(),
            directory: self.path(),
            settings: self.settings,
            epoch: self.epoch,
            without_line: self.without_line.clone(),
            checkpoints: Box::new(self.memory.clone()),
        }
    }

    fn start(&self) -> (Trail, Option<String>) {
        Trail::start(self.begin(), Vec::new()).unwrap()
    }

    /// A mount that records events of these numbers and ends; returns what was wrong at its start.
    fn mount(&mut self, numbers: std::ops::Range<u32>) -> Option<String> {
        let (mut writer, trouble) = Writer::open(self.begin()).unwrap();
        for number in numbers {
            writer.append(&[TimedEvent::now(event(number))], |_, _| ()).unwrap();
        }
        writer.write_checkpoint();
        self.next_mount();
        trouble
    }

    fn next_mount(&mut self) {
        self.without_line.push(self.epoch);
        self.epoch.0 += 1;
    }

    /// Three files and what is in them.
    fn of_three_files() -> Self {
        let mut scratch = Self::of_files(10);
        assert_eq!(scratch.mount(0..26), None);
        assert_eq!(scratch.files().len(), 3);
        scratch
    }

    fn seal(&self) -> Option<Checkpoint> {
        Checkpoint::read(&self.memory, &self.keys).unwrap()
    }

    fn verify_with(&self, known: Option<Head>) -> Report {
        // A mount that has ended: the next one is of `epoch`.
        let newest = Epoch(self.epoch.0.saturating_sub(1));
        let without_line = self.without_line.clone();
        let mounts = Mounts { newest, ended: false, without_line };
        verify(&self.path(), &self.keys, &self.memory, known, Some(&mounts), &[]).unwrap()
    }

    fn verify(&self) -> Report {
        self.verify_with(None)
    }

    #[track_caller]
    fn assert_clean(&self) -> Report {
        let report = self.verify();
        assert_eq!(report.findings, [], "{}", self.path().display());
        report
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.filter(|path| path.extension().is_some()).collect();
        files.sort_unstable();
        files
    }

    fn bytes(&self) -> Vec<Vec<u8>> {
        self.files().iter().map(|path| fs::read(path).unwrap()).collect()
    }

    /// Changes the lines of a file, each with its end.
    fn edit(&self, file: usize, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let path = &self.files()[file];
        let bytes = fs::read(path).unwrap();
        let mut lines: Vec<_> =
            bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        change(&mut lines);
        fs::write(path, lines.concat()).unwrap();
    }

    /// As it is at this moment, as somebody can keep it or a crash can leave it.
    fn copy(&self) -> Self {
        let memory = Memory(Arc::new(Mutex::new(self.memory.0.lock().clone())));
        let directory = tempfile::tempdir().unwrap();
        let (keys, without_line) = (self.keys.clone(), self.without_line.clone());
        let copy = Self { directory, memory, keys, without_line, ..*self };
        Directory::make(&copy.path()).unwrap();
        for file in self.files() {
            fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
        // The vault takes it for the same place.
        if let Ok(Some(mut seal)) = Checkpoint::read(&copy.memory, &copy.keys) {
            seal.directory = copy.path();
            seal.write(&copy.memory, &copy.keys, Durability::Durable).unwrap();
        }
        copy
    }

    /// The numbers of the events in the trail, in its order.
    fn numbers(&self) -> Vec<u32> {
        self.found(&Filter::default())
    }

    fn found(&self, filter: &Filter) -> Vec<u32> {
        let mut found = Vec::new();
        query(&self.path(), filter, &mut |_, line| {
            let is_ours = line.request_parameters.operation.as_deref() == Some("test");
            found.extend(is_ours.then_some(line.user_identity.pid));
            true
        })
        .unwrap();
        found
    }
}

/// An event that can be told from others by its process.
fn event(number: u32) -> Event {
    let executable = Some("/usr/bin/cat".into());
    let mut event = Event::new(
        EventName::Decrypt,
        Subject { executable, ..Subject::process(1000, 100, number) },
    );
    event.file = Some(crate::format::FileId::from_bytes([number.to_le_bytes()[0]; 16]));
    event.parameters = Parameters::of_file("test", "/a/file".into());
    event.parameters.purpose = Some(Purpose::Read);
    event
}
