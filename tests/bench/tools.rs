//! The programs a run needs: found or refused before anything is timed, and run with a home of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::candidates::Candidate;
use crate::error::{Context, Error, Result};

/// The password of every peer's vault; it guards nothing.
pub const PASSWORD: &str = "bench";

const PASSTHROUGH_SOURCE: &str = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c";

/// Where programs lie and what they are run with.
pub struct Tools {
    pub atrest: PathBuf,
    /// What its mounts are given with -o
    pub atrest_options: Option<String>,
    pub passthrough: PathBuf,
    pub password: PathBuf,
    home: PathBuf,
}

impl Tools {
    /// Checks that all that `candidates` and the workloads need is there; compiles passthrough_ll into `home`.
    pub fn gather(
        candidates: &[Candidate],
        atrest: &Path,
        atrest_options: Option<String>,
        home: &Path,
    ) -> Result<Self> {
        let tools = Self {
            atrest: atrest.to_owned(),
            atrest_options,
            passthrough: home.join("passthrough_ll"),
            password: home.join("password"),
            home: home.to_owned(),
        };
        fs::write(&tools.password, PASSWORD).with(|| "writing the password file".into())?;
        if candidates.contains(&Candidate::Passthrough) {
            compile_passthrough(&tools.passthrough)?;
        }
        for program in ["tar", "git", "sqlite3"] {
            find(Path::new(program)).with(|| "a workload needs it".into())?;
        }
        for &candidate in candidates {
            if let Some(program) = candidate.program(&tools) {
                find(&program).with(|| {
                    format!("{} cannot be timed (leave it out with --only)", candidate.name())
                })?;
                find(Path::new("fusermount3"))
                    .with(|| "FUSE mounts need it (package fuse3)".into())?;
            }
        }
        Ok(tools)
    }

    /// A command that reads no configuration of the user's and asks no questions.
    pub fn command(&self, program: &Path) -> Command {
        isolated(program, &self.home)
    }
}

/// `program` with `home` for all that it looks up below a home directory.
pub fn isolated(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("HOME", home).stdin(Stdio::null());
    for variable in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
        command.env_remove(variable);
    }
    command
}

/// Runs `command` to its end; its output is shown only when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let doing = format!("{command:?}");
    let output = command.output().with(|| doing.clone())?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::new(format!("{doing}: {}\n{}", output.status, String::from_utf8_lossy(&said))))
}

/// `program` itself when it names a file, else where PATH has it.
fn find(program: &Path) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|directory| directory.join(program));
    let places: Vec<PathBuf> =
        if program.components().count() > 1 { vec![program.to_owned()] } else { in_path.collect() };
    let found = places.into_iter().find(|place| place.is_file());
    found.ok_or_else(|| Error::new(format!("{} is missing", program.display())))
}

fn compile_passthrough(output: &Path) -> Result<()> {
    if !Path::new(PASSTHROUGH_SOURCE).is_file() {
        let advice = "install libfuse3-dev with its examples, or leave passthrough out with --only";
        return Err(Error::new(format!("{PASSTHROUGH_SOURCE} is missing: {advice}")));
    }
    let mut compiler = Command::new("gcc");
    compiler
        .args(["-O2", "-D_FILE_OFFSET_BITS=64", "-I/usr/include/fuse3", PASSTHROUGH_SOURCE, "-o"])
        .arg(output);
    run(compiler.arg("-lfuse3"))
}
