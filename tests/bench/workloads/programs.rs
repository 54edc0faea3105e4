//! Programs as people run them: tar, git, the SQLite shell.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Row, Supplies};
use crate::error::{Context, Error, Result};
use crate::stage::Stage;
use crate::tools::{isolated, run};

pub fn untar(stage: &mut Stage, supplies: &Supplies) -> Result<()> {
    stage.time(Row::Untar, 1.0, |directory| extract(directory, supplies))
}

pub fn git(stage: &mut Stage, supplies: &Supplies) -> Result<()> {
    extract(stage.directory(), supplies)?;
    let call = |directory: &Path, arguments: &[&str]| {
        run(program("git", directory, supplies).args(arguments))
    };
    call(stage.directory(), &["init", "-q"])?;
    stage.time(Row::Git, 1.0, |directory| {
        call(directory, &["add", "-A"])?;
        call(directory, &["commit", "-q", "-m", "all of it"])?;
        call(directory, &["status", "--porcelain"])
    })
}

pub fn sqlite(stage: &mut Stage, supplies: &Supplies) -> Result<()> {
    let transactions = supplies.scale.transactions;
    let script = supplies.home.join("inserts.sql");
    let inserts: String = (0..transactions)
        .map(|number| {
            format!("INSERT INTO entries VALUES ({number}, 'entry {number} of a small table');\n")
        })
        .collect();
    fs::write(&script, inserts).with(|| script.display().to_string())?;
    let shell = |directory: &Path| {
        let mut command = program("sqlite3", directory, supplies);
        command.args(["-batch", "-bail", "entries.db"]);
        command
    };
    run(shell(stage.directory())
        .arg("CREATE TABLE entries (number INTEGER PRIMARY KEY, text TEXT)"))?;
    stage.time(Row::Sqlite, f64::from(transactions), |directory| {
        let input = fs::File::open(&script).with(|| script.display().to_string())?;
        run(shell(directory).stdin(input))
    })?;
    let output = shell(stage.directory())
        .arg("SELECT count(*) FROM entries")
        .output()
        .with(|| "sqlite3".into())?;
    let counted = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if counted == transactions.to_string() {
        return Ok(());
    }
    Err(Error::new(format!("the table holds {counted:?} rows after {transactions} inserts")))
}

fn extract(directory: &Path, supplies: &Supplies) -> Result<()> {
    run(program("tar", directory, supplies).arg("-xf").arg(&supplies.archive))
}

/// `name`, to be run in `directory` with the bench's home.
fn program(name: &str, directory: &Path, supplies: &Supplies) -> Command {
    let mut command = isolated(Path::new(name), &supplies.home);
    command.current_dir(directory).env("GIT_CONFIG_NOSYSTEM", "1");
    command
}
