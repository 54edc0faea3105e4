//! A source tree of no project: the same bytes in every run, with the sizes and the depth of real ones.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Sequence;
use crate::error::{Context, Result};
use crate::tools::run;

const SEED: u64 = 2026;
const WORDS: [&str; 24] = [
    "block", "buffer", "close", "const", "count", "entry", "error", "fn", "handle", "if", "inode",
    "let", "lock", "match", "mut", "name", "offset", "open", "pub", "read", "return", "self",
    "struct", "write",
];

/// Packs a tree of `files` files into `archive`, by way of the directory `tree`, which it removes again.
pub fn archive(files: u32, tree: &Path, archive: &Path) -> Result<()> {
    let mut sequence = Sequence(SEED);
    for number in 0..files {
        // Directories of about fifteen files, three levels deep.
        let directory = tree.join(format!(
            "part{}/mod{}/sub{}",
            number / 240,
            number / 60 % 4,
            number / 15 % 4
        ));
        let path = directory.join(format!("file{number}.c"));
        let written =
            fs::create_dir_all(&directory).and_then(|()| fs::write(&path, text(&mut sequence)));
        written.with(|| path.display().to_string())?;
    }
    let mut tar = Command::new("tar");
    tar.args([
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=2020-01-01",
        "-cf",
    ]);
    run(tar.arg(archive).arg("-C").arg(tree).arg("."))?;
    fs::remove_dir_all(tree).with(|| tree.display().to_string())
}

/// Words in lines: 256 bytes to 64 KiB of them, each doubling as likely as the one before, which
/// makes a median of 4 KiB and a mean of 12, much like a kernel tree's.
fn text(sequence: &mut Sequence) -> String {
    let limit = 512u64 << sequence.below(8);
    let size = (limit / 2 + sequence.below(limit / 2)) as usize;
    let mut text = String::with_capacity(size + 64);
    while text.len() < size {
        for _ in 0..sequence.below(9) {
            text.push_str(WORDS[sequence.below(WORDS.len() as u64) as usize]);
            text.push(' ');
        }
        // Numbers keep the text from compressing better than a program does.
        let _ = writeln!(text, "{:x};", sequence.below(1 << 20));
    }
    text
}
