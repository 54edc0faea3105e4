//! `atrest verify`: every block of every file, checked.

use std::path::PathBuf;

use crate::cli::backend::Backend;
use crate::cli::output::{print, print_json};
use crate::cli::progress::Bar;
use crate::cli::target::{Target, within};
use crate::cli::vault_args::VaultArgs;
use crate::fs::VerifySummary;
use crate::service::failure::{Exit, Failure, warn_user};
use crate::service::request::Request;
use crate::service::text::counted;
use crate::sys::Show;

/// Check every block of every file.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vault: VaultArgs,
    /// Only what is at or below this path, as it is in the mount
    path: Option<PathBuf>,
}

/// Checks, and prints what was found.
///
/// # Errors
/// What kept it from being checked. Damage is no error but [`Exit::Damage`].
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault.vault)?;
    let path = match &args.path {
        Some(path) => within(path, &target)?,
        None => PathBuf::new(),
    };
    let backend = Backend::of(&target, &args.vault)?;
    let bar = Bar::new("verifying");
    let found: VerifySummary =
        backend.perform(&Request::Verify { path }, &|step| bar.show(step))?;
    drop(bar);
    report(&found, args.vault.json)?;
    Ok(if found.damaged.is_empty() { Exit::Done } else { Exit::Damage })
}

fn report(found: &VerifySummary, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return print_json(found);
    }
    for trouble in &found.damaged {
        print(&format!("damaged: {}: {}", trouble.path.shown(), trouble.reason))?;
    }
    for path in &found.left_by_crash {
        print(&format!("left by a crash, readable: {}", path.shown()))?;
    }
    let VerifySummary { files, blocks, bytes, damaged, unguarded_blocks, .. } = found;
    if *unguarded_blocks > 0 {
        let blocks = counted(*unguarded_blocks, "block");
        print(&format!("{blocks} among holes: zeroing there would go unnoticed"))?;
    }
    let verdict = match damaged.len() {
        0 => "no damage".to_owned(),
        places => format!("damaged in {}", counted(places as u64, "place")),
    };
    let (files, blocks) = (counted(*files, "file"), counted(*blocks, "block"));
    print(&format!("{files}, {blocks}, {}: {verdict}.", counted(*bytes, "byte")))?;
    if !damaged.is_empty() {
        warn_user(&format!("the vault is damaged in {}", counted(damaged.len() as u64, "place")));
    }
    Ok(())
}
