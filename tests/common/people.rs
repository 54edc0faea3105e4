//! Users and groups that the machine knows, made for a test and gone with it.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};

use crate::common::{User, require, require_root, run};

/// One who is in /etc/passwd.
pub struct Person {
    pub name: String,
    pub user: User,
}

/// Four users, each in a group of their own, and a group that the third is in besides.
pub struct People {
    pub owner: Person,
    pub named: Person,
    pub member: Person,
    pub stranger: Person,
    /// The group's name.
    pub group: String,
    pub gid: u32,
}

impl People {
    pub fn make() -> People {
        require_root();
        static MADE: AtomicU32 = AtomicU32::new(0);
        let tag = format!("at{}x{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let group = format!("{tag}g");
        let _alone = alone();
        run(Command::new(require("groupadd")).arg(&group)).ok();
        let gid = number(&["group"], &group);
        let person = |letter: &str, groups: &[u32]| {
            let name = format!("{tag}{letter}");
            let mut useradd = Command::new(require("useradd"));
            useradd.args(["-M", "-U", "-s", "/bin/sh"]);
            if !groups.is_empty() {
                useradd.args(["-G", &group]);
            }
            run(useradd.arg(&name)).ok();
            let uid = number(&["passwd"], &name);
            let own = number(&["group"], &name);
            let groups = [&[own], groups].concat();
            Person { name, user: User { uid, gid: own, groups } }
        };
        People {
            owner: person("o", &[]),
            named: person("n", &[]),
            member: person("m", &[gid]),
            stranger: person("s", &[]),
            group,
            gid,
        }
    }

    pub fn all(&self) -> [&Person; 4] {
        [&self.owner, &self.named, &self.member, &self.stranger]
    }
}

impl Drop for People {
    fn drop(&mut self) {
        let _alone = alone();
        for person in self.all() {
            let _ = Command::new("userdel").arg(&person.name).output();
            // Where userdel leaves the user's own group.
            let _ = Command::new("groupdel").arg(&person.name).output();
        }
        let _ = Command::new("groupdel").arg(&self.group).output();
    }
}

/// The tools do not wait for each other.
fn alone() -> File {
    let lock = File::create(std::env::temp_dir().join("atrest-tests.people.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    lock
}

/// The third field of somebody's line.
fn number(database: &[&str], name: &str) -> u32 {
    let line = run(Command::new(require("getent")).args(database).arg(name)).ok().stdout;
    line.split(':').nth(2).and_then(|field| field.parse().ok()).expect("a number")
}
