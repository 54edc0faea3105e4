//! Where a trail is read from: its files, or the daemon where this user may not read those.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::crypto::TrailKeys;
use crate::fs::Fs;
use crate::keys::KeyRing;
use crate::store::{Access, TrailSeal, Vault};
use crate::trail::{self, EventName, Filter, Head, Mounts, Reader, Report, Trail, TrailError, Who};

use super::super::control::Request;
use super::super::exit::{Context, Exit, Failure};
use super::super::key::VaultArgs;
use super::super::target::{Daemon, Target};
use super::super::vault::{self, Keys};
use super::Lines;
use super::events::of_key;
use super::keep::{directory, mounts, recorded};
use super::readers::Readers;

/// Lines that the daemon hands over at once.
const BATCH: usize = 20_000;
/// And in bytes, but for the last of them.
const BATCH_LEN: usize = 16 << 20;

/// What a daemon can be asked about its trail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrailRequest {
    /// To write what it has, and say where.
    Flush,
    /// For some of the lines that meet it.
    Lines(Filter),
    /// Who read a file.
    WhoRead(PathBuf),
    /// To record, for this reason, that what is wrong with it was looked into.
    Acknowledge(String),
    /// Whether the trail is whole, and has the line that was kept elsewhere.
    Verify(Option<String>),
}

/// What the daemon answers a process, of which it notes how far it has come.
///
/// # Errors
/// [`Exit::Trail`] where it keeps none; those of reading.
pub fn answer(
    request: &TrailRequest,
    (readers, who): (&Readers, &Who),
    vault: &Path,
    fs: &Fs,
) -> Result<Value, Failure> {
    let directory = match fs.trail() {
        Some(kept) => {
            kept.flush();
            PathBuf::from(kept.condition().directory)
        }
        None => directory(vault, None, || trail_keys(&fs.vault().context().ring()))?,
    };
    match request {
        TrailRequest::Flush => Ok(json!(directory)),
        TrailRequest::Lines(filter) => {
            let (mut lines, mut last) = (Vec::new(), filter.after.unwrap_or_default());
            let mut len = 0;
            trail::query(&directory, filter, &mut |text, line| {
                lines.push(text.to_owned());
                last = line.sequence;
                len += text.len();
                lines.len() < BATCH && len < BATCH_LEN
            })?;
            readers.note(who, last);
            Ok(json!(lines))
        }
        TrailRequest::WhoRead(path) => {
            let now = Vault::file_id(vault, path).map(|id| id.to_string());
            Ok(json!(trail::who_read(&directory, &path.to_string_lossy(), now)?))
        }
        TrailRequest::Acknowledge(reason) => {
            let keys = fs.vault().context().ring().trail_keys().ok_or(TrailError::NoKey)?;
            let kept = fs.trail().ok_or_else(|| TrailError::Missing(directory.clone()))?;
            let mounts = fs.vault().own_mounts().ok();
            let report = verified_with(vault, (&directory, mounts), &keys, None)?;
            let ring = fs.vault().context().ring();
            acknowledge_in(kept, (&report, reason), &keys, (&ring, who))?;
            Ok(json!(report))
        }
        TrailRequest::Verify(head) => {
            let head = head.as_deref().map(str::parse).transpose();
            let head = head.map_err(|what: &str| Failure::new(Exit::Usage, what))?;
            let keys = fs.vault().context().ring().trail_keys().ok_or(TrailError::NoKey)?;
            let mounts = fs.vault().own_mounts().ok();
            Ok(json!(verified_with(vault, (&directory, mounts), &keys, head)?))
        }
    }
}

/// A trail that is looked at.
pub enum Source {
    /// Its files can be read here.
    Files(PathBuf),
    /// The daemon reads them.
    Daemon(Target),
}

impl Source {
    /// Of a vault; what its daemon has not written yet is written then.
    ///
    /// # Errors
    /// [`Exit::Policy`] where only the daemon can read it, and the policy does not allow it.
    pub fn find(target: &Target, args: &VaultArgs, named: Option<&Path>) -> Result<Self, Failure> {
        let keys = || trail_keys(&args.open_keys()?.read()?.ring);
        let found = directory(&target.vault, named, keys);
        let client = if named.is_some() { None } else { target.client() };
        let Some(client) = client else { return Ok(Self::Files(found?)) };
        let flushed = client.ask(&Request::Trail(TrailRequest::Flush), &mut |_| ());
        let path: PathBuf = match flushed {
            Ok(path) => {
                serde_json::from_value(path).or_fail(Exit::Failed, || "the daemon".into())?
            }
            // Who may read the files needs no leave of the daemon; others were refused once.
            Err(failure) => match found {
                Ok(path) if path.read_dir().is_ok() => path,
                _ => return Err(failure),
            },
        };
        match path.read_dir() {
            Ok(_) => Ok(Self::Files(path)),
            Err(_) => Ok(Self::Daemon(Target {
                vault: target.vault.clone(),
                mounted: target.mounted.clone(),
            })),
        }
    }

    /// Hands the lines that meet `filter` to `take`, until it has enough.
    ///
    /// # Errors
    /// [`Exit::Trail`]; those of the daemon.
    pub fn lines(
        &self,
        filter: &Filter,
        take: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), Failure> {
        let target = match self {
            Self::Files(directory) => {
                return Ok(trail::query(directory, filter, &mut |text, _| take(text))?);
            }
            Self::Daemon(target) => target,
        };
        let mut filter = filter.clone();
        loop {
            let lines: Vec<String> = ask(target, TrailRequest::Lines(filter.clone()))?;
            filter.after = lines.last().and_then(|line| trail::number(line)).or(filter.after);
            if !lines.iter().all(|line| take(line)) || lines.is_empty() {
                return Ok(());
            }
        }
    }

    /// Whether there is a line that meets `filter`.
    ///
    /// # Errors
    /// As [`Source::lines`].
    pub fn has(&self, filter: &Filter) -> Result<bool, Failure> {
        let mut found = false;
        self.lines(filter, &mut |_| {
            found = true;
            false
        })?;
        Ok(found)
    }

    /// Prints the last `count` lines; returns the last one's number.
    ///
    /// # Errors
    /// As [`Source::lines`].
    pub fn put_last(&self, count: usize, out: &mut Lines) -> Result<u64, Failure> {
        let mut last = VecDeque::with_capacity(count.min(1024));
        let mut sequence = 0;
        self.lines(&Filter::default(), &mut |line| {
            if last.len() == count {
                last.pop_front();
            }
            if count > 0 {
                last.push_back(line.to_owned());
            }
            sequence = trail::number(line).unwrap_or(sequence);
            true
        })?;
        last.iter().all(|line| out.put(line));
        Ok(sequence)
    }

    /// Who could read a file.
    ///
    /// # Errors
    /// As [`Source::lines`].
    pub fn readers(&self, target: &Target, path: &Path) -> Result<Vec<Reader>, Failure> {
        match self {
            Self::Files(directory) => {
                let now = Vault::file_id(&target.vault, path).map(|id| id.to_string());
                Ok(trail::who_read(directory, &path.to_string_lossy(), now)?)
            }
            Self::Daemon(target) => ask(target, TrailRequest::WhoRead(path.to_owned())),
        }
    }
}

/// Whether a trail is whole, by the daemon or here with the key file.
///
/// # Errors
/// [`Exit::KeyFile`], [`Exit::Trail`]; those of the daemon.
pub fn verified(
    target: &Target,
    args: &VaultArgs,
    named: Option<&Path>,
    head: Option<Head>,
) -> Result<Report, Failure> {
    let daemon = target.daemon();
    if let (Ok(Daemon::Reached(_)), None) = (&daemon, named) {
        return ask(target, TrailRequest::Verify(head.map(|head| head.to_string())));
    }
    let id = vault::describe(&target.vault)?.vault;
    let keys = Keys::open(&id, args.key_file.as_deref(), &args.unlock)?;
    let ring = keys.read()?.ring;
    let keys = trail_keys(&ring)?;
    // First: a mount that begins meanwhile tells the trail after the vault.
    let mounts = mounts(&target.vault, &ring);
    let directory = directory(&target.vault, named, || Ok(keys.clone()))?;
    verified_with(&target.vault, (&directory, mounts), &keys, head)
}

/// Records that what is wrong with a trail was looked into, by the daemon or here with the key file;
/// returns what that is.
///
/// # Errors
/// [`Exit::KeyFile`], [`Exit::Trail`]; those of the daemon.
pub fn acknowledge(target: &Target, args: &VaultArgs, reason: &str) -> Result<Report, Failure> {
    if let Daemon::Reached(_) = target.daemon()? {
        return ask(target, TrailRequest::Acknowledge(reason.to_owned()));
    }
    let id = vault::describe(&target.vault)?.vault;
    let keys = Keys::open(&id, args.key_file.as_deref(), &args.unlock)?;
    let request = Request::Trail(TrailRequest::Acknowledge(reason.to_owned()));
    recorded(&target.vault, &keys, &request, |trail| {
        let ring = keys.read()?.ring;
        let trail_keys = ring.trail_keys().ok_or(TrailError::NoKey)?;
        let directory = directory(&target.vault, None, || Ok(trail_keys.clone()))?;
        let kept = trail.ok_or_else(|| TrailError::Missing(directory.clone()))?;
        kept.flush();
        let mounts = mounts(&target.vault, &ring);
        let report = verified_with(&target.vault, (&directory, mounts), &trail_keys, None)?;
        acknowledge_in(kept, (&report, reason), &trail_keys, (&ring, &Who::here()))?;
        Ok((report, ring))
    })
}

fn trail_keys(ring: &KeyRing) -> Result<TrailKeys, Failure> {
    Ok(ring.trail_keys().ok_or(TrailError::NoKey)?)
}

fn acknowledge_in(
    kept: &Trail,
    (report, reason): (&Report, &str),
    keys: &TrailKeys,
    (ring, who): (&KeyRing, &Who),
) -> Result<(), Failure> {
    if report.findings.is_empty() {
        return Ok(());
    }
    let digests: Vec<_> = report.findings.iter().map(|finding| finding.digest(keys)).collect();
    let mut event =
        of_key(EventName::AcknowledgeTrail, ring, ring.default_key().name(), who.clone());
    event.parameters.details = Some(json!({ "reason": reason, "findings": digests }));
    Ok(kept.record_durably(event)?)
}

fn verified_with(
    vault: &Path,
    (directory, mounts): (&Path, Option<Mounts>),
    keys: &TrailKeys,
    head: Option<Head>,
) -> Result<Report, Failure> {
    let keeper =
        TrailSeal::of(vault, Access::ReadOnly).map_err(|error| vault::failure(vault, error))?;
    Ok(trail::verify(directory, keys, &keeper, head, mounts.as_ref())?)
}

fn ask<T: serde::de::DeserializeOwned>(
    target: &Target,
    request: TrailRequest,
) -> Result<T, Failure> {
    let client = target.client().ok_or_else(|| {
        Failure::new(Exit::Busy, "the vault was unmounted meanwhile, or its daemon can't be asked")
    })?;
    let answer = client.ask(&Request::Trail(request), &mut |_| ())?;
    serde_json::from_value(answer).or_fail(Exit::Failed, || "the daemon".to_owned())
}
