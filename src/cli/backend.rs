//! What performs a command's requests: the vault's daemon, or this process where there is none.

use std::cell::Cell;

use crate::cli::target::{Daemon, Target};
use crate::cli::vault_args::VaultArgs;
use crate::control::Client;
use crate::fs::Progress;
use crate::keys::NoPassphrase;
use crate::service::failure::{Exit, Failure};
use crate::service::keys::Keys;
use crate::service::request::Request;
use crate::service::response::{Listed, Response};
use crate::service::session::Session;
use crate::service::vault;

/// The vault's daemon, or this process.
pub enum Backend<'a> {
    /// The daemon answers one request a connection. The first one is open already.
    Daemon(&'a Target, Cell<Option<Client>>),
    /// No daemon has the vault open.
    Offline(Box<Session<'a>>),
}

impl VaultArgs {
    /// The master keys, as the daemon shows them or, where a key file is named or no daemon has the
    /// vault, as the key file has them.
    ///
    /// # Errors
    /// As [`Backend::for_reading`].
    pub fn list(&self) -> Result<Listed, Failure> {
        let target = Target::find(&self.vault)?;
        Backend::for_reading(&target, self)?.perform(&Request::Keys, &|_| ())
    }

    /// Whether there is a master key of this name or id; `None` where that takes asking for a passphrase.
    pub fn knows_key(&self, name: &str) -> Option<bool> {
        let keys = if Target::find(&self.vault).ok()?.client().is_some() {
            self.list().ok()?.keys
        } else {
            let (id, path) = self.locate_keys().ok()?;
            Keys::open(&id, path.as_deref(), &NoPassphrase).ok()?.read().ok()?.ring.describe()
        };
        Some(keys.iter().any(|key| key.name == name || key.id.to_string() == name))
    }
}

impl<'a> Backend<'a> {
    /// The daemon of a vault that is mounted; else its key file is opened here.
    ///
    /// # Errors
    /// [`Exit::Busy`] for a daemon that does not answer this user; [`Exit::Vault`], [`Exit::KeyFile`].
    pub fn of(target: &'a Target, args: &VaultArgs) -> Result<Self, Failure> {
        match target.daemon()? {
            Daemon::Reached(client) => Ok(Self::Daemon(target, Cell::new(Some(client)))),
            Daemon::None => {
                let id = vault::describe(&target.vault)?.vault;
                let keys = Keys::open(&id, args.key_file.as_deref(), &args.unlock)?;
                Ok(Self::Offline(Box::new(Session::new(&target.vault, keys))))
            }
        }
    }

    /// [`Backend::of`] for a request that only looks at the keys: a key file that is named is read
    /// here, though a daemon may have the vault open.
    ///
    /// # Errors
    /// As [`Backend::of`].
    pub fn for_reading(target: &'a Target, args: &VaultArgs) -> Result<Self, Failure> {
        if args.key_file.is_none()
            && let Daemon::Reached(client) = target.daemon()?
        {
            return Ok(Self::Daemon(target, Cell::new(Some(client))));
        }
        let session = Session::new(&target.vault, args.keys_to_show()?.0);
        Ok(Self::Offline(Box::new(session)))
    }

    /// Whether a daemon performs the requests.
    pub fn is_daemon(&self) -> bool {
        matches!(self, Self::Daemon(..))
    }

    /// Has a request performed, and shows how far it has come.
    ///
    /// # Errors
    /// Those of the request; [`Exit::Busy`] where the vault was unmounted since the last one.
    pub fn perform<T>(
        &self,
        request: &Request,
        show: &(dyn Fn(Progress) + Sync),
    ) -> Result<T, Failure>
    where
        T: TryFrom<Response, Error = Failure>,
    {
        let (target, first) = match self {
            Self::Daemon(target, first) => (target, first),
            Self::Offline(session) => {
                let progress = |step| {
                    show(step);
                    true
                };
                return session.perform(request, &progress)?.try_into();
            }
        };
        let client = match first.take() {
            Some(client) => client,
            None => match target.daemon()? {
                Daemon::Reached(client) => client,
                Daemon::None => {
                    let message = "the vault was unmounted meanwhile: nothing was changed";
                    return Err(Failure::new(Exit::Busy, message));
                }
            },
        };
        client.ask(request, show)?.try_into()
    }
}
