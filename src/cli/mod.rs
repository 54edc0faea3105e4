//! The command line: one file a subcommand. Parse, call, print; exit codes.

mod backend;
mod bench;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod init;
mod key;
mod mount;
mod mount_helper;
mod mount_switches;
mod output;
mod policy;
mod progress;
mod status;
mod target;
mod trail;
mod umount;
mod vault_args;
mod verify;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use crate::sys;

use crate::service::failure::{Context, EXIT_CODES, Failure, warn_user};
use mount_helper::Helper;

pub use crate::service::failure::Exit;

/// An encrypted directory: a vault, mounted, in which every file has a key of its own.
#[derive(Debug, clap::Parser)]
#[command(name = "atrest", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Init(init::Args),
    Mount(mount::Args),
    Umount(umount::Args),
    #[command(subcommand)]
    Key(key::Command),
    #[command(subcommand)]
    Policy(policy::Command),
    #[command(subcommand)]
    Trail(trail::Command),
    Status(status::Args),
    Verify(verify::Args),
    Bench(bench::Args),
}

/// Does what the arguments say, the program's name first among them, and tells a failure in one
/// message on stderr.
pub fn run(arguments: &[OsString]) -> Exit {
    match execute(arguments) {
        Ok(exit) => exit,
        Err(failure) => {
            if !failure.message.is_empty() {
                warn_user(&failure.message);
            }
            failure.exit
        }
    }
}

fn execute(arguments: &[OsString]) -> Result<Exit, Failure> {
    sys::reset_process();
    sys::keep_secrets().context(Exit::Failed, || "core dumps can't be turned off".to_owned())?;
    if arguments.get(1).is_some_and(|argument| argument == sys::MONITOR_ARGUMENT) {
        return crate::daemon::run_monitor();
    }
    match mount_helper::parse(arguments) {
        Some(Ok(Helper::Mount(args))) => return mount::run(&args),
        Some(Ok(Helper::Pretend)) => return Ok(Exit::Done),
        Some(Err(failure)) => return Err(failure),
        None => {}
    }
    let command = Cli::command()
        .after_help(EXIT_CODES)
        .mut_subcommands(|subcommand| subcommand.after_help(EXIT_CODES));
    let parsed =
        command.try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(Cli { command }) => dispatch(&command),
        Err(error) => explain(&error),
    }
}

fn dispatch(command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => init::run(args),
        Command::Mount(args) => mount::run(args),
        Command::Umount(args) => umount::run(args),
        Command::Key(command) => key::run(command),
        Command::Policy(command) => policy::run(command),
        Command::Trail(command) => trail::run(command),
        Command::Status(args) => status::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Bench(args) => bench::run(args),
    }
}

/// Prints help if it was requested; else says in one sentence what is wrong with the command line.
fn explain(error: &clap::Error) -> Result<Exit, Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            error.print()?;
            Ok(Exit::Done)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            error.print()?;
            Ok(Exit::Usage)
        }
        _ => {
            let rendered = error.to_string();
            let what: Vec<_> =
                rendered.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            let what = what.join(" ");
            let what = what.strip_prefix("error: ").unwrap_or(&what);
            Err(Failure::new(Exit::Usage, format!("{what}; see `atrest --help`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_is_told_in_one_sentence() {
        for line in ["atrest mount v", "atrest nope", "atrest mount v m --nope", "atrest key"] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            match Cli::command().try_get_matches_from(words).map(|_| ()) {
                Err(error) if line == "atrest key" => assert_eq!(error.exit_code(), 2),
                Err(error) => {
                    let failure = explain(&error).unwrap_err();
                    assert_eq!(failure.exit, Exit::Usage);
                    assert!(!failure.message.contains('\n'), "{failure}");
                }
                Ok(()) => panic!("{line} was understood"),
            }
        }
    }
}
