//! Encryption at rest for a local directory: a FUSE daemon shows a *vault* as an ordinary
//! directory, and stores each file sealed by AES-256-GCM under a key of its own.
//!
//! # Layers
//!
//! A layer knows those below it and none above; no two files import each other in a circle.
//! `tests/house` enforces both.
//!
//! ```text
//!   cli       arguments → request → output; a file or a directory for each subcommand
//!   daemon    the process of a mount: plan, options, session, scheduler, monitor
//!   control   the conversation with a daemon: protocol, client, server, socket
//!   service   what a command asks of a vault, performed by its daemon or without one
//!   ───────
//!   fuse      the only layer that names fuser: decode, call fs, reply; the errno of each error of fs
//!   fs        POSIX semantics by operation family, access checks, maintenance
//!   store     a vault on a backing directory: sealed files, names, epochs, freshness
//!   ───────
//!   trail     who used which master key, when and for what: lines chained by MACs
//!   keys      master keys: the key file, its protectors and printed backup, policies
//!   format    bytes ↔ types; no I/O
//!   crypto    AEAD, key wrap, key derivation, secrets
//!   sys       the only unsafe code; system calls that take more than rustix; /proc
//! ```
//!
//! `fs` checks access when a file is opened. A write goes from `fuse` to `fs`, which finds the open file
//! (a strict mount checks access again), and on to a [`store::SealedFile`], which seals whole blocks and
//! writes them to the backing file.
//!
//! # Example
//!
//! The file system works without a mount:
//!
//! ```
//! use atrest::format::VaultId;
//! use atrest::fs::{Fs, Inode};
//! use atrest::keys::KeyRing;
//! use atrest::store::{Access, NameMode, Vault};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let scratch = tempfile::tempdir()?;
//! let directory = scratch.path().join("vault");
//! let ring = KeyRing::create(VaultId::random());
//! Vault::create(&directory, &ring, NameMode::Plain)?;
//!
//! let fs = Fs::new(Vault::open(&directory, ring, Access::ReadWrite)?)?;
//! assert_eq!(fs.getattr(Inode::ROOT)?.inode, Inode::ROOT);
//! fs.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! The [`manual`] describes the format, the promises and the use.

#![deny(unsafe_code)]

pub mod cli;
mod control;
pub mod crypto;
mod daemon;
pub mod format;
pub mod fs;
pub mod fuse;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod keys;
mod service;
pub mod store;
pub mod sys;
pub mod trail;

/// A chapter of the manual. Its links to other chapters lead to files on a forge's page, and to
/// modules here: the first definition of a link counts.
macro_rules! chapters {
    ($($name:ident: $($text:expr),+;)*) => {
        $(
            #[doc = concat!(
                "[format]: crate::manual::format\n",
                "[threat_model]: crate::manual::threat_model\n",
                "[semantics]: crate::manual::semantics\n",
                "[operations]: crate::manual::operations\n",
                "[trail]: crate::manual::trail\n",
                "[performance]: crate::manual::performance\n",
                "[contributing]: crate::manual::contributing\n",
                "[changelog]: crate::manual::changelog\n",
            )]
            $(#[doc = $text])+
            pub mod $name {}
        )*
    };
}

/// The manual.
pub mod manual {
    chapters! {
        format: include_str!("manual/format.md");
        threat_model: include_str!("manual/threat_model.md");
        semantics: include_str!("manual/semantics.md");
        operations: include_str!("manual/operations.md");
        trail: include_str!("manual/trail.md");
        performance: include_str!("manual/performance.md"),
            include_str!("manual/figures/scaling-file-size.svg"),
            include_str!("manual/figures/scaling-directory.svg"),
            include_str!("manual/figures/scaling-files.svg"),
            include_str!("manual/figures/scaling-threads.svg");
        contributing: include_str!("manual/contributing.md");
        changelog: include_str!("manual/changelog.md");
    }
}
