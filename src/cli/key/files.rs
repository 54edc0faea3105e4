//! `atrest key rewrap`, `retire` and `assign`: what is done to master keys by way of the files,
//! as data like [`super::KeyChange`].

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::format::{KeyVersion, MasterKeyId};
use crate::fs::{Fs, Progress, References, Rewrap, RewrapSummary};
use crate::store::{Access, OWN_DIR, Vault};
use crate::sys::Show;
use crate::trail::Who;

use super::super::control::{Client, Request};
use super::super::exit::{Context, Exit, Failure, print, print_json, tell};
use super::super::progress::Bar;
use super::super::target::{Daemon, Target};
use super::super::trail::{counted, recorded};
use super::super::vault::{self, Age, Keys};
use super::super::verify::within;
use super::{KeyArgs, VaultArgs};

/// Arguments of `rewrap`.
#[derive(Debug, clap::Args)]
pub struct RewrapArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// Bring the files to this master key, whichever they have now
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// At most so many files a second
    #[arg(long, value_name = "FILES/S")]
    rate: Option<NonZeroU32>,
    /// Only say how many files would be rewrapped
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `retire`.
#[derive(Debug, clap::Args)]
pub struct RetireArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// The version, not the newest
    #[arg(long)]
    version: u32,
    /// Only say whether a file still refers to it
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `assign`.
#[derive(Debug, clap::Args)]
pub struct AssignArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// The master key's name or id
    name: String,
    /// The directory, as it is in the mount; `/` makes the key the default
    dir: PathBuf,
}

/// Work on the keys of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileWork {
    /// Every header comes to the newest version of its master key, or of another one.
    Rewrap {
        /// The other one.
        to: Option<String>,
        /// Header writes a second at most.
        rate: Option<NonZeroU32>,
        /// Only counts.
        dry_run: bool,
    },
    /// A version's material goes, once no file refers to it.
    Retire {
        /// The key's name or id.
        name: String,
        /// The version.
        version: KeyVersion,
        /// Only counts.
        dry_run: bool,
    },
    /// What a master key wraps is counted.
    Count {
        /// The key's name or id.
        name: String,
    },
    /// A directory gets a master key.
    Assign {
        /// The key's name or id.
        name: String,
        /// The directory's path in the mount, empty for the root.
        path: PathBuf,
    },
}

/// What came of it. This is what `--json` prints.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// Of a rewrap.
    Rewrapped(RewrapSummary),
    /// Of a retire.
    Retired {
        /// The key's name.
        key: String,
        /// The version that went, or would have gone.
        retired: KeyVersion,
        /// Whether it is still there.
        dry_run: bool,
    },
    /// Of a count.
    Counted(Wrapped),
    /// Of an assign.
    Assigned {
        /// The key's name.
        key: String,
        /// The directory's path in the mount.
        directory: String,
    },
}

/// What a master key wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrapped {
    /// Files that have content.
    pub wraps_files: u64,
    /// The vault's own key.
    pub wraps_vault_key: bool,
}

type Go<'a> = &'a (dyn Fn(Progress) -> bool + Sync);

impl FileWork {
    /// Does it, on a vault that is open.
    ///
    /// # Errors
    /// [`Exit::Key`] where the keys' states or a reference do not allow it; what is the matter
    /// with the vault as a whole.
    pub fn perform(
        &self,
        vault: &Path,
        fs: &Fs,
        (keys, who): (&Keys, &Who),
        progress: Go<'_>,
    ) -> Result<Outcome, Failure> {
        let failed = |error| vault::failure(vault, error);
        match self {
            Self::Rewrap { to, rate, dry_run } => {
                let to = to
                    .as_ref()
                    .map(|name| fs.vault().context().ring().key(name).map(|key| key.id()));
                let (rate, dry_run, by) = (*rate, *dry_run, Some(who.clone()));
                let how = Rewrap { to: to.transpose()?, rate, dry_run, by };
                Ok(Outcome::Rewrapped(fs.rewrap(&how, progress).map_err(failed)?))
            }
            Self::Retire { name, version, dry_run } => {
                let mut ring = fs.vault().context().ring().clone();
                let (id, key) = ring.key(name).map(|key| (key.id(), key.name().to_owned()))?;
                ring.retire(name, *version)?;
                let references = fs.references(&id, *version, progress).map_err(failed)?;
                refuse_while_referred(&key, *version, &references)?;
                if !dry_run {
                    vault::update(keys, fs, |ring| ring.retire(name, *version))?;
                }
                Ok(Outcome::Retired { key, retired: *version, dry_run: *dry_run })
            }
            Self::Count { name } => {
                let id = fs.vault().context().ring().key(name)?.id();
                Ok(Outcome::Counted(Wrapped::count(vault, fs, &id, progress)?))
            }
            Self::Assign { name, path } => {
                let (id, key) = {
                    let ring = fs.vault().context().ring();
                    let key = ring.key(name)?;
                    ring.require_enabled(&key.id())?;
                    (key.id(), key.name().to_owned())
                };
                if path.as_os_str().is_empty() {
                    vault::update(keys, fs, |ring| ring.make_default(name))?;
                } else {
                    fs.assign(path, &id).or_fail(Exit::Failed, || format!("{}", path.shown()))?;
                }
                Ok(Outcome::Assigned { key, directory: path.to_string_lossy().into_owned() })
            }
        }
    }

    /// How the vault must be open for it.
    pub fn access(&self) -> Access {
        match self {
            Self::Rewrap { dry_run: false, .. } | Self::Assign { .. } => Access::ReadWrite,
            Self::Rewrap { .. } | Self::Retire { .. } | Self::Count { .. } => Access::ReadOnly,
        }
    }

    /// What it is called while it goes on.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rewrap { .. } => "rewrapping",
            Self::Retire { .. } | Self::Count { .. } => "looking for references",
            Self::Assign { .. } => "assigning",
        }
    }
}

impl Wrapped {
    fn count(vault: &Path, fs: &Fs, key: &MasterKeyId, progress: Go<'_>) -> Result<Self, Failure> {
        let found = fs.references(key, None::<KeyVersion>, progress);
        let found = found.map_err(|error| vault::failure(vault, error))?;
        let wraps_vault_key = found.some.iter().any(|path| path.as_os_str() == OWN_DIR);
        let wraps_files = found.count - u64::from(wraps_vault_key);
        Ok(Self { wraps_files, wraps_vault_key })
    }

    /// By the vault's daemon.
    ///
    /// # Errors
    /// Those of the daemon.
    pub fn ask(client: Client, name: &str) -> Result<Self, Failure> {
        let bar = Bar::new("looking for references");
        let work = Request::Work(FileWork::Count { name: name.to_owned() });
        let done = client.ask(&work, &mut |step| bar.show(step))?;
        serde_json::from_value(done).or_fail(Exit::Failed, || "the daemon".to_owned())
    }

    /// In a vault that nobody has open, also where the key may not be used.
    ///
    /// # Errors
    /// As [`FileWork::perform`].
    pub fn here(vault: &Path, keys: &Keys, name: &str) -> Result<Self, Failure> {
        let bar = Bar::new("looking for references");
        let mut ring = keys.read()?.ring;
        let id = ring.key(name)?.id();
        // To look alone: the vault's own key may be under it. What it was is of no account here.
        let _ = ring.cancel_deletion(name);
        let _ = ring.enable(name);
        let opened = Vault::open(vault, ring, Access::ReadOnly);
        let fs = Fs::new(opened.map_err(|error| vault::failure(vault, error))?)
            .or_fail(Exit::Failed, || vault.shown().to_string())?;
        Self::count(vault, &fs, &id, &|step| {
            bar.show(step);
            true
        })
    }

    /// As the subject of a sentence.
    pub fn in_words(self) -> String {
        let files = counted(self.wraps_files, "file");
        let own = if self.wraps_vault_key { " and of the vault itself" } else { "" };
        format!("{files}{own}")
    }
}

fn refuse_while_referred(
    key: &str,
    version: KeyVersion,
    references: &References,
) -> Result<(), Failure> {
    let some = |paths: &mut dyn Iterator<Item = &PathBuf>| {
        let shown: Vec<_> = paths.take(3).map(|path| path.shown().to_string()).collect();
        shown.join(", ")
    };
    if references.count > 0 {
        let some = some(&mut references.some.iter());
        return Err(Failure::new(
            Exit::Key,
            format!(
                "version {version} of the master key `{key}` wraps the keys of {}, such as {some}; \
                 run `atrest key rewrap` first",
                counted(references.count, "file")
            ),
        ));
    }
    if !references.unreadable.is_empty() {
        let some = some(&mut references.unreadable.iter().map(|failure| &failure.path));
        return Err(Failure::new(
            Exit::Key,
            format!(
                "{} files can't be read to see whether they refer to version {version} of the \
                 master key `{key}`, such as {some}; mend or remove them first",
                references.unreadable.len()
            ),
        ));
    }
    Ok(())
}

/// Has work done by the vault's daemon, or does it here.
fn perform(args: &VaultArgs, target: &Target, work: FileWork) -> Result<Outcome, Failure> {
    let bar = Bar::new(work.name());
    match target.daemon()? {
        Daemon::Reached(client) => {
            let done = client.ask(&Request::Work(work), &mut |step| bar.show(step))?;
            serde_json::from_value(done).or_fail(Exit::Failed, || "the daemon".to_owned())
        }
        Daemon::None => {
            let id = vault::describe(&target.vault)?.vault;
            let keys = Keys::open(&id, args.key_file.as_deref(), &args.unlock)?;
            let request = Request::Work(work.clone());
            let fs = vault::open(&target.vault, &keys, work.access(), Age::default())?;
            let done = recorded(&target.vault, &keys, &request, |trail| {
                trail.into_iter().for_each(|trail| fs.keep_trail(Arc::clone(trail)));
                vault::reread(&keys, &fs)?;
                // What it does is told by a line of its own.
                let noted = fs.vault().note_served(false);
                noted.map_err(|error| vault::failure(&target.vault, error))?;
                let done = work.perform(&target.vault, &fs, (&keys, &Who::here()), &|step| {
                    bar.show(step);
                    true
                })?;
                Ok((done, fs.vault().context().ring().clone()))
            });
            fs.close().map_err(|error| vault::failure(&target.vault, error))?;
            done
        }
    }
}

/// Prints JSON, or the sentence.
fn report(args: &VaultArgs, outcome: &Outcome, sentence: &str) -> Result<Exit, Failure> {
    if args.json {
        print_json(&json!(outcome))?
    } else {
        print(sentence)?
    }
    Ok(Exit::Done)
}

/// Does what is asked.
///
/// # Errors
/// As [`FileWork::perform`]; [`Exit::Failed`] when some files could not be rewrapped.
pub fn rewrap(args: &RewrapArgs) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault.vault)?;
    let RewrapArgs { to, rate, dry_run, .. } = args;
    let work = FileWork::Rewrap { to: to.clone(), rate: *rate, dry_run: *dry_run };
    let outcome = perform(&args.vault, &target, work)?;
    let Outcome::Rewrapped(done) = &outcome else { return unexpected() };
    let RewrapSummary { rewrapped, already_new, empty, failed } = done;
    let verb = if *dry_run { "would be rewrapped" } else { "rewrapped" };
    let sentence = format!(
        "{rewrapped} {verb}, {already_new} were at the newest version, {empty} have no content."
    );
    report(&args.vault, &outcome, &sentence)?;
    if failed.is_empty() {
        return Ok(Exit::Done);
    }
    for trouble in failed {
        tell(&format!("{}: {}", trouble.path.shown(), trouble.reason));
    }
    let sentence =
        format!("{} files could not be rewrapped; run it again once they can", failed.len());
    Err(Failure::new(Exit::Failed, sentence))
}

/// Does what is asked.
///
/// # Errors
/// As [`FileWork::perform`].
pub fn retire(args: &RetireArgs) -> Result<Exit, Failure> {
    let target = Target::find(&args.key.vault.vault)?;
    let version = KeyVersion(args.version);
    let work = FileWork::Retire { name: args.key.name.clone(), version, dry_run: args.dry_run };
    let outcome = perform(&args.key.vault, &target, work)?;
    let Outcome::Retired { key, .. } = &outcome else { return unexpected() };
    let sentence = if args.dry_run {
        format!(
            "No file refers to version {version} of the master key `{key}`: it could be retired."
        )
    } else {
        format!(
            "No file referred to version {version} of the master key `{key}`: its material is gone."
        )
    };
    report(&args.key.vault, &outcome, &sentence)
}

/// Does what is asked.
///
/// # Errors
/// As [`FileWork::perform`].
pub fn assign(args: &AssignArgs) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault.vault)?;
    let path =
        if args.dir == Path::new("/") { PathBuf::new() } else { within(&args.dir, &target)? };
    let work = FileWork::Assign { name: args.name.clone(), path };
    let outcome = perform(&args.vault, &target, work)?;
    let Outcome::Assigned { key, directory } = &outcome else { return unexpected() };
    let sentence = match directory.as_str() {
        "" => format!(
            "Files made from now on get the master key `{key}`, but where a directory has its own."
        ),
        dir => {
            let dir = dir.shown();
            format!("Files made in {dir} from now on get the master key `{key}`.")
        }
    };
    report(&args.vault, &outcome, &sentence)
}

fn unexpected() -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "the daemon answered something else: is it of another version?"))
}
