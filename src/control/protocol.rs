//! The lines of JSON that a client and the daemon exchange.

use serde::{Deserialize, Serialize};

use crate::fs::Progress;
use crate::service::failure::{Exit, Failure};
use crate::service::response::Response;

/// A line of the daemon: any number of [`Reply::Progress`], then one of the others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply<T> {
    /// How far the work has come.
    Progress(Progress),
    /// The answer.
    Done(T),
    /// Why there is none.
    Failed {
        /// The exit code.
        exit: u8,
        /// The message for the user.
        #[serde(rename = "sentence")]
        message: String,
    },
}

impl From<Result<Response, Failure>> for Reply<Response> {
    fn from(result: Result<Response, Failure>) -> Self {
        match result {
            Ok(response) => Self::Done(response),
            Err(Failure { exit, message }) => Self::Failed { exit: exit as u8, message },
        }
    }
}

/// The failure in a daemon's [`Reply::Failed`].
pub fn failure_of(exit: u8, message: String) -> Failure {
    Failure::new(Exit::from_code(exit.into()), message)
}
