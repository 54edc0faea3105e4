//! For reading alone, or for everything.

/// How a vault is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// For reading alone: nothing in the vault is written, not even the record of mounts.
    ReadOnly,
    /// For everything.
    ReadWrite,
}
