//! What a core of the daemon holds of keys: those in use, and not those that were dropped. It is
//! taken by gcore as root, who alone can; the daemon is the one that users run.

use std::fs;
use std::process::Command;
use std::time::Duration;

use atrest::crypto::{DataKey, Secret};
use atrest::format::{HEADER_LEN, Header};
use atrest::keys::{KeyFile, KeyRing, NoPassphrase};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::common::files::open_rw;
use crate::common::{
    Backing, Mounted, Scratch, Vault, require, require_root, run_within, wait_until,
};

/// All memory of the daemon, what it asked to keep out of cores included.
fn core(mount: &Mounted) -> Vec<u8> {
    let memory = Scratch::on(Backing::Tmpfs);
    let file = memory.join("core");
    let mut gdb = Command::new(require("gdb"));
    gdb.args(["-batch", "-nx", "-p"]).arg(mount.pid().to_string());
    gdb.args(["-ex", "set use-coredump-filter off", "-ex", "set dump-excluded-mappings on"]);
    gdb.arg("-ex").arg(format!("gcore {}", file.display()));
    let outcome = run_within(Duration::from_secs(120), &mut gdb);
    fs::read(&file).unwrap_or_else(|error| panic!("no core ({error}): {outcome}"))
}

/// Where either half of a key is in a core: the halves are what a cipher's rounds begin with.
fn places(core: &[u8], key: &[u8]) -> Vec<usize> {
    const PAGE: usize = 4096;
    let (one, other) = key.split_at(16);
    let mut places = Vec::new();
    for start in (0..core.len()).step_by(PAGE) {
        let page = &core[start..core.len().min(start + PAGE + one.len() - 1)];
        // Most of it was never touched.
        if page[..PAGE.min(page.len())] != [0; PAGE][..PAGE.min(page.len())] {
            let found = page.windows(one.len()).enumerate();
            let found = found.filter(|(_, bytes)| *bytes == one || *bytes == other);
            places.extend(found.map(|(at, _)| start + at));
        }
    }
    places
}

#[track_caller]
fn held(core: &[u8], what: &str, key: &[u8]) {
    assert!(!places(core, key).is_empty(), "{what} is in use and not found: the search is blind");
}

#[track_caller]
fn gone(core: &[u8], what: &str, key: &[u8]) {
    let places = places(core, key);
    assert!(places.is_empty(), "{what} is left at {places:x?} of {} bytes", core.len());
}

fn ring(vault: &Vault) -> KeyRing {
    let id = atrest::store::Vault::describe(&vault.path()).unwrap().vault;
    KeyFile::open(&vault.key_file(), &id, &NoPassphrase).unwrap().ring
}

/// The material of the only version of a ring's only key, `default`, from its recovery form.
fn only_material(ring: &KeyRing) -> Vec<u8> {
    const AT: usize = 1 + 16 + 16 + 32 + 2 + (16 + 1 + 7 + 1 + 4 + 4) + (4 + 8 + 1);
    let bytes = ring.recovery_bytes();
    assert_eq!(bytes.len(), AT + 32 + 8);
    bytes[AT..AT + 32].to_vec()
}

/// A file's data key, and the two that are derived of it (the format chapter).
fn keys_of_file(vault: &Vault, name: &str) -> (DataKey, Secret, Secret) {
    let bytes = fs::read(vault.path().join(name)).unwrap();
    let header = Header::parse(bytes.first_chunk::<HEADER_LEN>().unwrap()).unwrap();
    let id = *header.file_id.as_bytes();
    let key = ring(vault).unwrap(&header.master_key, header.version, &id, &header.wrapped).unwrap();
    let derived = |label: &[u8]| {
        let mut bytes = [0; 32];
        Hkdf::<Sha256>::new(Some(&id), key.expose()).expand(label, &mut bytes).unwrap();
        Secret::from_bytes(&bytes)
    };
    let (content, header) = (derived(b"atrest v1 content"), derived(b"atrest v1 header"));
    (key, content, header)
}

#[test]
fn a_closed_file_leaves_no_key_behind() {
    require_root();
    let vault = Vault::init();
    let mount = vault.mount(&["--no-writeback"]);
    let path = mount.join("secret");
    fs::write(&path, [7; 10_000]).unwrap();
    let file = open_rw(&path);
    assert_eq!(fs::read(&path).unwrap(), [7; 10_000]);
    let (data, content, header) = keys_of_file(&vault, "secret");
    let open = core(&mount);
    held(&open, "the content key of an open file", content.expose());
    held(&open, "the header key of an open file", header.expose());
    gone(&open, "the data key, which was derived from", data.expose());
    // What is not durable yet, the daemon keeps a descriptor of, without a key.
    file.sync_all().unwrap();
    drop((open, file));
    let sealed = vault.path().join("secret");
    let closed = wait_until(Duration::from_secs(10), || {
        let fds = fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap().flatten();
        let mut names = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        (!names.any(|name| name == sealed)).then_some(())
    });
    assert!(closed.is_some(), "the daemon keeps the file open");
    let closed = core(&mount);
    gone(&closed, "the content key of a closed file", content.expose());
    gone(&closed, "the header key of a closed file", header.expose());
    gone(&closed, "the data key of a closed file", data.expose());
}

#[test]
fn a_retired_version_is_gone_from_the_daemon() {
    require_root();
    let vault = Vault::init();
    let first = only_material(&ring(&vault));
    let mount = vault.mount(&[]);
    fs::write(mount.join("secret"), [7; 10_000]).unwrap();
    held(&core(&mount), "version 1, which wraps,", &first);
    vault.run(&["key", "rotate"]).ok();
    vault.run(&["key", "rewrap"]).ok();
    held(&core(&mount), "version 1, which could be used,", &first);
    vault.run(&["key", "retire", "--version", "1"]).ok();
    gone(&core(&mount), "version 1, which is retired,", &first);
}
