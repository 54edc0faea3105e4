//! Work on the keys of files: rewrap, retire, assign and count, as data that a daemon is sent or a
//! command performs itself.

use std::path::{Path, PathBuf};

use crate::format::{KeyVersion, MasterKeyId};
use crate::fs::{Fs, References, Rewrap};
use crate::keys::policy::Subject;
use crate::service::failure::{Context, Exit, Failure, vault_failure};
use crate::service::keys::Keys;
use crate::service::request::{FileWork, ProgressSink};
use crate::service::response::{Assigned, Response, Retired, Wrapped};
use crate::service::text::counted;
use crate::service::vault;
use crate::store::{Access, METADATA_DIR, Vault};
use crate::sys::Show;

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
        (keys, subject): (&Keys, &Subject),
        progress: ProgressSink<'_>,
    ) -> Result<Response, Failure> {
        let failed = |error| vault_failure(vault, error);
        match self {
            Self::Rewrap { to, rate, dry_run } => {
                let to = to
                    .as_ref()
                    .map(|name| fs.vault().context().ring().key(name).map(|key| key.id()));
                let (rate, dry_run, by) = (*rate, *dry_run, Some(subject.clone()));
                let how = Rewrap { to: to.transpose()?.into(), rate, dry_run, by };
                Ok(fs.rewrap(&how, progress).map_err(failed)?.into())
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
                Ok(Retired { key, retired: *version, dry_run: *dry_run }.into())
            }
            Self::Count { name } => {
                let id = fs.vault().context().ring().key(name)?.id();
                Ok(Wrapped::count(vault, fs, &id, progress)?.into())
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
                    fs.assign(path, &id).context(Exit::Failed, || format!("{}", path.shown()))?;
                }
                Ok(Assigned { key, directory: path.to_string_lossy().into_owned() }.into())
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

impl Wrapped {
    fn count(
        vault: &Path,
        fs: &Fs,
        key: &MasterKeyId,
        progress: ProgressSink<'_>,
    ) -> Result<Self, Failure> {
        let found = fs.references(key, None::<KeyVersion>, progress);
        let found = found.map_err(|error| vault_failure(vault, error))?;
        let wraps_vault_key = found.some.iter().any(|path| path.as_os_str() == METADATA_DIR);
        let wraps_files = found.count - u64::from(wraps_vault_key);
        Ok(Self { wraps_files, wraps_vault_key })
    }

    /// As the subject of a sentence.
    pub fn in_words(self) -> String {
        let files = counted(self.wraps_files, "file");
        let own = if self.wraps_vault_key { " and of the vault itself" } else { "" };
        format!("{files}{own}")
    }

    /// What a master key wraps in a vault that nobody has open, also where the key may not be used.
    ///
    /// # Errors
    /// As [`FileWork::perform`].
    pub fn count_at_rest(
        vault: &Path,
        keys: &Keys,
        name: &str,
        progress: ProgressSink<'_>,
    ) -> Result<Self, Failure> {
        let ring = keys.read()?.ring;
        let id = ring.key(name)?.id();
        let opened = Vault::open(vault, ring.ignoring_states(), Access::ReadOnly);
        let fs = Fs::new(opened.map_err(|error| vault_failure(vault, error))?)
            .context(Exit::Failed, || vault.shown().to_string())?;
        Self::count(vault, &fs, &id, progress)
    }
}
