//! What somebody without the key file does to a trail is found, and its place named.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::common::{Allow, Vault, require_root};
use crate::{assert_whole, directory, files_in, key, lines, one_sentence, trail};

/// A trail of three files, and what can be put back.
struct Kept {
    vault: Vault,
    directory: PathBuf,
    /// The files with their content.
    files: Vec<(PathBuf, String)>,
    /// The vault's seal now, and as it was before the last mount.
    seal: Vec<u8>,
    old_seal: Vec<u8>,
}

fn seal_of(vault: &Vault) -> PathBuf {
    vault.path().join(".atrest/trail.json")
}

impl Kept {
    fn make() -> Kept {
        require_root();
        let vault = Vault::init();
        let mount = vault.mount(&["--trail-file-size", "1"]);
        fs::write(mount.join("file"), b"content").unwrap();
        let directory = directory(&vault);
        while files_in(&directory).len() < 3 {
            (0..250).for_each(|_| drop(fs::File::open(mount.join("file")).unwrap()));
            // Time to write them, so that the third file is not full too before it is seen.
            thread::sleep(Duration::from_millis(60));
        }
        mount.unmount();
        let old_seal = fs::read(seal_of(&vault)).unwrap();
        let mount = vault.mount(&["--trail-file-size", "1"]);
        for _ in 0..6 {
            fs::read(mount.join("file")).unwrap();
        }
        mount.unmount();
        assert_whole(&vault);
        let files: Vec<_> = files_in(&directory)
            .into_iter()
            .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
            .collect();
        assert_eq!(files.len(), 3);
        let seal = fs::read(seal_of(&vault)).unwrap();
        Kept { vault, directory, files, seal, old_seal }
    }

    fn put_back(&self) {
        files_in(&self.directory).iter().for_each(|path| fs::remove_file(path).unwrap());
        self.files.iter().for_each(|(path, content)| fs::write(path, content).unwrap());
        fs::write(seal_of(&self.vault), &self.seal).unwrap();
    }

    fn path(&self, file: usize) -> &Path {
        &self.files[file].0
    }

    /// A file's name, as a finding has it.
    fn name(&self, file: usize) -> String {
        self.path(file).file_name().unwrap().to_string_lossy().into_owned()
    }

    fn edit(&self, file: usize, edit: impl FnOnce(&mut Vec<String>)) {
        let content = &self.files[file].1;
        let mut lines: Vec<_> = content.lines().map(|line| format!("{line}\n")).collect();
        edit(&mut lines);
        fs::write(self.path(file), lines.concat()).unwrap();
    }

    /// Verifies what was done to it, and puts it back.
    #[track_caller]
    fn found(&self, place: &str, what: &str) {
        let said = trail(&self.vault, "verify", "");
        one_sentence(&said, 3, "atrest trail acknowledge");
        let finding = said.stdout.lines().find(|line| line.contains(place) && line.contains(what));
        assert!(finding.is_some(), "no finding {place} … {what}: {said}");
        one_sentence(&trail(&self.vault, "head", ""), 3, "atrest trail acknowledge");
        self.put_back();
        assert_whole(&self.vault);
    }
}

#[test]
fn every_kind_is_found() {
    let kept = Kept::make();
    let (first, second, third) = (kept.name(0), kept.name(1), kept.name(2));
    let number = |file: usize, line: usize| -> u64 {
        let text = kept.files[file].1.lines().nth(line - 1).unwrap();
        serde_json::from_str::<serde_json::Value>(text).unwrap()["sequence"].as_u64().unwrap()
    };

    kept.edit(1, |lines| lines[2] = lines[2].replace("\"uid\":0", "\"uid\":1"));
    kept.found(&format!("{second}, line 3"), "was changed");

    kept.edit(0, |lines| drop(lines.remove(3)));
    kept.found(&format!("{first}, line 4"), &format!("line {} is missing", number(0, 4)));

    kept.edit(0, |lines| drop(lines.drain(2..5)));
    kept.found(&format!("{first}, line 3"), "are missing");

    kept.edit(2, |lines| lines.swap(2, 4));
    kept.found(&format!("{third}, line 3"), "");

    kept.edit(0, |lines| lines.insert(5, lines[2].clone()));
    kept.found(&format!("{first}, line 6"), "stands where");

    kept.edit(0, |lines| lines.insert(3, lines[3].replace("Decrypt", "Mount")));
    kept.found(&format!("{first}, line 4"), "was changed");

    // The tail: of the last file, and of one in the middle.
    let last = number(2, kept.files[2].1.lines().count());
    kept.edit(2, |lines| drop(lines.pop()));
    kept.found("", &format!("the last line, {last}, is missing"));
    kept.edit(2, |lines| lines.truncate(lines.len() - 3));
    kept.found("", &format!("the last lines, {} to {last}, are missing", last - 2));
    kept.edit(1, |lines| drop(lines.pop()));
    kept.found(&third, "before this file");
    let whole = &kept.files[2].1;
    fs::write(kept.path(2), &whole[..whole.len() - 40]).unwrap();
    kept.found(&third, "was cut");

    fs::remove_file(kept.path(0)).unwrap();
    kept.found("", "the first lines, from 1, are missing");
    fs::remove_file(kept.path(1)).unwrap();
    kept.found(&third, "are missing");
    fs::remove_file(kept.path(2)).unwrap();
    kept.found("", "the last lines");
    (0..3).for_each(|file| fs::remove_file(kept.path(file)).unwrap());
    kept.found("", "are missing");
    fs::write(kept.path(1), "").unwrap();
    kept.found(&second, "no whole line");

    fs::write(kept.path(0), &kept.files[1].1).unwrap();
    fs::write(kept.path(1), &kept.files[0].1).unwrap();
    kept.found(&first, "does not begin as one of its name does");

    fs::write(seal_of(&kept.vault), &kept.old_seal).unwrap();
    kept.found("", "has been mounted");
    let changed = String::from_utf8(kept.seal.clone()).unwrap().replace("\"last\":", "\"last\":1");
    fs::write(seal_of(&kept.vault), changed).unwrap();
    kept.found("", "record of its trail was changed");
    fs::remove_file(seal_of(&kept.vault)).unwrap();
    kept.found("", "no record of its trail");
}

#[test]
fn a_trail_of_another_vault_is_found() {
    let kept = Kept::make();
    let other = Vault::init();
    let mount = other.mount(&[]);
    fs::write(mount.join("file"), b"content").unwrap();
    mount.unmount();
    files_in(&kept.directory).iter().for_each(|path| fs::remove_file(path).unwrap());
    for path in files_in(&directory(&other)) {
        fs::copy(&path, kept.directory.join(path.file_name().unwrap())).unwrap();
    }
    kept.found(&format!("{}, line 1", kept.name(0)), "was changed");
}

/// All of it set back to where it was, with the vault's seal, by who waited for that: only a head
/// that was kept elsewhere tells.
#[test]
fn an_older_state_is_found_by_a_head() {
    let kept = Kept::make();
    let head = || trail(&kept.vault, "head", "").ok().stdout.trim().to_owned();
    let before = head();
    key(&kept.vault, "rotate", "").ok();
    let after = head();
    for known in [&before, &after] {
        trail(&kept.vault, "verify", &format!("--head {known}")).ok();
    }
    kept.put_back();
    assert_whole(&kept.vault);
    trail(&kept.vault, "verify", &format!("--head {before}")).ok();
    let said = trail(&kept.vault, "verify", &format!("--head {after}"));
    one_sentence(&said, 3, "atrest trail acknowledge");
    assert!(said.stdout.contains("the head that was kept has it"), "{said}");
    // And gone on from there, it is another line.
    key(&kept.vault, "rotate", "").ok();
    let said = trail(&kept.vault, "verify", &format!("--head {after}"));
    one_sentence(&said, 3, "atrest trail acknowledge");
    assert!(said.stdout.contains("not the one that the head that was kept has"), "{said}");
    one_sentence(&trail(&kept.vault, "verify", "--head nonsense"), 2, "");
}

/// What was looked into is told no more, and stays in the trail; what comes later is told.
#[test]
fn what_was_acknowledged_is_told_no_more() {
    require_root();
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    vault.mount(&[]).unmount();
    let last = |vault: &Vault| files_in(&directory(vault)).pop().unwrap();
    let spoil = |from: &str, to: &str| {
        let path = last(&vault);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
    };
    spoil("\"Unmount\"", "\"Decrypt\"");
    let found = trail(&vault, "verify", "");
    assert_eq!(found.code(), 3, "{found}");
    for options in ["", "--reason="] {
        assert_eq!(trail(&vault, "acknowledge", options).code(), 2);
    }
    trail(&vault, "acknowledge", "--reason a-test-of-ours").ok();
    let verified = trail(&vault, "verify", "").ok();
    assert!(verified.stdout.contains("acknowledged."), "{verified}");
    let line = &lines(&vault, "--event AcknowledgeTrail")[0];
    assert_eq!(line["requestParameters"]["details"]["reason"], "a-test-of-ours");
    // By the daemon too, of what was changed since.
    let mut mount = vault.mount(&[]);
    mount.allow(Allow::Errors);
    // As long as it was: the daemon goes on behind it.
    spoil("\"AcknowledgeTrail\"", "\"acknowledgeTrail\"");
    let found = trail(&vault, "verify", "");
    assert_eq!(found.code(), 3, "{found}");
    trail(&vault, "acknowledge", "--reason the-same-again").ok();
    trail(&vault, "verify", "").ok();
    mount.unmount();
    trail(&vault, "verify", "").ok();
    let nothing = trail(&vault, "acknowledge", "--reason nothing").ok();
    assert!(nothing.stdout.contains("nothing wrong"), "{nothing}");
}
