//! The switches of `atrest mount`, made of the table of mount options.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};

use crate::daemon::options::{MountOption, OPTIONS, Options, Value};
use crate::service::failure::Failure;

/// The switches that were given, by name, with their values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Switches(Vec<(&'static str, OsString)>);

impl Switches {
    /// Applies them in the order of the table.
    ///
    /// # Errors
    /// [`Exit::Usage`](crate::service::failure::Exit::Usage) for a value that an option can't have.
    pub fn apply(&self, options: &mut Options) -> Result<(), Failure> {
        self.0.iter().try_for_each(|(name, value)| options.apply_switch(name, value))
    }
}

fn argument((name, option): (&'static str, &'static MountOption)) -> Arg {
    let help = option.switch.as_ref().map_or("", |switch| switch.help);
    let arg = Arg::new(name).long(name).help(help);
    let arg = match &option.value {
        Value::None => arg.action(ArgAction::SetTrue),
        Value::Required { name, parser, .. } => arg.value_name(*name).value_parser(parser()),
        Value::Optional { name, default } => arg
            .value_name(*name)
            .value_parser(clap::value_parser!(std::path::PathBuf))
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value(*default),
    };
    if name == "no-trail" {
        let others = switches().map(|(name, _)| name);
        let of_trail = |name: &&str| name.starts_with("trail");
        return arg.conflicts_with_all(others.filter(of_trail).collect::<Vec<_>>());
    }
    arg
}

fn switches() -> impl Iterator<Item = (&'static str, &'static MountOption)> {
    OPTIONS.iter().filter_map(|option| Some((option.switch.as_ref()?.name, option)))
}

impl clap::Args for Switches {
    fn augment_args(command: Command) -> Command {
        command.args(switches().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Switches {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_given = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        let value = |name| {
            let value = matches.get_raw(name).and_then(|mut values| values.next());
            (name, value.map(OsString::from).unwrap_or_default())
        };
        Ok(Self(switches().map(|(name, _)| name).filter(is_given).map(value).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
