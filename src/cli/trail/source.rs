//! Where a trail is read from: its files, or the daemon where this user may not read those.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::cli::target::{Daemon, Target};
use crate::cli::trail::lines::Lines;
use crate::cli::vault_args::VaultArgs;
use crate::service::failure::{Exit, Failure};
use crate::service::keys::Keys;
use crate::service::request::{Request, TrailRequest};
use crate::service::response::Response;
use crate::service::trail_keeping::directory;
use crate::service::trail_report::{trail_keys, verify_at_rest};
use crate::service::vault;
use crate::store::Vault;
use crate::trail::{self, Filter, Head, Reader, Report};

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
        let flushed = client.ask(&Request::Trail(TrailRequest::Flush), &|_| ());
        let path: PathBuf = match flushed.and_then(TryInto::try_into) {
            Ok(path) => path,
            // This user may read the files although the daemon refuses to.
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

    /// The users who could read a file.
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
    let head = head.map(|head| head.to_string());
    if let (Ok(Daemon::Reached(_)), None) = (target.daemon(), named) {
        return ask(target, TrailRequest::Verify(head));
    }
    let id = vault::describe(&target.vault)?.vault;
    let keys = Keys::open(&id, args.key_file.as_deref(), &args.unlock)?;
    verify_at_rest(&target.vault, &keys.read()?.ring, named, head.as_deref())
}

fn ask<T>(target: &Target, request: TrailRequest) -> Result<T, Failure>
where
    T: TryFrom<Response, Error = Failure>,
{
    let client = target.client().ok_or_else(|| {
        Failure::new(Exit::Busy, "the vault was unmounted meanwhile, or its daemon can't be asked")
    })?;
    client.ask(&Request::Trail(request), &|_| ())?.try_into()
}
