//! What is done to an open vault: by its daemon, or by a command while no daemon has it open.
//!
//! A [`request::Request`] says what, a [`response::Response`] what came of it, and a
//! [`failure::Failure`] why not, with the exit code of the program. [`session::Session`] performs
//! requests on a vault that no daemon has open.

pub mod failure;
pub mod file_work;
pub mod key_change;
pub mod keys;
pub mod mount_lock;
pub mod passphrase;
pub mod paths;
pub mod policy_change;
pub mod principals;
pub mod request;
pub mod response;
pub mod session;
pub mod status;
pub mod text;
pub mod trail_events;
pub mod trail_keeping;
pub mod trail_report;
pub mod vault;
