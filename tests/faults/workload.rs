//! Work that takes every operation of the file system once or more.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FallocateFlags, FileType, Mode, XattrFlags, fallocate, mknodat};

use crate::common::{Vault, pattern, run};
use crate::world::World;

/// What there is before anything fails.
const FILES: [(&str, usize); 11] = [
    ("appended", 30_000),
    ("cut", 30_000),
    ("punched", 40_000),
    ("renamed", 9_000),
    ("linked", 9_000),
    ("gone", 9_000),
    ("attributes", 5_000),
    ("big", 200_000),
    ("replaced", 12_000),
    ("emptied", 12_000),
    ("small", 100),
];

/// Makes the files, on a mount where nothing fails.
pub fn prepare(dir: &Path) -> World {
    let mut world = World::new(dir);
    for (number, (name, length)) in FILES.into_iter().enumerate() {
        let content = pattern(number as u64 * 1000, length);
        fs::write(dir.join(name), &content).unwrap();
        File::open(dir.join(name)).unwrap().sync_all().unwrap();
        world.promise(name, content);
    }
    world
}

/// Does the work; each call may fail.
pub fn work(world: &mut World) {
    make_and_append(world);
    overwrite(world);
    resize(world);
    holes(world);
    names(world);
    attributes(world);
    copy(world);
    replace(world);
    world.read("small");
    world.read("big");
    let listed = fs::read_dir(&world.dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    world.look(".", "readdir", listed);
    let size = rustix::fs::statvfs(&world.dir).map_err(io::Error::from);
    world.look(".", "statvfs", size);
}

/// Gives the master key a new version and brings files to it; what it says does not matter here.
pub fn rotate(vault: &Vault, world: &mut World) {
    for words in [["key", "rotate"], ["key", "rewrap"]] {
        let outcome = run(vault.command(&words).arg(vault.path()));
        if !outcome.success() {
            world.told.push(format!("{words:?}: {}", outcome.stderr.trim()));
        }
    }
}

fn make_and_append(world: &mut World) {
    if let Some(file) = world.create("new") {
        world.write("new", &file, 0, &pattern(7, 10_000));
        world.sync("new", &file);
        world.write("new", &file, 10_000, &pattern(8, 5_000));
        world.close("new", file);
    }
    if let Some(file) = world.open("appended") {
        world.write("appended", &file, 30_000, &pattern(9, 9_000));
        world.sync("appended", &file);
        world.write("appended", &file, 39_000, &pattern(10, 100));
        world.sync("appended", &file);
        world.close("appended", file);
    }
    let long = "a long name ".repeat(20);
    if let Some(file) = world.create(&long) {
        world.write(&long, &file, 0, b"short");
        world.close(&long, file);
    }
}

fn overwrite(world: &mut World) {
    if let Some(file) = world.open("big") {
        world.write("big", &file, 50_001, &pattern(11, 70_000));
        world.close("big", file);
    }
    if let Some(file) = world.open("small") {
        world.write("small", &file, 10, &pattern(12, 30));
        world.sync("small", &file);
        world.close("small", file);
    }
}

fn resize(world: &mut World) {
    if let Some(file) = world.open("cut") {
        world.truncate("cut", &file, 5_000);
        world.truncate("cut", &file, 20_000);
        world.sync("cut", &file);
        world.truncate("cut", &file, 19_000);
        world.close("cut", file);
    }
    if let Some(file) = world.create("emptied") {
        world.write("emptied", &file, 0, &pattern(13, 6_000));
        world.close("emptied", file);
    }
}

fn holes(world: &mut World) {
    let Some(file) = world.open("punched") else { return };
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    world.as_write("punched", "punch", (6_000, vec![0; 20_000]), || {
        Ok(fallocate(&file, punch, 6_000, 20_000)?)
    });
    world.sync("punched", &file);
    world.as_write("punched", "fallocate", (40_000, vec![0; 15_000]), || {
        Ok(fallocate(&file, FallocateFlags::empty(), 40_000, 15_000)?)
    });
    world.close("punched", file);
}

fn names(world: &mut World) {
    world.rename("renamed", "renamed to");
    world.link("linked", "linked too");
    world.unlink("gone");
    world.make("dir", |path| fs::create_dir(path));
    world.make("symlink", |path| symlink("nowhere", path));
    world.make("fifo", |path| {
        Ok(mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?)
    });
}

fn attributes(world: &mut World) {
    let path = world.path("attributes");
    let done = fs::set_permissions(&path, fs::Permissions::from_mode(0o640));
    world.look("attributes", "chmod", done);
    let done = rustix::fs::setxattr(&path, "user.one", b"1", XattrFlags::empty());
    world.look("attributes", "setxattr", done.map_err(io::Error::from));
    let done = rustix::fs::removexattr(&path, "user.one");
    world.look("attributes", "removexattr", done.map_err(io::Error::from));
    let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    let done = File::open(&path).and_then(|file| file.set_modified(day));
    world.look("attributes", "utimensat", done);
    let done = std::os::unix::fs::chown(&path, Some(41_001), Some(41_001));
    world.look("attributes", "chown", done);
}

fn copy(world: &mut World) {
    let opened = File::open(world.path("big"));
    let (Some(source), Some(target)) = (world.look("big", "open", opened), world.create("copy"))
    else {
        return;
    };
    world.as_copy("big", "copy", |length| {
        let mut done = 0;
        while done < length {
            match rustix::fs::copy_file_range(&source, None, &target, None, length - done)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                copied => done += copied,
            }
        }
        Ok(())
    });
    world.sync("copy", &target);
    world.close("copy", target);
}

fn replace(world: &mut World) {
    let Some(file) = world.create("temporary") else { return };
    world.write("temporary", &file, 0, &pattern(14, 20_000));
    world.sync("temporary", &file);
    world.close("temporary", file);
    world.rename("temporary", "replaced");
}
