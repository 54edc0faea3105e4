//! Bad input to the command line: one sentence that says what is wrong, the documented exit code,
//! and nothing changed on disk.

mod below;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A vault, its key file and a mount point, none of them in use.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: TempDir::new().unwrap() };
        let made = place.run(&["init", "vault", "--key-file", "key.json"]);
        assert!(made.status.success(), "{made:?}");
        fs::create_dir(place.path("mnt")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atrest"));
        command.args(args).current_dir(self.dir.path()).env_remove("ATREST_KEY_FILE");
        command.output().unwrap()
    }

    /// Runs what must be refused with `code` and one sentence in which `word` stands.
    fn refused(&self, args: &[&str], code: i32, word: &str) {
        let before = snapshot(self.dir.path());
        let output = self.run(args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.starts_with("atrest: "), "{args:?}: {told}");
        assert_eq!(told.trim_end().lines().count(), 1, "{args:?}: {told}");
        assert!(told.contains(word), "{args:?}: {word} does not stand in: {told}");
        assert_eq!(snapshot(self.dir.path()), before, "{args:?} changed something");
    }

    fn mount_refused(&self, code: i32, word: &str) {
        self.refused(&["mount", "vault", "mnt", "--key-file", "key.json"], code, word);
    }
}

/// Every file below `dir` with its content; locks are left out, which are empty or name a process.
fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(snapshot(&path));
        } else if !path.to_string_lossy().ends_with("lock") {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} does not stand in {text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_directory_that_is_no_vault() {
    let place = Place::new();
    fs::create_dir(place.path("other")).unwrap();
    place.refused(&["mount", "other", "mnt", "--key-file", "key.json"], 4, "vault");
    place.refused(&["verify", "other", "--key-file", "key.json"], 4, "vault");
    place.refused(&["status", "other"], 4, "vault");
    place.refused(&["key", "list", "missing"], 4, "missing");
}

#[test]
fn a_vault_is_made_in_an_empty_directory_alone() {
    let place = Place::new();
    place.refused(&["init", "vault", "--key-file", "new.json"], 4, "empty");
    place.refused(&["init", "fresh", "--key-file", "key.json"], 5, "key.json");
    place.refused(&["init", "no/such/place", "--key-file", "new.json"], 4, "can't be made");
}

#[test]
fn a_key_file_of_another_vault() {
    let place = Place::new();
    assert!(place.run(&["init", "second", "--key-file", "second.json"]).status.success());
    place.refused(&["mount", "vault", "mnt", "--key-file", "second.json"], 5, "second.json");
    place.refused(&["key", "rotate", "vault", "--key-file", "second.json"], 5, "second.json");
}

#[test]
fn a_key_file_that_is_missing_damaged_or_open_to_others() {
    let place = Place::new();
    place.refused(&["mount", "vault", "mnt", "--key-file", "none.json"], 5, "none.json");
    let key = place.path("key.json");
    fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    place.mount_refused(5, "key.json");
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let whole = fs::read(&key).unwrap();
    fs::write(&key, &whole[..whole.len() / 2]).unwrap();
    place.mount_refused(5, "key.json");
    fs::write(&key, whole).unwrap();
    replace(&key, "\"generation\"", "\"generatioN\"");
    place.mount_refused(5, "key.json");
}

#[test]
fn formats_from_the_future() {
    let place = Place::new();
    replace(&place.path("vault/.atrest/vault.json"), "\"format\": 1", "\"format\": 2");
    place.mount_refused(4, "version 2");
}

#[test]
fn a_description_or_a_record_of_mounts_that_was_changed() {
    let place = Place::new();
    replace(&place.path("vault/.atrest/state.json"), "\"current\":0", "\"current\":7");
    place.refused(&["verify", "vault", "--key-file", "key.json"], 4, "state.json");
}

#[test]
fn mount_points_that_can_not_be() {
    let place = Place::new();
    let key = ["--key-file", "key.json"];
    let mount = |point| [&["mount", "vault", point][..], &key].concat();
    place.refused(&mount("missing"), 6, "make it first: mkdir missing");
    fs::write(place.path("mnt/file"), "x").unwrap();
    place.refused(&mount("mnt"), 6, "empty");
    fs::create_dir(place.path("vault/inside")).unwrap();
    place.refused(&mount("vault/inside"), 6, "inside");
    place.refused(&mount("vault"), 6, "vault");
    place.refused(&["umount", "mnt"], 6, "mnt");
}

#[test]
fn a_command_line_that_is_wrong() {
    let place = Place::new();
    let output = place.run(&["mount", "vault"]);
    assert_eq!(output.status.code(), Some(2));
    let output = place.run(&["mount", "vault", "mnt", "-o", "frobnicate"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn the_life_of_an_unmounted_vault() {
    let place = Place::new();
    let key = ["--key-file", "key.json"];
    let run = |words: &[&str]| place.run(&[words, &key].concat());
    assert!(run(&["key", "rotate", "vault"]).status.success());
    assert!(run(&["key", "rewrap", "vault"]).status.success());
    assert!(run(&["verify", "vault"]).status.success());
    let listed = run(&["key", "list", "vault", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(listed.to_string().contains("\"default\""), "{listed}");
    let status = place.run(&["status", "vault", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["mounted"], false);
    for key in ["pid", "vault", "mountpoint", "format", "names", "key", "key_version"] {
        assert!(status.get(key).is_some(), "{key}: {status}");
    }
    for key in ["files_sealed", "bytes_sealed", "operations"] {
        assert!(status.get(key).is_some(), "{key}: {status}");
    }
}

/// Why a key file does not open is told, not that there is none.
#[test]
fn status_says_what_is_wrong_with_the_key_file() {
    let place = Place::new();
    let status = |word: &str| {
        let told = place.run(&["status", "vault", "--key-file", "key.json"]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains(word), "{word} does not stand in: {told}");
        let json = place.run(&["status", "vault", "--key-file", "key.json", "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert!(json["key_problem"].as_str().is_some_and(|it| it.contains(word)), "{json}");
    };
    let key = place.path("key.json");
    let mode = |mode| fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    status("open to others");
    mode(0o600);
    let whole = fs::read(&key).unwrap();
    fs::write(&key, &whole[..whole.len() / 2]).unwrap();
    status("is damaged");
    fs::remove_file(&key).unwrap();
    status("there is no key file");
    fs::write(&key, whole).unwrap();
    mode(0o600);
    fs::write(place.path("passphrase"), "for this test\n").unwrap();
    fs::set_permissions(place.path("passphrase"), PermissionsExt::from_mode(0o600)).unwrap();
    let add = ["key", "protector", "add", "vault", "--key-file", "key.json"];
    let new = ["--new-passphrase-file", "passphrase", "--argon2-memory", "1"];
    assert!(place.run(&[&add[..], &new].concat()).status.success());
    status("takes a passphrase");
}

#[test]
fn a_new_passphrase_without_a_terminal() {
    let place = Place::new();
    // A session of its own has no terminal.
    let refused = |args: &[&str]| {
        let mut command = Command::new("setsid");
        command.arg("-w").arg(env!("CARGO_BIN_EXE_atrest")).args(args);
        let output = command.current_dir(place.dir.path()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{told}");
        assert!(told.contains("give it with --new-passphrase-file"), "{told}");
    };
    refused(&["key", "protector", "add", "vault", "--key-file", "key.json"]);
    refused(&["init", "fresh", "--passphrase", "--key-file", "fresh.json"]);
}

#[test]
fn the_three_forms_of_a_backup_are_in_its_usage() {
    let place = Place::new();
    let help = place.run(&["key", "backup", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.contains("<FILE|--words|--qr>"), "{help}");
    place.refused(&["key", "backup", "vault"], 2, "<FILE|--words|--qr>");
    place.refused(&["key", "backup", "vault", "--words", "--qr"], 2, "--qr");
}
