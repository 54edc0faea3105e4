//! A directory that some fill and others empty.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::common::files::errno;
use crate::common::{Vault, pattern};
use crate::grant;
use crate::people::People;

fn is_filled_and_emptied(options: &[&str]) {
    let people = People::make();
    let (sender, keeper) = (&people.named.user, &people.stranger.user);
    let vault = Vault::init();
    let mount = vault.mount(options);
    fs::create_dir(mount.join("in")).unwrap();
    fs::set_permissions(mount.join("in"), Permissions::from_mode(0o777)).unwrap();
    grant(&vault, &format!("--user {} --allow generate-data-key --under in", people.named.name));
    grant(&vault, &format!("--user {} --allow decrypt --under in", people.stranger.name));

    let letter = |number: usize| mount.join(format!("in/letter-{number}"));
    sender.run(|| {
        for number in 0..20 {
            fs::write(letter(number), pattern(number as u64, 5000 * number + 1)).unwrap();
            assert_eq!(errno(fs::read(letter(number))), libc::EACCES);
            assert_eq!(errno(OpenOptions::new().append(true).open(letter(number))), libc::EACCES);
        }
        // Written anew as a whole, as an editor would, and by another file put in its place.
        fs::write(letter(3), b"on second thought").unwrap();
        fs::write(mount.join("in/.letter-4"), b"this one").unwrap();
        fs::rename(mount.join("in/.letter-4"), letter(4)).unwrap();
        assert_eq!(errno(fs::write(mount.join("outside"), b"x")), libc::EACCES);
        assert_eq!(errno(File::create(mount.join("in/../outside"))), libc::EACCES);
    });
    keeper.run(|| {
        for number in 0..20 {
            let expected = match number {
                3 => b"on second thought".to_vec(),
                4 => b"this one".to_vec(),
                _ => pattern(number as u64, 5000 * number + 1),
            };
            assert_eq!(fs::read(letter(number)).unwrap(), expected, "{number}");
            assert_eq!(errno(fs::write(letter(number), b"x")), libc::EACCES);
            assert_eq!(fs::read(letter(number)).unwrap(), expected, "{number}");
            if number != 7 {
                fs::remove_file(letter(number)).unwrap();
            }
        }
        assert_eq!(errno(File::create(mount.join("in/new"))), libc::EACCES);
        assert_eq!(fs::read_dir(mount.join("in")).unwrap().count(), 1);
    });
    let mount = mount.remount(options);
    let left = mount.join("in/letter-7");
    assert_eq!(sender.run(|| errno(File::open(&left))), libc::EACCES);
    assert_eq!(keeper.run(|| fs::read(&left).unwrap()), pattern(7, 35_001));
}

#[test]
fn with_the_writeback_cache() {
    is_filled_and_emptied(&["--allow-other"]);
}

#[test]
fn without_the_writeback_cache() {
    is_filled_and_emptied(&["--allow-other", "--no-writeback"]);
}

#[test]
fn strictly() {
    is_filled_and_emptied(&["--allow-other", "--strict"]);
}
