//! git: clone, commit, gc and fsck of trees of some size.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::{
    Campaign, Mounted, Outcome, Vault, pattern, random_bytes, require, run_within,
};
use crate::tree::{assert_same_tree, listing};

/// git with an identity of the test's own and no configuration of the person's.
struct Git {
    configuration: PathBuf,
}

impl Git {
    fn new(vault: &Vault) -> Git {
        let configuration = vault.scratch().join("gitconfig");
        let text = "[user]\nname = Test\nemail = test@example.org\n[safe]\ndirectory = *\n[gc]\nauto = 0\n\
                    [init]\ndefaultBranch = main\n[commit]\ngpgsign = false\n";
        fs::write(&configuration, text).unwrap();
        Git { configuration }
    }

    fn run(&self, dir: &Path, args: &[&str]) -> Outcome {
        let mut git = Command::new(require("git"));
        git.args(args)
            .current_dir(dir)
            .env("GIT_CONFIG_GLOBAL", &self.configuration)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env_remove("GIT_DIR");
        run_within(Duration::from_secs(600), &mut git).ok()
    }

    fn check(&self, dir: &Path) {
        self.run(dir, &["fsck", "--full", "--strict", "--no-dangling"]);
        let status = self.run(dir, &["status", "--porcelain"]);
        assert_eq!(status.stdout, "", "the work tree is not clean");
    }
}

/// A repository of some commits outside of the mount, which changes a third of its files in each.
fn make_repository(git: &Git, dir: &Path, files: u64) {
    git.run(dir, &["init", "-q", "."]);
    for commit in 0..6u64 {
        for number in 0..files {
            let path = dir.join(format!("src/{}/file {number}.txt", number % 23));
            if commit == 0 || number % 3 == commit % 3 {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let mut text = String::new();
                for line in 0..number % 120 {
                    text.push_str(&format!(
                        "line {line} of file {number} in commit {}\n",
                        commit * (line % 5)
                    ));
                }
                fs::write(&path, text).unwrap();
            }
        }
        fs::write(dir.join("binary"), random_bytes(commit, 300_000)).unwrap();
        git.run(dir, &["add", "-A"]);
        git.run(dir, &["commit", "-q", "-m", &format!("commit {commit}")]);
    }
    git.run(dir, &["branch", "old", "HEAD~3"]);
}

fn clone_gc_fsck(mount: Mounted, from: &Path) {
    let vault = mount.vault().clone();
    let git = Git::new(&vault);
    git.run(
        mount.path(),
        &["clone", "-q", "--no-local", "--no-hardlinks", &from.display().to_string(), "clone"],
    );
    let clone = mount.join("clone");
    git.check(&clone);
    let head = git.run(&clone, &["rev-parse", "HEAD"]).stdout;
    for number in 0..40 {
        fs::write(clone.join(format!("new {number}")), pattern(number, 4000 + number as usize))
            .unwrap();
    }
    git.run(&clone, &["add", "-A"]);
    git.run(&clone, &["commit", "-q", "-m", "new files"]);
    git.run(&clone, &["checkout", "-q", head.trim()]);
    git.run(&clone, &["checkout", "-q", "-"]);
    git.check(&clone);
    git.run(&clone, &["gc", "--prune=now", "--quiet"]);
    git.check(&clone);
    let expected = listing(&clone);
    let mount = mount.remount(&[]);
    let clone = mount.join("clone");
    assert_same_tree(&listing(&clone), &expected, "after a remount");
    git.check(&clone);
    git.run(&clone, &["reset", "-q", "--hard", head.trim()]);
    git.run(&clone, &["repack", "-adq"]);
    git.check(&clone);
    mount.unmount();
    vault.verify();
}

#[test]
fn a_repository_of_many_files() {
    for options in [&[][..], &["--no-writeback"]] {
        let vault = Vault::init();
        let source = vault.scratch().make_dir("source");
        make_repository(&Git::new(&vault), &source, Campaign::pick(400, 4000));
        clone_gc_fsck(vault.mount(options), &source);
    }
}

#[test]
fn the_projects_own_repository() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(project.join(".git").exists(), "{} is no clone of the project", project.display());
    clone_gc_fsck(Vault::init().mount(&[]), project);
}
