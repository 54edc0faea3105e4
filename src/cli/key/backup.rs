//! `atrest key backup` and `restore`: all master keys on paper, and back.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use zeroize::Zeroizing;

use super::note;
use crate::cli::output::{print, print_json};
use crate::cli::target::{Daemon, Target};
use crate::cli::vault_args::VaultArgs;
use crate::keys::{KeyError, KeyFile, KeyRing, NewProtector, NoPassphrase, RecoveryError, Unlock};
use crate::service::failure::{Context, Exit, Failure, warn_user};
use crate::service::keys::Keys;
use crate::service::passphrase::NewPassphraseArgs;
use crate::service::request::Note;
use crate::service::trail_keeping::note_restore;
use crate::service::vault;
use crate::sys::{self, Show};

/// Bytes of a recovery text, of which the largest key file gives fewer.
const MAX_BACKUP_LEN: u64 = 32 << 20;

/// What to know of a key file from a backup with fewer versions than the vault was used with.
const OLDER: &str = "this backup is older than the key file that was last used with the vault: it lacks \
    versions of the master keys, so files written since do not open. If there is a newer backup or \
    the newer key file, use that. Mounting with this one takes --accept-rollback";

/// What a backup does not hold.
const NO_GRANTS: &str = "Grants and policies are not in a backup: they are the defaults again.";

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("form").required(true)))]
pub struct BackupArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// Where the recovery text goes; `-` prints it
    #[arg(group = "form")]
    file: Option<PathBuf>,
    /// Print it as words instead, to be copied by hand
    #[arg(long, group = "form", conflicts_with = "json")]
    words: bool,
    /// Print it as a QR code instead
    #[arg(long, group = "form", conflicts_with = "json")]
    qr: bool,
}

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// The vault
    vault: PathBuf,
    /// The recovery text, or the words; `-` reads them from stdin
    file: PathBuf,
    /// Where the key file goes [default: $ATREST_KEY_FILE, or ~/.config/atrest/<vault's id>.json]
    #[arg(long, value_name = "F")]
    key_file: Option<PathBuf>,
    /// Protect the key file by a passphrase
    #[arg(long)]
    passphrase: bool,
    #[command(flatten)]
    new: NewPassphraseArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Writes the recovery form.
///
/// # Errors
/// [`Exit::KeyFile`]; [`Exit::Failed`] where the file exists or can't be written: it is not there
/// then.
pub fn backup(args: &BackupArgs) -> Result<Exit, Failure> {
    let keys = args.vault.open_keys()?;
    note::record(&Target::find(&args.vault.vault)?, &keys, Note::Backup)?;
    let ring = keys.read()?.ring;
    if args.words {
        print(&ring.recovery_words())?;
        return Ok(Exit::Done);
    }
    let text = ring.export_recovery();
    if args.qr {
        print(&qr_code(&text)?)?;
        return Ok(Exit::Done);
    }
    match args.file.as_deref() {
        None => {}
        Some(path) if path == Path::new("-") => print(text.trim_end())?,
        Some(path) => {
            write_new(path, text.as_bytes())
                .context(Exit::Failed, || format!("the backup {}", path.shown()))?;
            let shown = path.shown();
            if args.vault.json {
                let file = path.to_string_lossy();
                print_json(&json!({ "vault_id": ring.vault_id(), "file": file }))?;
            } else {
                print(&format!(
                    "Wrote all master keys of vault {} to {shown}. \
                     Who has it can read the vault: print it, lock it away, and remove the file.",
                    ring.vault_id()
                ))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Makes the key file anew.
///
/// # Errors
/// [`Exit::KeyFile`] for a recovery text that is damaged or of another vault, and where a key file
/// is there already, which stays.
pub fn restore(args: &RestoreArgs) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault)?;
    if let Daemon::Reached(_) = target.daemon()? {
        let message = format!("the vault {} is mounted: unmount it first", target.vault.shown());
        return Err(Failure::new(Exit::Busy, message));
    }
    let id = vault::describe(&target.vault)?.vault;
    let ring = read_recovery(&args.file)?;
    if ring.vault_id() != id {
        let error = KeyError::from(RecoveryError::OtherVault {
            path: args.file.clone(),
            found: ring.vault_id(),
            wanted: id,
        });
        return Err(error.into());
    }
    let path = std::path::absolute(KeyFile::locate(&id, args.key_file.as_deref())?)?;
    let seen = vault::check_keys(&target.vault, &ring)?;
    let protectors = if args.passphrase || args.new.is_given() {
        vec![args.new.protector()?]
    } else {
        Vec::new()
    };
    // It is no older than the one that was lost.
    let mark = KeyFile::create_after(&path, &ring, &protectors, seen.generation)?;
    let is_older = seen.has_more_versions(ring.version_count());
    if is_older {
        warn_user(OLDER);
    } else {
        // Nor is it a forgery: only a holder of all the keys could make it.
        vault::note_change(&target.vault, &ring, &mark);
    }
    let unlock: &dyn Unlock = match protectors.first() {
        Some(NewProtector::Passphrase { passphrase, .. }) => passphrase,
        Some(NewProtector::Raw) | None => &NoPassphrase,
    };
    let keys = Keys::open(&id, Some(&path), unlock)?;
    note_restore(&target.vault, &keys)?;
    if args.json {
        let key_file = path.to_string_lossy();
        print_json(
            &json!({ "vault_id": id, "key_file": key_file, "keys": ring.describe(), "older": is_older }),
        )?;
    } else {
        print(&format!(
            "Made the key file {} of vault {id} from its backup. {NO_GRANTS}",
            path.shown()
        ))?;
    }
    Ok(Exit::Done)
}

fn read_recovery(path: &Path) -> Result<KeyRing, Failure> {
    let read = if path == Path::new("-") {
        read_text(io::stdin())
    } else {
        sys::open_input(path).and_then(read_text)
    };
    let text = read.context(Exit::Failed, || format!("the backup {}", path.shown()))?;
    let ring = if text.contains("-----") {
        KeyRing::import_recovery(&text)?
    } else {
        KeyRing::from_recovery_words(&text)?
    };
    Ok(ring)
}

/// All of a recovery text.
fn read_text(from: impl Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    match from.take(MAX_BACKUP_LEN).read_to_string(&mut text)? as u64 {
        MAX_BACKUP_LEN => Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long")),
        _ => Ok(text),
    }
}

/// Writes a file that must not be there, for its owner alone, and makes it durable.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written =
        file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| sys::sync_name(path));
    if written.is_err() {
        // Half a backup is none; the error below says why.
        let _ = fs::remove_file(path);
    }
    written
}

/// The text as a QR code of half blocks, two modules a character.
fn qr_code(text: &str) -> Result<Zeroizing<String>, Failure> {
    use qrcode::render::unicode::Dense1x2;
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L);
    let code = code.map_err(|_| {
        let message = "there are too many keys for a QR code: back up to a file, or as words";
        Failure::new(Exit::Key, message)
    })?;
    // Dark on light, as a camera wants it, on the dark ground of most terminals.
    let mut image = code.render::<Dense1x2>();
    let image = image.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark);
    Ok(Zeroizing::new(image.build()))
}
