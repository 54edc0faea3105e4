//! The filesystems that are timed: what each needs, how its vault is made, how its daemon starts.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::error::Result;
use crate::tools::{self, Tools};

/// A filesystem under test. Each daemon runs in the foreground as a child of the bench, with the
/// options its package comes with; only key derivation is made cheap, since it costs a mount alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Candidate {
    Gocryptfs,
    Securefs,
    Atrest,
    /// atrest with --no-writeback
    AtrestNoWriteback,
    /// atrest with --no-trail
    AtrestNoTrail,
    /// libfuse's passthrough_ll with the writeback cache: a practical ceiling
    Passthrough,
    /// The backing directory itself
    Bare,
}

/// Where one run keeps its vault and mounts it.
pub struct Paths {
    pub vault: PathBuf,
    pub mountpoint: PathBuf,
    pub key_file: PathBuf,
    pub log: PathBuf,
    pub trail: PathBuf,
}

impl Paths {
    pub fn below(directory: &Path) -> Self {
        Self {
            vault: directory.join("vault"),
            mountpoint: directory.join("mnt"),
            key_file: directory.join("key.json"),
            log: directory.join("daemon.log"),
            trail: directory.join("trail"),
        }
    }
}

impl Candidate {
    /// What the ratios are taken to.
    pub const BASELINE: Self = Self::Gocryptfs;
    /// The encrypted filesystems atrest is held against.
    pub const PEERS: [Self; 2] = [Self::Gocryptfs, Self::Securefs];

    pub fn name(self) -> &'static str {
        match self {
            Self::Gocryptfs => "gocryptfs",
            Self::Securefs => "securefs",
            Self::Atrest => "atrest",
            Self::AtrestNoWriteback => "atrest-no-writeback",
            Self::AtrestNoTrail => "atrest-no-trail",
            Self::Passthrough => "passthrough",
            Self::Bare => "bare",
        }
    }

    /// Where the program that mounts it is looked for; none for the bare directory.
    pub fn program(self, tools: &Tools) -> Option<PathBuf> {
        match self {
            Self::Gocryptfs | Self::Securefs => Some(PathBuf::from(self.name())),
            Self::Atrest | Self::AtrestNoWriteback | Self::AtrestNoTrail => {
                Some(tools.atrest.clone())
            }
            Self::Passthrough => Some(tools.passthrough.clone()),
            Self::Bare => None,
        }
    }

    /// The first line of what the program says its version is.
    pub fn version(self, tools: &Tools) -> Option<String> {
        let flag = if self == Self::Securefs { "version" } else { "--version" };
        let output = tools.command(&self.program(tools)?).arg(flag).output().ok()?;
        let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
    }

    /// Makes an empty vault.
    pub fn create(self, tools: &Tools, paths: &Paths) -> Result<()> {
        let Some(program) = self.program(tools) else { return Ok(()) };
        let mut command = tools.command(&program);
        match self {
            Self::Gocryptfs => command
                .args(["-init", "-q", "-scryptn", "10", "-passfile"])
                .arg(&tools.password)
                .arg(&paths.vault),
            Self::Securefs => command
                .args([
                    "create",
                    "--pbkdf",
                    "pkcs5-pbkdf2-hmac-sha256",
                    "-r",
                    "1",
                    "--pass",
                    tools::PASSWORD,
                ])
                .arg(&paths.vault),
            Self::Atrest | Self::AtrestNoWriteback | Self::AtrestNoTrail => {
                command.arg("init").arg(&paths.vault).arg("--key-file").arg(&paths.key_file)
            }
            Self::Passthrough | Self::Bare => return Ok(()),
        };
        tools::run(&mut command)
    }

    /// The daemon that mounts the vault, in the foreground; none for the bare directory.
    pub fn daemon(self, tools: &Tools, paths: &Paths) -> Option<Command> {
        let mut command = tools.command(&self.program(tools)?);
        match self {
            Self::Gocryptfs => {
                command
                    .args(["-fg", "-q", "-passfile"])
                    .arg(&tools.password)
                    .arg(&paths.vault)
                    .arg(&paths.mountpoint);
            }
            Self::Securefs => {
                command
                    .args(["mount", "--pass", tools::PASSWORD])
                    .arg(&paths.vault)
                    .arg(&paths.mountpoint);
            }
            Self::Atrest | Self::AtrestNoWriteback | Self::AtrestNoTrail => {
                command
                    .arg("mount")
                    .arg(&paths.vault)
                    .arg(&paths.mountpoint)
                    .args(["-f", "--key-file"])
                    .arg(&paths.key_file);
                if let Some(options) = &tools.atrest_options {
                    command.arg("-o").arg(options);
                }
                if self == Self::AtrestNoWriteback {
                    command.arg("--no-writeback");
                }
                if self == Self::AtrestNoTrail {
                    command.arg("--no-trail");
                } else {
                    command.arg("--trail").arg(&paths.trail);
                }
            }
            Self::Passthrough => {
                let options =
                    format!("source={},writeback,cache=always,timeout=3600", paths.vault.display());
                command.args(["-f", "-o", &options]).arg(&paths.mountpoint);
            }
            Self::Bare => return None,
        }
        Some(command)
    }
}
