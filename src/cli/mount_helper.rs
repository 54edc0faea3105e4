//! The forms in which mount(8) calls the program: as `mount.atrest` or `mount.fuse.atrest`, and
//! as mount.fuse3 does for `mount -t fuse.atrest`: `atrest VAULT MOUNTPOINT -o …`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::cli::mount;
use crate::service::failure::{Exit, Failure};
use crate::sys::mount_command_options;

/// What such a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Helper {
    /// Mount.
    Mount(Box<mount::Args>),
    /// Mount for show (`mount -f`): all is well and nothing is done.
    Pretend,
}

/// The request, if the command line has one of these forms.
///
/// # Errors
/// [`Exit::Usage`] for such a command line that can't be understood.
pub fn parse(arguments: &[OsString]) -> Option<Result<Helper, Failure>> {
    let (program, arguments) = arguments.split_first()?;
    let program = Path::new(program).file_name().and_then(OsStr::to_str);
    let as_helper = matches!(program, Some("mount.atrest" | "mount.fuse.atrest"));
    let asks_itself = |word: &OsString| matches!(word.to_str(), Some("--help" | "--version"));
    if as_helper && !arguments.iter().any(asks_itself) {
        return Some(parse_arguments(arguments, true));
    }
    is_vault_first(arguments).then(|| parse_arguments(arguments, false))
}

/// Subcommands are plain words; a vault in an fstab line is an absolute path.
fn is_vault_first(arguments: &[OsString]) -> bool {
    arguments.len() >= 2 && arguments[0].as_encoded_bytes().starts_with(b"/")
}

/// `[-sfnvr] [-t TYPE] [-N NAMESPACE] VAULT MOUNTPOINT [-o OPTIONS]`, in any order.
fn parse_arguments(arguments: &[OsString], as_helper: bool) -> Result<Helper, Failure> {
    let mut paths = Vec::new();
    let mut options = Vec::new();
    let mut foreground = false;
    let mut pretend = false;
    let mut read_only = false;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let Some(flags) = word.to_str().and_then(|word| word.strip_prefix('-')) else {
            paths.push(word.clone());
            continue;
        };
        if let Some(list) = flags.strip_prefix('o') {
            let list = if list.is_empty() {
                words.next().and_then(|list| list.to_str())
            } else {
                Some(list)
            };
            options.push(list.ok_or_else(|| usage("-o needs a list of options"))?.to_owned());
        } else if matches!(flags, "t" | "N") {
            words.next().ok_or_else(|| usage(&format!("-{flags} needs a value")))?;
        } else {
            for flag in flags.chars() {
                match flag {
                    // -f is `fake` to mount(8), and everywhere else the foreground.
                    'f' if as_helper => pretend = true,
                    'f' => foreground = true,
                    'r' => read_only = true,
                    's' | 'n' | 'v' | 'w' => {}
                    _ => return Err(usage(&format!("-{flags} is not an option of mount"))),
                }
            }
        }
    }
    let [vault, mountpoint] = paths.as_slice() else {
        return Err(usage("mount needs two paths: the vault and the mount point"));
    };
    if pretend {
        return Ok(Helper::Pretend);
    }
    let (vault, mountpoint) = (PathBuf::from(vault), PathBuf::from(mountpoint));
    if let Some(told) = mount_command_options(&vault, &mountpoint) {
        options.extend(asked(&options, &told));
    }
    // Last, so that it wins over `rw`, as a switch does.
    options.extend(read_only.then(|| "ro".to_owned()));
    Ok(Helper::Mount(Box::new(mount::Args {
        foreground,
        options,
        ..mount::Args::of(vault, mountpoint)
    })))
}

/// What mount(8) was told of `suid` and `dev`, where the `options` that it, or mount.fuse3(8), passes
/// don't say: a vault honours neither unless it is asked to, and a remount leaves them alone.
fn asked(options: &[String], told: &str) -> Vec<String> {
    let has = |list: &str, name: &str| list.split(',').any(|option| option == name);
    let passed = |name: &str| options.iter().any(|list| has(list, name));
    let settle = |(yes, no): (&'static str, &'static str)| {
        let last = told.split(',').rfind(|option| *option == yes || *option == no);
        match last {
            Some(last) if last == yes && !passed(no) => Some(yes),
            None if passed("remount") && !passed(no) => None,
            _ => Some(no),
        }
    };
    [("suid", "nosuid"), ("dev", "nodev")]
        .into_iter()
        .filter_map(settle)
        .map(str::to_owned)
        .collect()
}

fn usage(message: &str) -> Failure {
    Failure::new(Exit::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Result<Helper, Failure>> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&words)
    }

    #[test]
    fn mount_calls_its_helper() {
        for line in [
            "/sbin/mount.fuse.atrest /v /m -n -o rw,noauto",
            "mount.atrest /v /m -sv -o rw,noauto -t fuse.atrest",
            "/usr/bin/atrest /v /m -o rw,noauto",
            "atrest -orw,noauto",
        ] {
            match parsed(line) {
                Some(Ok(Helper::Mount(args))) => {
                    assert_eq!((args.vault, args.mountpoint), ("/v".into(), "/m".into()));
                    assert_eq!(args.options, ["rw,noauto"]);
                }
                None => assert_eq!(line, "atrest -orw,noauto"),
                other => panic!("{line}: {other:?}"),
            }
        }
        assert!(matches!(parsed("mount.atrest /v /m -f"), Some(Ok(Helper::Pretend))));
    }

    #[test]
    fn suid_and_dev_are_what_mount_was_told() {
        let asked = |passed: &str, told: &str| asked(&[passed.to_owned()], told).join(",");
        assert_eq!(asked("rw", ""), "nosuid,nodev");
        assert_eq!(asked("rw", "suid,dev"), "suid,dev");
        assert_eq!(asked("rw,dev,suid", "defaults"), "nosuid,nodev");
        assert_eq!(asked("rw,nosuid,nodev,noexec", "suid,user"), "nosuid,nodev");
        assert_eq!(asked("rw", "suid,nosuid,dev"), "nosuid,dev");
        assert_eq!(asked("ro,remount", "remount,ro"), "");
        assert_eq!(asked("ro,remount", "remount,ro,suid"), "suid");
    }

    #[test]
    fn a_relative_vault_is_one_to_the_helper_only() {
        assert!(matches!(parsed("mount.atrest vault mnt"), Some(Ok(Helper::Mount(_)))));
        assert!(parsed("atrest mount mnt").is_none());
        assert!(parsed("atrest --help").is_none());
    }

    #[test]
    fn a_line_that_makes_no_sense_is_a_usage_error() {
        for line in
            ["mount.atrest /v", "mount.atrest /v /m -o", "atrest /v /m -X", "atrest /v /m /n"]
        {
            match parsed(line) {
                Some(Err(failure)) => assert_eq!(failure.exit, Exit::Usage),
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
