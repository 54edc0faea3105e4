//! The options of mount(8), when it has started this program.
//!
//! mount(8) keeps `suid` and `dev` to itself, which are its defaults, and mount.fuse3(8) adds them
//! to every mount. So the program's own arguments are the same with and without them. The command line of
//! mount(8) and fstab(5) show the difference.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::sys::proc::mountinfo::unescape;
use crate::sys::proc::process::{arguments_of, name_of, parent_of};

/// How many ancestors of this process are examined: mount.fuse3(8) and a shell may be between.
const GENERATIONS: usize = 4;

/// The options, with commas between, that mount(8) was given for the mount of a vault on a directory;
/// `None` where this program was not started by it.
pub fn mount_command_options(vault: &Path, mountpoint: &Path) -> Option<String> {
    let mut pid = std::process::id();
    for _ in 0..GENERATIONS {
        pid = parent_of(pid).filter(|parent| *parent > 1)?;
        if name_of(pid)? == "mount" {
            let line = arguments_of(pid)?;
            let table = fs::read("/etc/fstab").unwrap_or_default();
            return Some(options(&line, &table, (vault, mountpoint)));
        }
    }
    None
}

/// The options of fstab, unless the command line has both paths, and then those of the command line.
fn options(line: &[u8], table: &[u8], (vault, mountpoint): (&Path, &Path)) -> String {
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).skip(1).collect();
    let is = |path: &Path| words.contains(&path.as_os_str().as_encoded_bytes());
    let mut found = Vec::new();
    if !(is(vault) && is(mountpoint)) {
        let lines = table.split(|byte| *byte == b'\n');
        found.extend(lines.filter_map(|line| {
            let mut fields =
                line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|f| !f.is_empty());
            let (_, target) =
                (fields.next()?, PathBuf::from(OsString::from_vec(unescape(fields.next()?))));
            let options = fields.nth(1)?;
            (target == mountpoint).then(|| String::from_utf8_lossy(options).into_owned())
        }));
    }
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let word = String::from_utf8_lossy(word).into_owned();
        let value = match word.as_str() {
            "-o" | "--options" => {
                rest.next().map(|list| String::from_utf8_lossy(list).into_owned())
            }
            _ => ["--options=", "-o"].iter().find_map(|of| Some(word.strip_prefix(of)?.to_owned())),
        };
        found.extend(value);
    }
    found.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_and_fstab_tell() {
        let paths = (Path::new("/v"), Path::new("/m m"));
        let table = b"# nothing\n/v\t/m\\040m  atrest  suid,noauto 0 0\n/w /n atrest dev 0 0\n";
        let told = |line: &str| options(line.replace(' ', "\0").as_bytes(), table, paths);
        assert_eq!(told("mount -a"), "suid,noauto");
        assert_eq!(told("mount -o remount,ro --options=x -oy /v"), "suid,noauto,remount,ro,x,y");
        let both = b"mount\0-t\0atrest\0/v\0/m m\0-o\0dev";
        assert_eq!(options(both, table, paths), "dev");
    }

    #[test]
    fn this_program_was_not_started_by_mount() {
        assert_eq!(mount_command_options(Path::new("/v"), Path::new("/m")), None);
    }
}
