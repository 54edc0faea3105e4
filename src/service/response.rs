//! What is answered to each [`Request`], typed.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::format::{KeyVersion, MasterKeyId, VaultId};
use crate::fs::{RewrapSummary, Verdict, VerifySummary};
use crate::keys::KeyDescription;
use crate::keys::policy::{Action, Grant};
use crate::service::failure::{Context, Exit, Failure};
use crate::service::request::{FileWork, Request, TrailRequest};
use crate::service::status::Status;
use crate::trail::{Reader, Report};

/// The master keys: what `key list --json` prints.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listed {
    /// The vault's id.
    pub vault_id: VaultId,
    /// Where the key file lies.
    pub key_file: String,
    /// The keys that the client may see.
    pub keys: Vec<KeyDescription>,
}

/// A version of a master key that was retired: what `key retire --json` prints.
#[derive(Debug, Serialize, Deserialize)]
pub struct Retired {
    /// The key's name.
    pub key: String,
    /// The version that went, or would have gone.
    pub retired: KeyVersion,
    /// Whether it is still there.
    pub dry_run: bool,
}

/// A directory that was given a master key: what `key assign --json` prints.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assigned {
    /// The key's name.
    pub key: String,
    /// The directory's path in the mount.
    pub directory: String,
}

/// What a master key wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrapped {
    /// Files that have content.
    pub wraps_files: u64,
    /// The vault's own key.
    pub wraps_vault_key: bool,
}

/// A changed policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChanged {
    /// The key's name.
    pub key: String,
    /// Its grants.
    pub grants: Vec<Grant>,
    /// The use that the change takes from the last user that the policy names.
    pub locks_out: Option<Action>,
}

/// The policy of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPolicy {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: MasterKeyId,
    /// Its grants, in the order they were made.
    pub grants: Vec<Grant>,
}

/// What `show --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// The owner of the vault's directory: the default allows this user and root everything.
    pub owner: u32,
    /// The keys.
    pub keys: Vec<KeyPolicy>,
}

/// Nothing but that the request was carried out.
#[derive(Debug, Serialize, Deserialize)]
pub struct Noted;

/// An answer can be taken out of its [`Response`], and become one.
macro_rules! responses {
    ($($(#[$doc:meta])* $name:ident($answer:ty)),* $(,)?) => {
        /// The answer to a request. In JSON it is the answer alone; the request says which one.
        #[derive(Debug, Serialize)]
        #[serde(untagged)]
        #[expect(clippy::large_enum_variant, reason = "there is one at a time")]
        pub enum Response {
            $($(#[$doc])* $name($answer)),*
        }

        $(
            impl From<$answer> for Response {
                fn from(answer: $answer) -> Self {
                    Self::$name(answer)
                }
            }

            impl TryFrom<Response> for $answer {
                type Error = Failure;

                fn try_from(response: Response) -> Result<Self, Failure> {
                    match response {
                        Response::$name(answer) => Ok(answer),
                        _ => Err(unexpected()),
                    }
                }
            }
        )*
    };
}

responses! {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Keys`].
    Keys(Listed),
    /// To [`Request::Policies`].
    Policies(Policies),
    /// To [`Request::Simulate`].
    Simulated(Verdict),
    /// To [`Request::Change`].
    Changed(KeyDescription),
    /// To [`Request::Policy`].
    PolicyChanged(PolicyChanged),
    /// To [`FileWork::Rewrap`].
    Rewrapped(RewrapSummary),
    /// To [`FileWork::Retire`].
    Retired(Retired),
    /// To [`FileWork::Count`].
    Counted(Wrapped),
    /// To [`FileWork::Assign`].
    Assigned(Assigned),
    /// To [`Request::Note`] and [`Request::KeyFile`].
    Noted(Noted),
    /// To [`TrailRequest::Flush`]: where the trail lies.
    Flushed(PathBuf),
    /// To [`TrailRequest::Lines`].
    Lines(Vec<String>),
    /// To [`TrailRequest::WhoRead`].
    Readers(Vec<Reader>),
    /// To [`TrailRequest::Acknowledge`] and [`TrailRequest::Verify`].
    Reported(Report),
    /// To [`Request::Verify`].
    Verified(VerifySummary),
}

impl Response {
    /// The answer that a daemon gave to `request`.
    ///
    /// # Errors
    /// [`Exit::Failed`] for JSON of another form.
    pub fn decode(request: &Request, answer: Value) -> Result<Self, Failure> {
        let decoded = match request {
            Request::Status => of::<Status>(answer),
            Request::Keys => of::<Listed>(answer),
            Request::Policies => of::<Policies>(answer),
            Request::Simulate { .. } => of::<Verdict>(answer),
            Request::Change(_) => of::<KeyDescription>(answer),
            Request::Policy(_) => of::<PolicyChanged>(answer),
            Request::Work(FileWork::Rewrap { .. }) => of::<RewrapSummary>(answer),
            Request::Work(FileWork::Retire { .. }) => of::<Retired>(answer),
            Request::Work(FileWork::Count { .. }) => of::<Wrapped>(answer),
            Request::Work(FileWork::Assign { .. }) => of::<Assigned>(answer),
            Request::Note(..) | Request::KeyFile(_) => of::<Noted>(answer),
            Request::Trail(TrailRequest::Flush) => of::<PathBuf>(answer),
            Request::Trail(TrailRequest::Lines(_)) => of::<Vec<String>>(answer),
            Request::Trail(TrailRequest::WhoRead(_)) => of::<Vec<Reader>>(answer),
            Request::Trail(TrailRequest::Acknowledge(_) | TrailRequest::Verify(_)) => {
                of::<Report>(answer)
            }
            Request::Verify { .. } => of::<VerifySummary>(answer),
        };
        decoded.context(Exit::Failed, || "the daemon".to_owned())
    }
}

fn of<T: DeserializeOwned + Into<Response>>(answer: Value) -> serde_json::Result<Response> {
    serde_json::from_value::<T>(answer).map(Into::into)
}

fn unexpected() -> Failure {
    Failure::new(Exit::Failed, "the daemon answered something else: is it of another version?")
}
