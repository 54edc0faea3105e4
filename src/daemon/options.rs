//! `-o`: the options of mount(8) and of fstab(5).

use std::path::{Path, PathBuf};

use crate::daemon::spin::{self, Spin};
use crate::daemon::trail_options::TrailOptions;
use crate::fs::AccessTimes;
use crate::service::failure::{Exit, Failure};
use crate::service::passphrase::UnlockArgs;
use crate::service::principals::{self};
use crate::sys::Flags;

/// How a vault is to be mounted, from the switches and from `-o` together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The flags of the mount itself.
    pub flags: Flags,
    /// When a read moves the time of access.
    pub access_times: AccessTimes,
    /// Users other than the one who mounts may enter.
    pub allow_other: bool,
    /// Modes and owners bind the only user of the mount even if that is root.
    pub check_permissions: bool,
    /// Each write(2) reaches the daemon before it returns.
    pub no_writeback: bool,
    /// Where the key file lies, if not in the default place.
    pub key_file: Option<PathBuf>,
    /// A descriptor is refused what its opener may do no longer.
    pub strict: bool,
    /// What was put back to an older state is mounted.
    pub accept_rollback: bool,
    /// Whose members may ask the daemon too.
    pub admin_group: Option<u32>,
    /// Where its passphrase comes from.
    pub unlock: UnlockArgs,
    /// How long the daemon looks out for the next request.
    pub spin: Spin,
    /// How the trail is kept.
    pub trail: TrailOptions,
    /// What is mounted gets other flags.
    pub remount: bool,
    /// Where the daemon's log goes, if not to syslog.
    pub log_file: Option<PathBuf>,
}

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
        match (name, value) {
            ("ro", None) => self.flags.read_only = true,
            ("rw", None) => self.flags.read_only = false,
            ("suid", None) => self.flags.suid = true,
            ("nosuid", None) => self.flags.suid = false,
            ("dev", None) => self.flags.dev = true,
            ("nodev", None) => self.flags.dev = false,
            ("exec", None) => self.flags.exec = true,
            ("noexec", None) => self.flags.exec = false,
            ("atime" | "relatime", None) => self.keep_access_times(AccessTimes::Relative),
            ("strictatime", None) => self.keep_access_times(AccessTimes::Strict),
            ("noatime", None) => self.keep_access_times(AccessTimes::Never),
            ("sync", None) => self.flags.sync = true,
            ("async", None) => self.flags.sync = false,
            ("remount", None) => self.remount = true,
            ("dirsync", None) => {
                let sentence = "the mount option 'dirsync' can't be kept: FUSE does not pass it on; \
                                fsync(2) of a directory makes its names durable";
                return Err(Failure::new(Exit::Usage, sentence));
            }
            ("allow_other", None) => self.allow_other = true,
            ("default_permissions", None) => self.check_permissions = true,
            ("no-writeback" | "no_writeback", None) => self.no_writeback = true,
            ("strict", None) => self.strict = true,
            ("accept-rollback" | "accept_rollback", None) => self.accept_rollback = true,
            ("admin-group" | "admin_group", Some(group)) => {
                self.admin_group = Some(principals::group(group)?);
            }
            ("key-file" | "keyfile" | "key_file", Some(path)) => {
                self.key_file = Some(needed(name, path)?);
            }
            ("passphrase-file" | "passphrase_file", Some(path)) => {
                self.unlock.passphrase_file = Some(needed(name, path)?);
            }
            ("max-argon2-memory" | "max_argon2_memory", Some(mib)) => {
                self.unlock.max_argon2_memory = Some(memory(mib)?);
            }
            ("spin", Some(microseconds)) => self.spin = Spin::Asked(spun(microseconds)?),
            ("log-file" | "logfile" | "log_file", Some(path)) => {
                self.log_file = Some(needed(name, path)?);
            }
            // For mount(8), systemd and fusermount3; or what a vault's mount does anyway.
            (
                "" | "defaults" | "auto" | "noauto" | "user" | "nouser" | "users" | "owner"
                | "group" | "nofail" | "_netdev" | "diratime" | "nodiratime"
                | "norelatime" | "lazytime" | "nolazytime" | "silent" | "loud"
                // Without effect in the kernel, on any filesystem or on this one.
                | "mand" | "nomand" | "iversion" | "noiversion",
                None,
            )
            // The last two mount(8) takes from the kernel for a remount.
            | ("comment" | "subtype" | "fsname" | "uhelper" | "user_id" | "group_id", Some(_)) => {}
            // As mount(8): labels of SELinux mean nothing where there is none.
            ("context" | "fscontext" | "defcontext" | "rootcontext", Some(_))
                if !Path::new("/sys/fs/selinux/enforce").exists() => {}
            (name, _) if name.starts_with("x-") || name.starts_with("X-") => {}
            _ => match self.trail.apply(name, value) {
                Some(applied) => applied?,
                None => {
                    return Err(Failure::new(
                        Exit::Usage,
                        format!("the mount option '{option}' is not one that atrest knows"),
                    ));
                }
            },
        }
        Ok(())
    }
}

impl Options {
    fn keep_access_times(&mut self, when: AccessTimes) {
        self.access_times = when;
        self.flags.atime = when != AccessTimes::Never;
    }
}

fn needed(name: &str, path: &str) -> Result<PathBuf, Failure> {
    if path.is_empty() {
        return Err(Failure::new(Exit::Usage, format!("the mount option '{name}' needs a path")));
    }
    Ok(path.into())
}

fn memory(mib: &str) -> Result<u32, Failure> {
    mib.parse().ok().filter(|mib| *mib > 0).ok_or_else(|| {
        let sentence = "the mount option 'max-argon2-memory' needs a number of MiB";
        Failure::new(Exit::Usage, sentence)
    })
}

fn spun(microseconds: &str) -> Result<u32, Failure> {
    let parsed = microseconds.parse().ok().filter(|asked| *asked <= spin::MOST);
    parsed.ok_or_else(|| {
        let most = spin::MOST;
        let sentence = format!("the mount option 'spin' needs microseconds from 0 to {most}");
        Failure::new(Exit::Usage, sentence)
    })
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
        assert_eq!(parsed("spin=40,spin=1000").spin, Spin::Asked(1000));
        assert_eq!(parsed("rw").spin, Spin::Chosen);
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
