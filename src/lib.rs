//! Server-side encryption for a local directory.
//!
//! Layers, each of which knows only those below it:
//!
//! | layer | what it is |
//! |---|---|
//! | `cli` | one file a subcommand: parse, call, print; exit codes |
//! | `fuse` | the only place that names `fuser`: decode, call `fs`, reply; errno decided once |
//! | `fs` | POSIX semantics by operation family |
//! | `store` | a vault on a backing directory: sealed files by block range, names, headers, epochs |
//! | `trail` | who used which master key, when and for what: lines chained by MACs |
//! | `keys` | the key file, its versions, states, protectors and policies |
//! | `format` | bytes ↔ types; no I/O |
//! | `crypto` | AEAD, wrap, key derivation, secrets |
//! | `sys` | the only `unsafe` |

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

/// The long documents.
pub mod manual {
    #[doc = include_str!("manual/format.md")]
    pub mod format {}
    #[doc = include_str!("manual/threat_model.md")]
    pub mod threat_model {}
    #[doc = include_str!("manual/semantics.md")]
    pub mod semantics {}
    #[doc = include_str!("manual/operations.md")]
    pub mod operations {}
    #[doc = include_str!("manual/trail.md")]
    pub mod trail {}
    #[doc = include_str!("manual/performance.md")]
    #[doc = include_str!("manual/figures/scaling-file-size.svg")]
    #[doc = include_str!("manual/figures/scaling-directory.svg")]
    #[doc = include_str!("manual/figures/scaling-files.svg")]
    #[doc = include_str!("manual/figures/scaling-threads.svg")]
    pub mod performance {}
}
