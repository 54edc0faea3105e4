//! A vault with all that belongs to it, put back before each step, and somebody who changes one file
//! of that while its daemon is held before a call.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown, lchown};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};

use super::parts::{Parts, SOCKETS};
use super::{At, CONTENT, Change, KEEPERS, SECRET_CONTENT, Victim, make_victims, opening};
use crate::common::injector::{Call, Injector};
use crate::common::mounted::{daemons_of, is_mounted, kill_and_wait};
use crate::common::vault::binary;
use crate::common::{
    Campaign, Outcome, User, Vault, pattern, require_root, run, run_within, wait_until,
};
use crate::nobody;

/// Longer no command may take, and no daemon its end.
const LIMIT: Duration = Duration::from_secs(30);

const FILE_CHANGES: [Change; 9] = [
    Change::LinkToSecret,
    Change::LinkToDirectory,
    Change::HardLinkOfSecret,
    Change::Pipe,
    Change::Device,
    Change::Directory,
    Change::Noise,
    Change::Nothing,
    Change::OthersFile,
];

const DIRECTORY_CHANGES: [Change; 7] = [
    Change::LinkToSecret,
    Change::LinkToDirectory,
    Change::Pipe,
    Change::Directory,
    Change::Noise,
    Change::Nothing,
    Change::OthersDirectory,
];

/// What is stepped through.
pub struct Scene {
    pub name: &'static str,
    /// What comes before, undisturbed, before the mount and in it.
    pub before: &'static [Before],
    pub act: Act,
}

pub enum Before {
    /// The machine has never seen the vault.
    FirstSeen,
    /// The last mount did not end.
    Crash,
    /// Somebody has changed a line of the trail.
    ChangedTrail,
    /// A command on the mount.
    Run(&'static [&'static str]),
    /// Something is written, and not yet durable.
    Written,
}

pub enum Act {
    Mount(&'static [&'static str]),
    Unmount,
    /// A command on the mount, which asks the daemon.
    Ask(&'static [&'static str]),
}

/// Who changes it.
pub enum Attacker {
    /// Nobody, by whatever lets them: what they put there is theirs.
    Nobody,
    /// Who may write the vault's directory and speak to the daemon, by themselves where they can.
    Keeper,
}

impl Attacker {
    fn user(&self) -> User {
        match self {
            Attacker::Nobody => nobody(),
            Attacker::Keeper => User::new(41_003).with_groups(&[41_003, KEEPERS]),
        }
    }
}

struct Attack {
    /// The call before which it is done.
    at: usize,
    target: PathBuf,
    change: Change,
}

pub struct World {
    vault: Vault,
    parts: Parts,
    injector: Injector,
    attacker: Attacker,
    log: PathBuf,
    number: usize,
    found: BTreeMap<String, usize>,
}

impl World {
    pub fn new(attacker: Attacker) -> World {
        require_root();
        let vault = Vault::init();
        let parts = Parts::apart(&vault);
        set_child_subreaper(Some(getpid())).unwrap();
        let scratch = vault.scratch().path().to_owned();
        make_victims(&scratch);
        // For keepers, who may not reach the place where it was built.
        run(Command::new("cp").arg(binary()).arg(scratch.join("atrest"))).ok();
        let injector = Injector::with(&scratch, &[Path::new(SOCKETS)]);
        let log = scratch.join("log/none");
        let mut world =
            World { vault, parts, injector, attacker, log, number: 0, found: BTreeMap::new() };
        let actions = "decrypt,generate-data-key,describe,create,rotate,rewrap,retire,assign,\
                       put-policy,read-trail";
        let group = KEEPERS.to_string();
        let grant = ["key", "grant", "--group", &group, "--allow", actions];
        world.vault.run(&grant).ok();
        world.mount(&[]).ok();
        let mount = world.vault.mountpoint();
        fs::write(mount.join("file"), pattern(0, CONTENT)).unwrap();
        fs::create_dir(mount.join("dir")).unwrap();
        fs::write(mount.join("dir/other"), pattern(1, 100)).unwrap();
        world.run(&["umount"]).ok();
        world.parts.keep("older");
        for command in [&["key", "rotate"][..], &["key", "rewrap"]] {
            world.vault.run(command).ok();
        }
        world.mount(&[]).ok();
        fs::write(mount.join("dir/other"), pattern(3, 100)).unwrap();
        world.run(&["umount"]).ok();
        world.parts.keep("base");
        world
    }

    /// All scenes, with each change before each call, or of every `stride` of these steps one.
    pub fn play(self, scenes: &[Scene], stride: usize) {
        self.play_with(scenes, Campaign::pick(stride, full_stride()), |_, _, _| true);
    }

    /// All scenes, with those changes of a file before a call that `is_played` says.
    pub fn play_only(self, scenes: &[Scene], is_played: impl Fn(&Call, &Path, Change) -> bool) {
        self.play_with(scenes, 1, is_played);
    }

    fn play_with(
        mut self,
        scenes: &[Scene],
        stride: usize,
        is_played: impl Fn(&Call, &Path, Change) -> bool,
    ) {
        let (mut done, mut possible) = (0_usize, 0_usize);
        for scene in scenes {
            let calls = self.step(scene, None);
            let mut attacks = self.attacks(&calls);
            attacks.retain(|Attack { at, target, change }| is_played(&calls[*at], target, *change));
            for attack in attacks {
                possible += 1;
                if possible.is_multiple_of(stride) {
                    done += 1;
                    self.step(scene, Some(&attack));
                }
            }
        }
        assert!(possible > 0, "nothing is changed");
        Campaign::report(format!("{done} steps of {possible}"));
        assert!(self.found.is_empty(), "{:#?}", self.found);
    }

    fn attacks(&self, calls: &[Call]) -> Vec<Attack> {
        let mut attacks = Vec::new();
        for (at, call) in calls.iter().enumerate() {
            let parents = call.paths.iter().filter_map(|path| path.parent());
            let mut targets: Vec<_> = call.paths.iter().map(PathBuf::as_path).collect();
            targets.extend(parents);
            targets.sort();
            targets.dedup();
            for target in targets.into_iter().filter(|target| self.parts.have(target)) {
                let is_directory =
                    target == Path::new(SOCKETS) || self.parts.kept("base", target).is_dir();
                let changes: &[_] = if is_directory { &DIRECTORY_CHANGES } else { &FILE_CHANGES };
                attacks.extend(changes.iter().filter_map(|&change| {
                    let is_older = matches!(change, Change::OthersFile | Change::OthersDirectory);
                    let target = target.to_owned();
                    (!is_older || self.parts.kept("older", &target).exists()).then_some(Attack {
                        at,
                        target,
                        change,
                    })
                }));
            }
        }
        attacks
    }

    /// One step; the calls that there were, where nothing is changed.
    fn step(&mut self, scene: &Scene, attack: Option<&Attack>) -> Vec<Call> {
        self.number += 1;
        self.parts.put_back();
        let what = match attack {
            Some(Attack { at, target, change }) => {
                format!("{}, {change:?} at {} before call {at}", scene.name, target.display())
            }
            None => format!("{}, undisturbed", scene.name),
        };
        let mut wrong = Vec::new();
        let is_mount = matches!(scene.act, Act::Mount(_));
        scene.before.iter().for_each(|before| self.prepare_unmounted(before));
        if !is_mount {
            let group = KEEPERS.to_string();
            let options: &[&str] = match self.attacker {
                Attacker::Nobody => &[],
                Attacker::Keeper => &["--allow-other", "--admin-group", &group],
            };
            self.mount(options).ok();
            scene.before.iter().for_each(|before| self.prepare_mounted(before));
        }
        let daemons = daemons_of(&self.vault.mountpoint());
        let scratch = self.vault.scratch().path().to_owned();
        let victims = Victim::outside(&scratch, attack.map(|attack| attack.change));
        match attack {
            Some(attack) => self.lie_in_wait(attack),
            None => self.injector.record(),
        }
        let acted = match scene.act {
            Act::Mount(options) => catch(|| self.mount(options)),
            Act::Unmount => catch(|| self.run(&["umount"])),
            Act::Ask(arguments) => catch(|| self.ask(arguments)),
        };
        let calls = self.injector.recorded();
        match acted {
            Ok(outcome) => {
                self.judge(&outcome, &mut wrong);
                if attack.is_none() && !outcome.success() {
                    wrong.push(format!("failed undisturbed: {outcome}"));
                }
            }
            Err(hang) => wrong.push(hang),
        }
        self.end(daemons, attack.is_some(), &mut wrong);
        wrong.extend(victims.iter().filter_map(Victim::harm));
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        if log.contains("panicked") || log.contains(SECRET_CONTENT) {
            wrong.push(format!("the log: {log}"));
        }
        for wrong in wrong {
            eprintln!("{what}: {wrong}");
            *self.found.entry(what.clone()).or_default() += 1;
        }
        calls
    }

    fn lie_in_wait(&self, attack: &Attack) {
        let (change, target) = (attack.change, attack.target.clone());
        let scratch = self.vault.scratch().path().to_owned();
        let others = scratch.join(format!("others-{}", self.number));
        if matches!(change, Change::OthersFile | Change::OthersDirectory) {
            run(Command::new("cp").arg("-a").arg(self.parts.kept("older", &target)).arg(&others))
                .ok();
        }
        // A rename stays on its filesystem.
        let beside = if target.starts_with(SOCKETS) { Path::new("/run") } else { &*scratch };
        let here = At {
            target,
            away: beside.join(format!("away-{}", self.number)),
            scratch,
            others_file: others.clone(),
            others_directory: others,
        };
        let vault = self.vault.path();
        let (user, is_keeper) = (self.attacker.user(), matches!(self.attacker, Attacker::Keeper));
        self.injector.step(attack.at, move || {
            if is_keeper {
                chown(&vault, None, Some(KEEPERS)).unwrap();
                fs::set_permissions(&vault, Permissions::from_mode(0o770)).unwrap();
            }
            let by_them = is_keeper && user.run(|| change.make(&here).is_ok());
            let is_made = by_them || change.make(&here).is_ok();
            let is_new = matches!(
                change,
                Change::LinkToSecret
                    | Change::LinkToDirectory
                    | Change::Pipe
                    | Change::Directory
                    | Change::Noise
            );
            if is_made && is_new {
                lchown(&here.target, Some(user.uid), Some(user.gid)).unwrap();
            }
        });
    }

    /// Whether a command ended as one does, having shown nothing of others.
    fn judge(&self, outcome: &Outcome, wrong: &mut Vec<String>) {
        let Outcome { status, stdout, stderr, .. } = outcome;
        let is_told = status.success() || !stderr.is_empty() || !stdout.is_empty();
        let shows = [stdout, stderr].iter().any(|text| text.contains(SECRET_CONTENT));
        let died = ["panicked", "the daemon died", "did not answer"];
        let died = died.iter().any(|said| stderr.contains(said));
        if status.code().is_none() || !is_told || shows || died || stderr.len() > 4096 {
            wrong.push(outcome.to_string());
        }
    }

    /// Reads a file where there is a mount, and has it end.
    fn end(&self, mut daemons: Vec<u32>, is_changed: bool, wrong: &mut Vec<String>) {
        let mountpoint = self.vault.mountpoint();
        daemons.extend(daemons_of(&mountpoint));
        daemons.sort_unstable();
        daemons.dedup();
        if is_mounted(&mountpoint) {
            let path = mountpoint.join("file");
            let reader = thread::spawn(move || {
                let mut read = Vec::new();
                let opened = opening().read(true).open(path);
                opened.and_then(|file| file.take(1 << 20).read_to_end(&mut read)).map(|_| read)
            });
            match wait_until(LIMIT, || reader.is_finished().then_some(())) {
                None => wrong.push("a read hangs".to_owned()),
                Some(()) => {
                    // Of a pipe that an attacker made the kernel reads nothing.
                    if let Ok(Ok(read)) = reader.join()
                        && !(read == pattern(0, CONTENT) || read.is_empty() && is_changed)
                    {
                        wrong.push(format!("{} other bytes were read", read.len()));
                    }
                }
            }
            match catch(|| self.run(&["umount"])) {
                Ok(outcome) => self.judge(&outcome, wrong),
                Err(hang) => wrong.push(hang),
            }
            if is_mounted(&mountpoint) {
                wrong.push("the mount can't be ended".to_owned());
            }
        }
        let gone = wait_until(LIMIT, || daemons_of(&mountpoint).is_empty().then_some(()));
        if gone.is_none() {
            wrong.push("the daemon goes on".to_owned());
            self.tear_down();
        }
        for daemon in daemons {
            let pid = Pid::from_raw(daemon as i32).unwrap();
            // One that was another's child is not ours to ask.
            if let Ok(Some((_, status))) = waitpid(Some(pid), WaitOptions::NOHANG)
                && status.signaled()
            {
                wrong.push(format!(
                    "process {daemon} was ended by {:?}",
                    status.terminating_signal()
                ));
            }
        }
    }

    fn tear_down(&self) {
        let mountpoint = self.vault.mountpoint();
        daemons_of(&mountpoint).into_iter().for_each(kill_and_wait);
        while is_mounted(&mountpoint) {
            rustix::mount::unmount(&mountpoint, UnmountFlags::DETACH).unwrap();
        }
    }

    fn mount(&mut self, options: &[&str]) -> Outcome {
        self.log = self.vault.next_log();
        let mut command = self.vault.command(&["mount"]);
        command.arg(self.vault.path()).arg(self.vault.mountpoint());
        command.arg("--log-file").arg(&self.log).args(options);
        self.injector.wrap(&mut command);
        run_within(LIMIT, &mut command)
    }

    /// A command on the mount, of root.
    fn run(&self, arguments: &[&str]) -> Outcome {
        run_within(LIMIT, self.vault.command(arguments).arg(self.vault.mountpoint()))
    }

    /// A command on the mount, of whoever may speak to the daemon.
    fn ask(&self, arguments: &[&str]) -> Outcome {
        let Attacker::Keeper = self.attacker else { return self.run(arguments) };
        let like = self.vault.command(arguments);
        let mut command = Command::new(self.vault.scratch().join("atrest"));
        command.args(like.get_args()).arg(self.vault.mountpoint()).current_dir("/");
        for (name, value) in like.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.attacker.user().run(|| run_within(LIMIT, &mut command))
    }

    /// The vault keeps that this machine, if it has an id, has a record of it. In this mount namespace
    /// it has another id from here on.
    fn be_another_machine(&self) {
        const ID: &str = "/etc/machine-id";
        let other = self.vault.scratch().join("machine-id");
        if Path::new(ID).exists() && !other.exists() {
            fs::write(&other, "00000000000000000000000000000001\n").unwrap();
            rustix::mount::mount_bind(&other, ID).unwrap();
        }
    }

    fn prepare_unmounted(&mut self, before: &Before) {
        match before {
            Before::FirstSeen => {
                fs::remove_dir_all(self.vault.scratch().join("home/state")).unwrap();
                self.be_another_machine();
            }
            Before::Crash => {
                self.mount(&[]).ok();
                fs::write(self.vault.mountpoint().join("new"), pattern(4, CONTENT)).unwrap();
                self.tear_down();
            }
            Before::ChangedTrail => {
                let files = fs::read_dir(self.parts.trail()).unwrap();
                let files = files.map(|entry| entry.unwrap().path());
                let first = files.filter(|path| path.extension().is_some()).min().unwrap();
                let lines = fs::read_to_string(&first).unwrap();
                fs::write(&first, lines.replacen("\"Mount\"", "\"Mound\"", 1)).unwrap();
            }
            Before::Run(_) | Before::Written => {}
        }
    }

    fn prepare_mounted(&self, before: &Before) {
        match before {
            Before::Run(arguments) => drop(self.run(arguments).ok()),
            Before::Written => {
                let mount = self.vault.mountpoint();
                fs::write(mount.join("new"), pattern(4, CONTENT)).unwrap();
                fs::write(mount.join("dir/other"), pattern(5, CONTENT)).unwrap();
            }
            Before::FirstSeen | Before::Crash | Before::ChangedTrail => {}
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tear_down();
    }
}

/// Every so many steps of a full campaign are done: `ATREST_STEPPING`, else each.
fn full_stride() -> usize {
    std::env::var("ATREST_STEPPING").map_or(1, |stride| stride.parse().expect("a number"))
}

/// What a command came to, or that it did not end.
fn catch(act: impl FnOnce() -> Outcome) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|panic| {
        panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".to_owned())
    })
}
