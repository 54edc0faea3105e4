//! `atrest mount`: from the command line to a mount that answers.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys::{Forked, InheritedDescriptors, Show, Starting, fork_to_background};

use super::below;
use super::daemon;
use super::exit::{Context, Exit, Failure};
use super::logging::Destination;
use super::mountpoint::Mountpoint;
use super::options::Options;
use super::passphrase::UnlockArgs;
use super::principals;
use super::remount;
use super::spin::{self, Spin};
use super::target::{mount_table, resolve};
use super::trail::TrailArgs;
use super::vault::{self, Turn};

/// Mount a vault on an empty directory.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Args {
    /// The vault
    pub vault: PathBuf,
    /// The empty directory on which it appears
    pub mountpoint: PathBuf,
    /// Stay in the foreground, and log to the terminal
    #[arg(short, long)]
    pub foreground: bool,
    /// The vault's key file [default: $ATREST_KEY_FILE, or the place where init put it]
    #[arg(long, value_name = "F")]
    pub key_file: Option<PathBuf>,
    #[command(flatten)]
    pub unlock: UnlockArgs,
    /// Where the daemon's log goes [default: syslog]
    #[arg(long, value_name = "F")]
    pub log_file: Option<PathBuf>,
    /// Write nothing to the vault
    #[arg(long)]
    pub read_only: bool,
    /// Let other users in, as far as the files' permissions do
    #[arg(long)]
    pub allow_other: bool,
    /// Each write reaches the vault before it returns: slower, and survives the daemon's death
    #[arg(long)]
    pub no_writeback: bool,
    /// Refuse open files too to whom a grant is taken from, and drop what the kernel keeps of files
    #[arg(long)]
    pub strict: bool,
    /// Let the members of a group ask the daemon for what the keys' policies let them; root only
    #[arg(long, value_name = "G")]
    pub admin_group: Option<String>,
    /// Mount a vault or use a key file that was put back to an older state, as after restoring a backup
    #[arg(long)]
    pub accept_rollback: bool,
    /// How long the daemon looks out for the next request before it sleeps, up to 1000; 0 for
    /// never [default: 50, and 0 with one processor or on battery]
    #[arg(long, value_name = "USECS", value_parser = clap::value_parser!(u32).range(..=i64::from(spin::MOST)))]
    pub spin: Option<u32>,
    #[command(flatten)]
    pub trail: TrailArgs,
    /// Options as in fstab(5): ro, rw, suid, dev, noexec, noatime, sync, remount,
    /// allow_other, default_permissions, key-file=F, passphrase-file=F, max-argon2-memory=MIB,
    /// log-file=F, no-writeback, strict, accept-rollback,
    /// admin-group=G, spin=USECS, trail=DIR, no-trail, …
    #[arg(short = 'o', value_name = "OPT[,OPT…]")]
    pub options: Vec<String>,
}

impl Args {
    /// A plain mount.
    pub fn of(vault: PathBuf, mountpoint: PathBuf) -> Self {
        Self {
            vault,
            mountpoint,
            foreground: false,
            key_file: None,
            unlock: UnlockArgs::default(),
            log_file: None,
            read_only: false,
            allow_other: false,
            no_writeback: false,
            strict: false,
            admin_group: None,
            accept_rollback: false,
            spin: None,
            trail: TrailArgs::default(),
            options: Vec::new(),
        }
    }

    /// All options, whether they came as a switch or with `-o`. A switch wins.
    fn combined(&self) -> Result<Options, Failure> {
        let mut options = Options::default();
        self.options.iter().try_for_each(|list| options.apply(list))?;
        options.flags.read_only |= self.read_only;
        options.allow_other |= self.allow_other;
        options.no_writeback |= self.no_writeback;
        options.strict |= self.strict;
        options.accept_rollback |= self.accept_rollback;
        if let Some(group) = &self.admin_group {
            options.admin_group = Some(principals::group(group)?);
        }
        if options.admin_group.is_some() && !rustix::process::geteuid().is_root() {
            let sentence = "--admin-group is for a mount that root makes: nobody reaches the socket of another user's daemon";
            return Err(Failure::new(Exit::Usage, sentence));
        }
        options.trail.apply_args(&self.trail);
        options.spin = self.spin.map_or(options.spin, Spin::Asked);
        options.key_file = self.key_file.clone().or(options.key_file);
        if self.unlock != UnlockArgs::default() {
            options.unlock = self.unlock.clone();
        }
        options.log_file = self.log_file.clone().or(options.log_file);
        Ok(options)
    }
}

/// What is to be mounted, looked at as far as that goes without its keys.
#[derive(Debug)]
pub struct Plan {
    /// The vault's directory.
    pub vault: PathBuf,
    /// Where it goes.
    pub mountpoint: Mountpoint,
    /// How.
    pub options: Options,
    /// Whether the daemon stays with the terminal.
    pub foreground: bool,
}

impl Plan {
    /// What the arguments ask for, and the turn to do it.
    fn of(args: &Args) -> Result<(Self, Turn), Failure> {
        let options = args.combined()?;
        let vault = resolve(&args.vault)
            .or_fail(Exit::Vault, || format!("the vault {} can't be used", args.vault.shown()))?;
        vault::describe(&vault)?;
        if options.allow_other {
            require_closed(&vault)?;
        }
        let turn = Turn::take(&vault)?;
        let mountpoint = Mountpoint::check(&args.mountpoint, &vault)?;
        refuse_second_mount(&vault)?;
        let plan = Self { vault, mountpoint, options, foreground: args.foreground };
        below::refuse(&plan)?;
        Ok((plan, turn))
    }

    /// Where the log goes.
    pub fn log(&self) -> Destination<'_> {
        match &self.options.log_file {
            Some(path) => Destination::File(path),
            None if self.foreground => Destination::Stderr,
            None => Destination::Syslog,
        }
    }
}

/// Who else can reach the vault's directory passes the daemon by, and with it all that the mount
/// keeps from them.
fn require_closed(vault: &Path) -> Result<(), Failure> {
    let found = std::fs::metadata(vault)
        .or_fail(Exit::Vault, || format!("the vault {} can't be used", vault.shown()))?;
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    let shown = vault.shown();
    let (what, command) = if owner != user {
        (format!("user {owner} owns the vault {shown}"), format!("chown {user} {shown}"))
    } else if found.mode() & 0o077 != 0 {
        let mode = found.mode() & 0o777;
        let what = format!("others can reach the directory of the vault {shown} (mode {mode:04o})");
        (what, format!("chmod 700 {shown}"))
    } else {
        return Ok(());
    };
    let sentence =
        format!("{what}, and could change what the mount keeps from them: run `{command}` first");
    Err(Failure::new(Exit::Vault, sentence))
}

/// Mounts, and returns when the mount answers; in the foreground, when it has ended.
///
/// # Errors
/// What kept it from being mounted; nothing is then.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let inherited = InheritedDescriptors::note();
    if args.combined()?.remount {
        return remount::run(args);
    }
    let (plan, turn) = Plan::of(args)?;
    if plan.foreground {
        return daemon::run(&plan, turn, None, inherited);
    }
    match fork_to_background()? {
        Forked::Child(background) => daemon::run(&plan, turn, Some(background), inherited),
        Forked::Parent(starting) => wait_for_mount(starting, &plan.mountpoint.path),
    }
}

/// The lock would refuse it as well; here it can be said where the other mount is.
fn refuse_second_mount(vault: &Path) -> Result<(), Failure> {
    let holder = vault::holder(vault)?;
    let Some(pid) = holder else { return Ok(()) };
    let mounted = mount_table()?.mounts_of(vault).last();
    let (vault, pid) = (vault.shown(), vault::named(pid));
    let sentence = match mounted {
        Some(mounted) => {
            let place = mounted.mountpoint.shown();
            format!("the vault {vault} is already mounted, on {place} by {pid}")
        }
        None => format!("the vault {vault} is in use by {pid}"),
    };
    Err(Failure::new(Exit::Busy, sentence))
}

fn wait_for_mount(starting: Starting, mountpoint: &Path) -> Result<Exit, Failure> {
    starting.wait().map_err(|ended| match ended {
        Some(code) if code != 0 => Failure::told(Exit::from_code(code)),
        _ => Failure::new(Exit::Failed, "the daemon died before the mount was ready"),
    })?;
    let answers = rustix::fs::statfs(mountpoint).and_then(|_| rustix::fs::stat(mountpoint));
    answers.or_fail(Exit::Mount, || {
        format!("mounted on {}, but the mount does not answer", mountpoint.shown())
    })?;
    Ok(Exit::Done)
}
