//! A vault made by the command line, with its key file and its mount point beside it.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::process::{Outcome, run, run_within};
use super::{Backing, Mounted, Scratch, User};

/// The binary under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_atrest"))
}

/// Whether a bare directory stands in for the mount (`ATREST_TEST_BARE=1`).
pub fn bare() -> bool {
    std::env::var_os("ATREST_TEST_BARE").is_some_and(|value| value == "1")
}

/// A vault in a scratch directory of its own. Clones share it; the last one gone removes it.
#[derive(Clone)]
pub struct Vault {
    shared: Arc<Shared>,
}

struct Shared {
    scratch: Scratch,
    binary: PathBuf,
    /// Who runs the binary; nobody means the test's own user.
    user: Option<User>,
    /// How many daemons have been started: each has a log file of its own.
    mounts: AtomicU32,
}

impl Vault {
    /// `atrest init`, on the backing that `ATREST_TEST_BACKING` names, else a disk.
    pub fn init() -> Vault {
        Vault::init_in(Scratch::new())
    }

    pub fn init_on(backing: Backing) -> Vault {
        Vault::init_in(Scratch::on(backing))
    }

    /// `atrest init` in a scratch directory that the test has prepared.
    pub fn init_in(scratch: Scratch) -> Vault {
        Vault::prepare_in(scratch, binary().to_owned()).inited()
    }

    /// A vault of another user, who runs every command on it, by a copy of the binary that they may
    /// run wherever the tests were built. Root only.
    pub fn init_as(user: &User) -> Vault {
        let scratch = Scratch::new();
        let copy = scratch.join("atrest");
        // By another process: a descriptor of ours that is open for writing, inherited by whatever
        // another test starts in that moment, would make the program "busy".
        run(Command::new("cp").arg(binary()).arg(&copy)).ok();
        let mut vault = Vault::prepare_in(scratch, copy);
        let shared = Arc::get_mut(&mut vault.shared).expect("one owner so far");
        for path in ["", "vault", "mnt", "home", "log", "keys"] {
            chown(shared.scratch.join(path), Some(user.uid), Some(user.gid)).expect("chown");
        }
        shared.user = Some(user.clone());
        vault.inited()
    }

    /// Another user has it from now on, and all that belongs to it. Root only.
    pub fn given_to(mut self, user: &User) -> Vault {
        let shared = Arc::get_mut(&mut self.shared).expect("one owner so far");
        let owner = format!("{}:{}", user.uid, user.gid);
        run(Command::new("chown").args(["-R", &owner]).arg(shared.scratch.path())).ok();
        shared.user = Some(user.clone());
        self
    }

    fn inited(self) -> Vault {
        if !bare() {
            run(self.command(&["init"]).arg(self.path()).arg("--key-file").arg(self.key_file()))
                .ok();
        }
        self
    }

    /// The places only: the directory of the vault is there and empty, and nothing was run.
    pub fn prepare() -> Vault {
        Vault::prepare_in(Scratch::new(), binary().to_owned())
    }

    /// The places only, for a binary at another path (one that another user may run).
    pub fn prepare_in(scratch: Scratch, binary: PathBuf) -> Vault {
        for name in ["vault", "mnt", "home", "log", "keys"] {
            scratch.make_dir(name);
        }
        Vault {
            shared: Arc::new(Shared { scratch, binary, user: None, mounts: AtomicU32::new(0) }),
        }
    }

    /// The backing directory.
    pub fn path(&self) -> PathBuf {
        self.scratch().join("vault")
    }

    /// Where [`Vault::mount`] mounts it.
    pub fn mountpoint(&self) -> PathBuf {
        self.scratch().join("mnt")
    }

    pub fn key_file(&self) -> PathBuf {
        self.scratch().join("keys/key.json")
    }

    pub fn scratch(&self) -> &Scratch {
        &self.shared.scratch
    }

    /// A log file that no mount has used yet.
    pub fn next_log(&self) -> PathBuf {
        let number = self.shared.mounts.fetch_add(1, Ordering::Relaxed) + 1;
        self.scratch().join(format!("log/daemon-{number}.log"))
    }

    /// The binary with these arguments, the key file in its environment, and nothing of the
    /// person's own configuration in reach. Not yet run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.shared.binary);
        let home = self.scratch().join("home");
        command
            .args(args)
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_STATE_HOME", home.join("state"))
            .env("ATREST_KEY_FILE", self.key_file())
            .env_remove("RUST_LOG")
            .current_dir(self.scratch().path());
        if let Some(user) = &self.shared.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// Lets every user read and make files, as far as modes do: what a mount with `--allow-other`
    /// alone does not.
    #[track_caller]
    pub fn shared(self) -> Vault {
        if !bare() {
            let grant = ["--everyone", "--allow", "decrypt,generate-data-key"];
            run(self.command(&["key", "grant"]).arg(self.path()).args(grant)).ok();
        }
        self
    }

    /// Runs the binary with these arguments and then the vault's path: `vault.run(&["verify"])`.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Outcome {
        run(self.command(args).arg(self.path()))
    }

    /// `atrest verify VAULT`: every block of every file must be found whole.
    #[track_caller]
    pub fn verify(&self) -> Outcome {
        run_within(Duration::from_secs(600), self.command(&["verify"]).arg(self.path())).ok()
    }

    /// `atrest mount VAULT MOUNTPOINT` with these options.
    #[track_caller]
    pub fn mount(&self, options: &[&str]) -> Mounted {
        Mounted::mount(self, options)
    }

    /// As [`Vault::mount`], for a test that wants to see it fail.
    #[track_caller]
    pub fn try_mount(&self, options: &[&str]) -> Result<Mounted, Outcome> {
        Mounted::try_mount(self, options)
    }
}
