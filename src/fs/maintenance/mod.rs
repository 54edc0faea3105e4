//! Work on all files of the vault, and what runs beside the requests.

pub mod reaper;
pub mod recover;
pub mod references;
pub mod rewrap;
pub mod verify;
pub mod walk;
