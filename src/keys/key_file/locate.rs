//! The path of the key file of a vault.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::file::KeyFile;
use crate::format::VaultId;
use crate::keys::{KeyError, KeyFileError};
use crate::sys;

impl KeyFile {
    /// The key file to use: `explicit`, else `$ATREST_KEY_FILE`, else [`KeyFile::default_path`].
    /// The disk is not read.
    ///
    /// # Errors
    /// [`KeyFileError::NoHome`].
    pub fn locate(vault: &VaultId, explicit: Option<&Path>) -> Result<PathBuf, KeyError> {
        Ok(choose(vault, explicit, |name| env::var_os(name))?)
    }

    /// `$XDG_CONFIG_HOME/atrest/<vault_id-id>.json`, or `~/.config/atrest/<vault_id-id>.json` (XDG
    /// Base Directory Specification 0.8).
    ///
    /// # Errors
    /// [`KeyFileError::NoHome`] when neither variable is an absolute path.
    pub fn default_path(vault: &VaultId) -> Result<PathBuf, KeyError> {
        Ok(default_path(vault, |name| env::var_os(name))?)
    }
}

fn choose(
    vault: &VaultId,
    explicit: Option<&Path>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, KeyFileError> {
    if let Some(path) = explicit {
        return Ok(path.to_owned());
    }
    match variable("ATREST_KEY_FILE").filter(|path| !path.is_empty()) {
        Some(path) => Ok(path.into()),
        None => default_path(vault, variable),
    }
}

fn default_path(
    vault: &VaultId,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, KeyFileError> {
    let config =
        sys::xdg_directory("XDG_CONFIG_HOME", ".config", variable).ok_or(KeyFileError::NoHome)?;
    Ok(config.join("atrest").join(format!("{vault}.json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(explicit: Option<&str>, variables: &[(&str, &str)]) -> Result<PathBuf, KeyFileError> {
        let vault = VaultId::from_bytes([0x11; 16]);
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        };
        choose(&vault, explicit.map(Path::new), variable)
    }

    #[test]
    fn the_explicit_path_goes_before_the_environment_and_that_before_the_default() {
        let environment = [("ATREST_KEY_FILE", "/e"), ("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")];
        let name = "atrest/11111111-1111-1111-1111-111111111111.json";
        let paths = [
            (chosen(Some("given"), &environment), PathBuf::from("given")),
            (chosen(None, &environment), "/e".into()),
            (chosen(None, &environment[1..]), Path::new("/x").join(name)),
            (chosen(None, &environment[2..]), Path::new("/h/.config").join(name)),
            (
                chosen(None, &[("XDG_CONFIG_HOME", "x"), ("HOME", "/h")]),
                Path::new("/h/.config").join(name),
            ),
        ];
        for (found, expected) in paths {
            assert_eq!(found.unwrap(), expected);
        }
        assert!(matches!(chosen(None, &[]), Err(KeyFileError::NoHome)));
        assert!(matches!(chosen(None, &[("HOME", "")]), Err(KeyFileError::NoHome)));
    }
}
