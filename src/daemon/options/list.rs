//! `-o`: lists of options, as of mount(8) and fstab(5).

use std::ffi::OsStr;
use std::path::Path;

use super::table::{MountOption, OPTIONS, Value};
use super::values::Options;
use crate::service::failure::{Exit, Failure};

impl Options {
    /// Applies one list of options, from left to right: the later of two that differ wins.
    ///
    /// # Errors
    /// [`Exit::Usage`] for an option that does not exist or lacks its value.
    pub fn apply(&mut self, list: &str) -> Result<(), Failure> {
        split(list).into_iter().try_for_each(|option| self.apply_one(&option))
    }

    fn apply_one(&mut self, option: &str) -> Result<(), Failure> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        if is_ignored(name, value) {
            return Ok(());
        }
        let word = name.replace('_', "-");
        let mut known = OPTIONS.iter().filter(|known| known.words.contains(&word.as_str()));
        match known.next() {
            Some(known) if value.is_none() || !matches!(known.value, Value::None) => {
                self.set(known, name, value.map(OsStr::new))
            }
            _ => Err(refusal(format!("the mount option '{option}' is not one that atrest knows"))),
        }
    }

    /// Applies a switch of the command line. A flag has no use for a value.
    ///
    /// # Errors
    /// As [`Options::apply`].
    pub fn apply_switch(&mut self, name: &str, value: &OsStr) -> Result<(), Failure> {
        let is_named = |option: &&MountOption| {
            option.switch.as_ref().is_some_and(|switch| switch.name == name)
        };
        let option = OPTIONS.iter().find(is_named);
        option.map_or(Ok(()), |option| self.set(option, name, Some(value)))
    }

    fn set(
        &mut self,
        option: &MountOption,
        name: &str,
        value: Option<&OsStr>,
    ) -> Result<(), Failure> {
        let (value, needs) = match (&option.value, value) {
            (Value::None, _) => (Some(OsStr::new("")), ""),
            (Value::Required { needs, .. }, value) => (value, *needs),
            (Value::Optional { default, .. }, value) => {
                (value.or(Some(OsStr::new(default))), "a path")
            }
        };
        let fits = value.map_or(Ok(false), |value| (option.apply)(self, value))?;
        if fits { Ok(()) } else { Err(refusal(format!("the mount option '{name}' needs {needs}"))) }
    }
}

/// Whether an option is for mount(8), systemd or fusermount3 alone, or what a vault's mount does
/// anyway.
fn is_ignored(name: &str, value: Option<&str>) -> bool {
    match (name, value) {
        (
            "" | "defaults" | "auto" | "noauto" | "user" | "nouser" | "users" | "owner" | "group"
            | "nofail" | "_netdev" | "diratime" | "nodiratime" | "norelatime" | "lazytime"
            | "nolazytime" | "silent" | "loud"
            // Without effect in the kernel, on any filesystem or on this one.
            | "mand" | "nomand" | "iversion" | "noiversion",
            None,
        )
        // mount(8) takes the last two from the kernel for a remount.
        | ("comment" | "subtype" | "fsname" | "uhelper" | "user_id" | "group_id", Some(_)) => true,
        // As mount(8): labels of SELinux mean nothing where there is none.
        ("context" | "fscontext" | "defcontext" | "rootcontext", Some(_)) => {
            !Path::new("/sys/fs/selinux/enforce").exists()
        }
        (name, _) => name.starts_with("x-") || name.starts_with("X-"),
    }
}

fn refusal(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, message)
}

/// Splits at commas; `\,` is a comma within a value, as in fusermount3, and `\\` a backslash.
fn split(list: &str) -> Vec<String> {
    let mut options = vec![String::new()];
    let mut letters = list.chars().peekable();
    while let Some(letter) = letters.next() {
        let letter = match letter {
            ',' => {
                options.push(String::new());
                continue;
            }
            '\\' => letters.next_if(|next| matches!(next, ',' | '\\')).unwrap_or(letter),
            letter => letter,
        };
        if let Some(option) = options.last_mut() {
            option.push(letter);
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::BusyPoll;
    use crate::sys::Flags;

    fn parsed(list: &str) -> Options {
        let mut options = Options::default();
        options.apply(list).unwrap();
        options
    }

    #[test]
    fn an_fstab_line_is_understood() {
        let options = parsed(
            "noauto,user,x-systemd.automount,_netdev,ro,allow_other,keyfile=/k\\,1,dev,suid,noexec",
        );
        assert!(options.flags.read_only && options.flags.dev && options.flags.suid);
        assert!(!options.flags.exec && options.allow_other && !options.no_writeback);
        assert_eq!(options.key_file, Some("/k,1".into()));
        let options =
            parsed("strict,admin-group=0,trail=/t,trail-sync,trail-fail=closed,trail-files=0");
        assert!(options.strict && options.admin_group == Some(0));
        let settings = options.trail.settings();
        assert!(settings.sync && settings.fail_closed && settings.files == 0);
        assert_eq!(options.trail.directory, Some("/t".into()));
    }

    #[test]
    fn the_later_option_wins() {
        assert_eq!(parsed("spin=40,spin=1000").spin, BusyPoll::Fixed(1000));
        assert_eq!(parsed("rw").spin, BusyPoll::Auto);
        assert!(!parsed("ro,rw").flags.read_only);
        assert!(parsed("rw,ro").flags.read_only);
        assert_eq!(parsed("").flags, Flags::default());
        assert_eq!(parsed("rw,dev,suid,nodev,nosuid").flags, Flags::default());
    }

    #[test]
    fn an_unknown_option_is_refused() {
        for list in [
            "nope",
            "ro=1",
            "spin",
            "spin=",
            "spin=1001",
            "spin=-1",
            "key-file",
            "key-file=",
            "log-file",
            "rw,max_read=4",
            "strict=1",
            "admin-group=no-such-group",
            "max-argon2-memory",
            "max-argon2-memory=0",
            "trail=",
            "trail-fail=maybe",
            "trail-file-size=0",
            "trail-files=many",
        ] {
            let failure = Options::default().apply(list).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{list}");
        }
    }
}
