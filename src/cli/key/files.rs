//! `atrest key rewrap`, `retire` and `assign`: work on the keys of files.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::Serialize;

use serde_json::json;

use crate::cli::backend::Backend;
use crate::cli::key::args::KeyArgs;
use crate::cli::output::{print, print_json};
use crate::cli::progress::Bar;
use crate::cli::target::{Target, within};
use crate::cli::vault_args::VaultArgs;
use crate::format::KeyVersion;
use crate::fs::RewrapSummary;
use crate::service::failure::{Exit, Failure, warn_user};
use crate::service::request::{FileWork, Request};
use crate::service::response::{Assigned, Response, Retired};
use crate::sys::Show;

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

/// Has work performed, and prints what came of it: as JSON, or as the message that `in_words` makes.
fn perform<T>(
    args: &VaultArgs,
    target: &Target,
    work: FileWork,
    in_words: impl FnOnce(&T) -> String,
) -> Result<T, Failure>
where
    T: TryFrom<Response, Error = Failure> + Serialize,
{
    let backend = Backend::of(target, args)?;
    let bar = Bar::new(work.name());
    let done: T = backend.perform(&Request::Work(work), &|step| bar.show(step))?;
    drop(bar);
    if args.json {
        print_json(&json!(done))?
    } else {
        print(&in_words(&done))?
    }
    Ok(done)
}

/// Rewraps the keys of files.
///
/// # Errors
/// As [`FileWork::perform`]; [`Exit::Failed`] when some files could not be rewrapped.
pub fn rewrap(args: &RewrapArgs) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault.vault)?;
    let RewrapArgs { to, rate, dry_run, .. } = args;
    let work = FileWork::Rewrap { to: to.clone(), rate: *rate, dry_run: *dry_run };
    let in_words = |done: &RewrapSummary| {
        let verb = if *dry_run { "would be rewrapped" } else { "rewrapped" };
        let RewrapSummary { rewrapped, already_new, empty, .. } = done;
        format!(
            "{rewrapped} {verb}, {already_new} were at the newest version, {empty} have no content."
        )
    };
    let RewrapSummary { failed, .. } = perform(&args.vault, &target, work, in_words)?;
    if failed.is_empty() {
        return Ok(Exit::Done);
    }
    for trouble in &failed {
        warn_user(&format!("{}: {}", trouble.path.shown(), trouble.reason));
    }
    let message =
        format!("{} files could not be rewrapped; run it again once they can", failed.len());
    Err(Failure::new(Exit::Failed, message))
}

/// Retires a version of a master key.
///
/// # Errors
/// As [`FileWork::perform`].
pub fn retire(args: &RetireArgs) -> Result<Exit, Failure> {
    let target = Target::find(&args.key.vault.vault)?;
    let version = KeyVersion(args.version);
    let work = FileWork::Retire { name: args.key.name.clone(), version, dry_run: args.dry_run };
    let in_words = |Retired { key, .. }: &Retired| {
        if args.dry_run {
            format!(
                "No file refers to version {version} of the master key `{key}`: it could be retired."
            )
        } else {
            format!(
                "No file referred to version {version} of the master key `{key}`: its material is gone."
            )
        }
    };
    perform(&args.key.vault, &target, work, in_words).map(|_: Retired| Exit::Done)
}

/// Gives a directory a master key.
///
/// # Errors
/// As [`FileWork::perform`].
pub fn assign(args: &AssignArgs) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault.vault)?;
    let path =
        if args.dir == Path::new("/") { PathBuf::new() } else { within(&args.dir, &target)? };
    let work = FileWork::Assign { name: args.name.clone(), path };
    let in_words = |Assigned { key, directory }: &Assigned| match directory.as_str() {
        "" => format!(
            "Files made from now on get the master key `{key}`, but where a directory has its own."
        ),
        dir => {
            let dir = dir.shown();
            format!("Files made in {dir} from now on get the master key `{key}`.")
        }
    };
    perform(&args.vault, &target, work, in_words).map(|_: Assigned| Exit::Done)
}
