//! Somebody who changes the vault, its key file, its trail or what a machine knows of it behind the
//! daemon's back: every command ends, with success or in a sentence, what was put back is found out, and
//! nothing outside the vault changes. Root only.

#[path = "../common/mod.rs"]
mod common;

mod beneath;
mod confined;
mod control;
mod copies;
mod key_file;
mod locks;
mod names;
mod odd_files;
mod record;
mod renamed;
mod rollback;
mod root_attrs;
mod stated;
mod stepping;
mod tampering;

use common::User;

/// One whom /etc/passwd knows, since fusermount3 asks for the name.
fn nobody() -> User {
    User { uid: 65_534, gid: 65_534, groups: vec![65_534] }
}
