//! The options of a mount: each stands here once, as a switch of `atrest mount`, as a word of `-o`
//! and of an fstab line, or as both.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use clap::builder::ValueParser;

use super::trail::OnFailure;
use super::values::Options;
use crate::daemon::sinks::SYSLOG;
use crate::fs::AccessTimes;
use crate::fuse::{BusyPoll, MAX_BUSY_POLL_US};
use crate::service::failure::{Exit, Failure};
use crate::service::principals;

/// An option of a mount.
pub struct MountOption {
    /// How it is written as a switch, if it is one.
    pub switch: Option<Switch>,
    /// How it is written in `-o`; `_` and `-` are the same there.
    pub words: &'static [&'static str],
    /// Its value.
    pub value: Value,
    /// Sets it. `false` for a value that it can't have.
    pub apply: fn(&mut Options, &OsStr) -> Result<bool, Failure>,
}

/// An option as a switch of `atrest mount`.
pub struct Switch {
    /// Its name, without dashes.
    pub name: &'static str,
    /// What `--help` says.
    pub help: &'static str,
}

/// The value of an option.
pub enum Value {
    /// It has none.
    None,
    /// It needs one.
    Required {
        /// What `--help` calls it.
        name: &'static str,
        /// Checks the switch's.
        parser: fn() -> ValueParser,
        /// What the word of `-o` needs, for the message.
        needs: &'static str,
    },
    /// It may have one.
    Optional {
        /// What `--help` calls it.
        name: &'static str,
        /// The value where none is given.
        default: &'static str,
    },
}

type Apply = fn(&mut Options, &OsStr) -> Result<bool, Failure>;

/// An option without a value that sets something.
const fn flag(switch: Option<Switch>, words: &'static [&'static str], apply: Apply) -> MountOption {
    MountOption { switch, words, value: Value::None, apply }
}

/// A flag that is a word of `-o` alone.
const fn word(words: &'static [&'static str], apply: Apply) -> MountOption {
    flag(None, words, apply)
}

const fn switch(name: &'static str, help: &'static str) -> Option<Switch> {
    Some(Switch { name, help })
}

const fn path(name: &'static str) -> Value {
    Value::Required { name, parser: || ValueParser::path_buf(), needs: "a path" }
}

/// All of them, in the order of `--help`. For each list, and for all switches after the lists, the
/// later one wins.
pub static OPTIONS: &[MountOption] = &[
    MountOption {
        switch: switch("log-file", "Where the daemon's log goes [default: syslog]"),
        words: &["log-file", "logfile"],
        value: path("F"),
        apply: |options, path| set_path(&mut options.log_file, path),
    },
    flag(switch("read-only", "Write nothing to the vault"), &["ro"], |options, _| {
        set(&mut options.flags.read_only, true)
    }),
    flag(
        switch("allow-other", "Let other users in, as far as the files' permissions do"),
        &["allow-other"],
        |options, _| set(&mut options.allow_other, true),
    ),
    flag(
        switch(
            "no-writeback",
            "Each write reaches the vault before it returns: slower, and survives the daemon's death",
        ),
        &["no-writeback"],
        |options, _| set(&mut options.no_writeback, true),
    ),
    flag(
        switch(
            "strict",
            "Refuse open files too to whom a grant is taken from, and drop what the kernel keeps of \
             files",
        ),
        &["strict"],
        |options, _| set(&mut options.strict, true),
    ),
    MountOption {
        switch: switch(
            "admin-group",
            "Let the members of a group ask the daemon for what the keys' policies let them; root \
             only",
        ),
        words: &["admin-group"],
        value: Value::Required { name: "G", parser: || ValueParser::string(), needs: "a group" },
        apply: |options, group| {
            options.admin_group = Some(principals::group(&group.to_string_lossy())?);
            Ok(true)
        },
    },
    flag(
        switch(
            "accept-rollback",
            "Mount a vault or use a key file that was put back to an older state, as after restoring \
             a backup",
        ),
        &["accept-rollback"],
        |options, _| set(&mut options.accept_rollback, true),
    ),
    MountOption {
        switch: switch(
            "spin",
            "How long the daemon looks out for the next request before it sleeps, up to 1000; 0 for \
             never [default: 50, and 0 with one processor or on battery]",
        ),
        words: &["spin"],
        value: Value::Required {
            name: "USECS",
            parser: || clap::value_parser!(u32).range(..=i64::from(MAX_BUSY_POLL_US)).into(),
            needs: "microseconds from 0 to 1000",
        },
        apply: |options, value| {
            let microseconds = number(value).filter(|asked| *asked <= MAX_BUSY_POLL_US);
            options.spin = microseconds.map_or(options.spin, BusyPoll::Fixed);
            Ok(microseconds.is_some())
        },
    },
    MountOption {
        switch: switch(
            "trail",
            "Where the trail of key uses lies [default: where it was, or $XDG_STATE_HOME/atrest/ID, \
             or ~/.local/state/atrest/ID]",
        ),
        words: &["trail"],
        value: path("DIR"),
        apply: |options, path| {
            options.trail.off = false;
            set_path(&mut options.trail.directory, path)
        },
    },
    flag(
        switch("no-trail", "Keep no trail of this mount"),
        &["no-trail", "notrail"],
        |options, _| set(&mut options.trail.off, true),
    ),
    flag(
        switch("trail-sync", "Each event is durable before the open returns"),
        &["trail-sync"],
        |options, _| set(&mut options.trail.sync, true),
    ),
    MountOption {
        switch: switch(
            "trail-fail",
            "When the trail can't be written: let no key be used (closed), or go on and say so (open) \
             [default: open]",
        ),
        words: &["trail-fail"],
        value: Value::Required {
            name: "HOW",
            parser: || clap::value_parser!(OnFailure).into(),
            needs: "open or closed",
        },
        apply: |options, how| {
            let how = OnFailure::from_str(&how.to_string_lossy(), false);
            options.trail.on_failure = how.clone().unwrap_or(options.trail.on_failure);
            Ok(how.is_ok())
        },
    },
    MountOption {
        switch: switch(
            "trail-file-size",
            "Begin another file of the trail after so many MiB [default: 64]",
        ),
        words: &["trail-file-size"],
        value: Value::Required {
            name: "MIB",
            parser: || clap::value_parser!(u64).range(1..=1 << 20).into(),
            needs: "a number of MiB from 1",
        },
        apply: |options, mib| {
            let mib = number(mib).filter(|mib| (1..=1 << 20).contains(mib));
            options.trail.file_mib = mib.map(u64::from);
            Ok(mib.is_some())
        },
    },
    MountOption {
        switch: switch(
            "trail-files",
            "Keep so many files of the trail, 0 for all; short ones count by their bytes \
             [default: 16]",
        ),
        words: &["trail-files"],
        value: Value::Required {
            name: "N",
            parser: || clap::value_parser!(u32).into(),
            needs: "a number of files, 0 for all",
        },
        apply: |options, files| {
            options.trail.files = number(files);
            Ok(options.trail.files.is_some())
        },
    },
    MountOption {
        switch: switch(
            "trail-syslog",
            "Send each event to syslog too (RFC 5424), to /dev/log or another socket",
        ),
        words: &["trail-syslog"],
        value: Value::Optional { name: "SOCKET", default: SYSLOG },
        apply: |options, socket| set_path(&mut options.trail.syslog, socket),
    },
    flag(
        switch("trail-journald", "Send each event to the systemd journal too"),
        &["trail-journald"],
        |options, _| set(&mut options.trail.journald, true),
    ),
    // Switches of all commands that open a key file, so words alone.
    MountOption {
        switch: None,
        words: &["key-file", "keyfile"],
        value: path("F"),
        apply: |options, path| set_path(&mut options.key_file, path),
    },
    MountOption {
        switch: None,
        words: &["passphrase-file"],
        value: path("F"),
        apply: |options, path| set_path(&mut options.unlock.passphrase_file, path),
    },
    MountOption {
        switch: None,
        words: &["max-argon2-memory"],
        value: Value::Required {
            name: "MIB",
            parser: || clap::value_parser!(u32).into(),
            needs: "a number of MiB",
        },
        apply: |options, mib| {
            options.unlock.max_argon2_memory = number(mib).filter(|mib| *mib > 0);
            Ok(options.unlock.max_argon2_memory.is_some())
        },
    },
    // The options of every mount, mount(8).
    word(&["rw"], |options, _| set(&mut options.flags.read_only, false)),
    word(&["suid"], |options, _| set(&mut options.flags.suid, true)),
    word(&["nosuid"], |options, _| set(&mut options.flags.suid, false)),
    word(&["dev"], |options, _| set(&mut options.flags.dev, true)),
    word(&["nodev"], |options, _| set(&mut options.flags.dev, false)),
    word(&["exec"], |options, _| set(&mut options.flags.exec, true)),
    word(&["noexec"], |options, _| set(&mut options.flags.exec, false)),
    word(&["sync"], |options, _| set(&mut options.flags.sync, true)),
    word(&["async"], |options, _| set(&mut options.flags.sync, false)),
    word(&["atime", "relatime"], |options, _| keep_access_times(options, AccessTimes::Relative)),
    word(&["strictatime"], |options, _| keep_access_times(options, AccessTimes::Strict)),
    word(&["noatime"], |options, _| keep_access_times(options, AccessTimes::Never)),
    word(&["remount"], |options, _| set(&mut options.remount, true)),
    word(&["default-permissions"], |options, _| set(&mut options.check_permissions, true)),
    word(&["dirsync"], |_, _| {
        let message = "the mount option 'dirsync' can't be kept: FUSE does not pass it on; fsync(2) of a \
             directory makes its names durable";
        Err(Failure::new(Exit::Usage, message))
    }),
];

fn set(flag: &mut bool, to: bool) -> Result<bool, Failure> {
    *flag = to;
    Ok(true)
}

fn set_path(option: &mut Option<PathBuf>, path: &OsStr) -> Result<bool, Failure> {
    *option = Some(Path::new(path).to_owned());
    Ok(!path.is_empty())
}

fn keep_access_times(options: &mut Options, when: AccessTimes) -> Result<bool, Failure> {
    options.access_times = when;
    options.flags.atime = when != AccessTimes::Never;
    Ok(true)
}

fn number(value: &OsStr) -> Option<u32> {
    value.to_str()?.parse().ok()
}
