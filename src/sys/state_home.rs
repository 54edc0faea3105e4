//! The directory in which a user's programs keep their state.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// `$XDG_STATE_HOME`, or `~/.local/state` (XDG Base Directory Specification 0.8); `None` where
/// neither variable is an absolute path.
pub fn state_home() -> Option<PathBuf> {
    choose(|name| env::var_os(name))
}

fn choose(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_state_directory_is_named_by_the_environment() {
        let chosen = |variables: &[(&str, &str)]| {
            choose(|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            })
        };
        let both = [("XDG_STATE_HOME", "/s"), ("HOME", "/h")];
        assert_eq!(chosen(&both).as_deref(), Some(Path::new("/s")));
        assert_eq!(chosen(&both[1..]).as_deref(), Some(Path::new("/h/.local/state")));
        assert_eq!(chosen(&[("XDG_STATE_HOME", "s"), ("HOME", "relative")]), None);
    }
}
