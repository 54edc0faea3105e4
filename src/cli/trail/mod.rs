//! `atrest trail`: who used the master keys, and whether the record of it is whole.

mod lines;
mod show;
mod source;

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::keys::Timestamp;
use crate::sys::Show;
use crate::trail::{EventName, Filter, Head, Report, number};

use crate::cli::backend::Backend;
use crate::cli::output::{print, print_json};
use crate::cli::target::{Target, within};
use crate::cli::trail::lines::Lines;
use crate::cli::vault_args::VaultArgs;
use crate::service::failure::{Exit, Failure, warn_user};
use crate::service::principals;
use crate::service::request::{Request, TrailRequest};
use crate::service::text::counted;
use source::Source;

/// How often `tail -f` looks.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// What becomes of findings.
const ACKNOWLEDGE_HINT: &str =
    "once the cause is known, `atrest trail acknowledge VAULT --reason TEXT` closes that";

/// Who used the master keys, and whether the record of it is whole.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Check that no line was changed, dropped, moved, inserted or cut off
    Verify(VerifyArgs),
    /// Print the lines that meet all that is asked, oldest first
    Query(QueryArgs),
    /// Say who opened a file for reading, under whichever name it had
    WhoRead(WhoReadArgs),
    /// Print the last lines
    Tail(TailArgs),
    /// Record that what verify finds was looked into, and why it is so: it is told no more
    Acknowledge(AcknowledgeArgs),
    /// Print how far the trail has come, to be kept elsewhere and given to `verify --head` later
    Head(TrailOf),
}

/// A vault's trail.
#[derive(Debug, clap::Args)]
pub struct TrailOf {
    #[command(flatten)]
    vault: VaultArgs,
    /// Where the trail lies [default: where the vault says]
    #[arg(long, value_name = "DIR")]
    trail: Option<PathBuf>,
}

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    of: TrailOf,
    /// What `trail head` printed once: the trail must still have that line
    #[arg(long, value_name = "HEAD")]
    head: Option<Head>,
}

/// Arguments of `acknowledge`.
#[derive(Debug, clap::Args)]
pub struct AcknowledgeArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// Why it is so, for those who read the trail later
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

fn reason(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("say in some words why it is so"),
        text if text.len() > 1_000 => Err("a reason has 1000 bytes at most"),
        text => Ok(text.to_owned()),
    }
}

/// Arguments of `query`.
#[derive(Debug, clap::Args)]
pub struct QueryArgs {
    #[command(flatten)]
    of: TrailOf,
    /// Of this user, by name or number
    #[arg(long, value_name = "U")]
    user: Option<String>,
    /// Of this path in the mount, or below it
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// With this master key, by name or id
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Of these kinds: Decrypt, GenerateDataKey, ReEncrypt, RotateKey, PutKeyPolicy, Mount, …
    #[arg(long, value_name = "EVENTS", value_delimiter = ',', value_parser = event_name)]
    event: Vec<EventName>,
    /// Not before, as 2026-12-31T18:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Before
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// What was refused or failed, alone
    #[arg(long)]
    denied: bool,
}

/// Arguments of `who-read`.
#[derive(Debug, clap::Args)]
pub struct WhoReadArgs {
    #[command(flatten)]
    of: TrailOf,
    /// The file, as it is or was in the mount
    path: PathBuf,
}

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
pub struct TailArgs {
    #[command(flatten)]
    of: TrailOf,
    /// How many lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: usize,
    /// And those that come, until it is interrupted
    #[arg(short, long)]
    follow: bool,
}

fn event_name(word: &str) -> Result<EventName, String> {
    EventName::of_word(word).ok_or_else(|| {
        let all: Vec<_> = EventName::ALL.iter().map(|name| name.word()).collect();
        format!("the events are {}", all.join(", "))
    })
}

/// Runs a subcommand of `atrest trail`.
///
/// # Errors
/// [`Exit::Trail`] where there is no trail that can be read; [`Exit::Policy`] where the daemon is
/// asked and the policy does not allow it; [`Exit::Damage`] when `verify` found something.
pub fn run(command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Verify(args) => verify(args),
        Command::Query(args) => query(args),
        Command::WhoRead(args) => who_read(args),
        Command::Tail(args) => tail(args),
        Command::Acknowledge(args) => acknowledge(args),
        Command::Head(args) => head(args),
    }
}

fn verify(args: &VerifyArgs) -> Result<Exit, Failure> {
    let report = args.of.verified(args.head)?;
    if args.of.vault.json {
        print_json(&json!(report))?;
    } else {
        print(&show::report(&report))?;
    }
    if report.findings.is_empty() {
        return Ok(Exit::Done);
    }
    let places = counted(report.findings.len() as u64, "place");
    warn_user(&format!("the trail was changed in {places}: {ACKNOWLEDGE_HINT}"));
    Ok(Exit::Damage)
}

fn acknowledge(args: &AcknowledgeArgs) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault.vault)?;
    let report = Backend::of(&target, &args.vault)?.perform::<Report>(
        &Request::Trail(TrailRequest::Acknowledge(args.reason.clone())),
        &|_| (),
    )?;
    if args.vault.json {
        print_json(&json!(report))?;
        return Ok(Exit::Done);
    }
    match report.findings.len() as u64 {
        0 => print("There is nothing wrong with the trail that was not acknowledged.")?,
        places => {
            print(&show::report(&report))?;
            print(&format!("Acknowledged {}.", counted(places, "place")))?;
        }
    }
    Ok(Exit::Done)
}

fn head(args: &TrailOf) -> Result<Exit, Failure> {
    let report = args.verified(None)?;
    // One that does not hold is not to be kept as if it did.
    if !report.findings.is_empty() {
        warn_user(&format!(
            "the trail was changed, `atrest trail verify` says how: {ACKNOWLEDGE_HINT}"
        ));
        return Ok(Exit::Damage);
    }
    match args.vault.json {
        true => print_json(&json!({ "head": report.head }))?,
        false => print(&report.head)?,
    }
    Ok(Exit::Done)
}

impl TrailOf {
    fn source(&self) -> Result<Source, Failure> {
        Source::find(&Target::find(&self.vault.vault)?, &self.vault, self.trail.as_deref())
    }

    fn verified(&self, head: Option<Head>) -> Result<Report, Failure> {
        source::verified(
            &Target::find(&self.vault.vault)?,
            &self.vault,
            self.trail.as_deref(),
            head,
        )
    }
}

impl QueryArgs {
    fn filter(&self) -> Result<Filter, Failure> {
        let target = || Target::find(&self.of.vault.vault);
        let path = self.path.as_deref().map(|path| within(path, &target()?)).transpose()?;
        Ok(Filter {
            user: self.user.as_deref().map(principals::user).transpose()?,
            path: path.map(|path| path.to_string_lossy().into_owned()),
            key: self.key.clone(),
            events: self.event.clone(),
            since: self.since,
            until: self.until,
            denied: self.denied,
            after: None,
        })
    }
}

fn query(args: &QueryArgs) -> Result<Exit, Failure> {
    let filter = args.filter()?;
    let mut out = Lines::new(args.of.vault.json);
    let source = args.of.source()?;
    let mut found = false;
    source.lines(&filter, &mut |line| {
        found = true;
        out.put(line)
    })?;
    let done = out.finish()?;
    if !found {
        let target = Target::find(&args.of.vault.vault)?;
        filter.path.iter().try_for_each(|path| require_path(&source, &target, path))?;
        filter.key.iter().try_for_each(|key| require_key(&source, &args.of.vault, key))?;
    }
    Ok(done)
}

/// A path of which nobody knows is not one that nobody used.
fn require_path(source: &Source, target: &Target, path: &str) -> Result<(), Failure> {
    let filter = Filter { path: Some(path.to_owned()), ..Filter::default() };
    let found = std::fs::symlink_metadata(target.vault.join(path));
    let is_gone = found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if !is_gone || source.has(&filter)? {
        return Ok(());
    }
    let message = format!("there is no {} in the vault, and none in its trail", path.shown());
    Err(Failure::new(Exit::Failed, message))
}

/// The same of a master key.
fn require_key(source: &Source, args: &VaultArgs, key: &str) -> Result<(), Failure> {
    let filter = Filter { key: Some(key.to_owned()), ..Filter::default() };
    if args.knows_key(key) != Some(false) || source.has(&filter)? {
        return Ok(());
    }
    let message =
        format!("there is no master key `{}` in the key file, and none in the trail", key.shown());
    Err(Failure::new(Exit::Key, message))
}

fn who_read(args: &WhoReadArgs) -> Result<Exit, Failure> {
    let target = Target::find(&args.of.vault.vault)?;
    let path = within(&args.path, &target)?;
    let source = args.of.source()?;
    let readers = source.readers(&target, &path)?;
    if readers.is_empty() {
        require_path(&source, &target, &path.to_string_lossy())?;
    }
    if args.of.vault.json {
        print_json(&json!(readers))?;
    } else if readers.is_empty() {
        print("Nobody, as far as the trail goes back.")?;
    } else {
        print(&show::readers(&readers))?;
    }
    Ok(Exit::Done)
}

fn tail(args: &TailArgs) -> Result<Exit, Failure> {
    let source = args.of.source()?;
    let mut out = Lines::new(args.of.vault.json);
    let mut after = source.put_last(args.lines, &mut out)?;
    while args.follow && out.flush()? {
        thread::sleep(FOLLOW_INTERVAL);
        let filter = Filter { after: Some(after), ..Filter::default() };
        source.lines(&filter, &mut |line| {
            after = number(line).unwrap_or(after).max(after);
            out.put(line)
        })?;
    }
    out.finish()
}
