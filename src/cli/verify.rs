//! `atrest verify`: every block of every file, checked.

use std::path::{Component, Path, PathBuf};

use crate::fs::VerifySummary;
use crate::store::{Access, OWN_DIR};
use crate::sys::Show;

use super::control::Request;
use super::exit::{Context, Exit, Failure, print, print_json, tell};
use super::key::VaultArgs;
use super::progress::Bar;
use super::target::{Daemon, Target, resolve};
use super::trail::{counted, recorded};
use super::vault::{self, Age, Keys};

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
    let bar = Bar::new("verifying");
    let found: VerifySummary = match target.daemon()? {
        Daemon::Reached(client) => {
            let found = client.ask(&Request::Verify { path }, &mut |step| bar.show(step))?;
            serde_json::from_value(found).or_fail(Exit::Failed, || "the daemon".to_owned())?
        }
        Daemon::None => {
            let id = vault::describe(&target.vault)?.vault;
            let keys = Keys::open(&id, args.vault.key_file.as_deref(), &args.vault.unlock)?;
            let fs = vault::open(&target.vault, &keys, Access::ReadOnly, Age::default())?;
            let show = |step| {
                bar.show(step);
                true
            };
            let request = Request::Verify { path: path.clone() };
            recorded(&target.vault, &keys, &request, |_| {
                let found = fs.verify(&path, &show);
                let found =
                    found.map_err(|error| vault::failure(&target.vault.join(&path), error))?;
                Ok((found, fs.vault().context().ring().clone()))
            })?
        }
    };
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
        tell(&format!("the vault is damaged in {}", counted(damaged.len() as u64, "place")));
    }
    Ok(())
}

/// The path within the mount: given so, or as the path of the mounted file, or of the file in the
/// vault.
pub fn within(path: &Path, target: &Target) -> Result<PathBuf, Failure> {
    let refused = |what: &str| Failure::new(Exit::Usage, format!("{} {what}", path.shown()));
    let relative = if path.is_absolute() {
        let real = resolve(path).unwrap_or_else(|_| path.to_owned());
        let mountpoint = target.mounted.as_ref().map(|mounted| mounted.mountpoint.as_path());
        let places = [Some(target.vault.as_path()), mountpoint];
        let found = places.into_iter().flatten().find_map(|place| real.strip_prefix(place).ok());
        found.ok_or_else(|| refused("is not a path in this vault"))?.to_owned()
    } else {
        path.to_owned()
    };
    let mut within = PathBuf::new();
    for component in relative.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) if within.as_os_str().is_empty() && name == OWN_DIR => {
                return Err(refused("is the vault's own and holds no sealed files"));
            }
            Component::Normal(name) => within.push(name),
            _ => return Err(refused("leads out of the vault")),
        }
    }
    Ok(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_in_the_vault() {
        let target = Target { vault: "/no/vault".into(), mounted: None };
        let found = |path: &str| within(Path::new(path), &target).map_err(|failure| failure.exit);
        assert_eq!(found("a/./b"), Ok("a/b".into()));
        assert_eq!(found("."), Ok("".into()));
        assert_eq!(found("/no/vault/a"), Ok("a".into()));
        assert_eq!(found("/no/vault"), Ok("".into()));
        for path in ["../a", "/no/vaults", "/etc", ".atrest/lock", "/no/vault/.atrest"] {
            assert_eq!(found(path), Err(Exit::Usage), "{path}");
        }
        assert_eq!(found("a/.atrest"), Ok("a/.atrest".into()));
    }
}
