//! Where a user's programs keep their files (XDG Base Directory Specification 0.8).

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// The directory in the environment variable `name`, else `below_home` in `$HOME`; `None` where neither
/// variable is an absolute path. `variable` reads the environment.
pub fn xdg_directory(
    name: &str,
    below_home: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(name).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}

/// `atrest` in `$XDG_STATE_HOME` or `~/.local/state`; in `at_boot` for root without a home.
pub fn state_directory(at_boot: &str) -> Option<PathBuf> {
    let home = xdg_directory("XDG_STATE_HOME", ".local/state", |name| env::var_os(name));
    let at_boot = || rustix::process::geteuid().is_root().then(|| at_boot.into());
    Some(home.or_else(at_boot)?.join("atrest"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_state_directory_is_named_by_the_environment() {
        let chosen = |variables: &[(&str, &str)]| {
            xdg_directory("XDG_STATE_HOME", ".local/state", |name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            })
        };
        let both = [("XDG_STATE_HOME", "/s"), ("HOME", "/h")];
        assert_eq!(chosen(&both).as_deref(), Some(Path::new("/s")));
        assert_eq!(chosen(&both[1..]).as_deref(), Some(Path::new("/h/.local/state")));
        assert_eq!(chosen(&[("XDG_STATE_HOME", "s"), ("HOME", "relative")]), None);
    }
}
