//! Instructions of each case, counted by valgrind's callgrind, and compared with those recorded.
//!
//! A count is the same on every run but for a thousandth, and on every machine where valgrind
//! shows programs the same instruction set: it shows none of AVX-512, VAES and SHA on any, so nearly
//! all of the last ten years are alike. Under other conditions nothing is compared, and the reason
//! told. The build is the one for development, which the tests have made already: its counts tell
//! as well as a release's whether something came in that was not there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt, fs};

use serde::{Deserialize, Serialize};

use super::cases::CASES;

/// The argument of the process that runs under valgrind.
pub const INSIDE: &str = "--count-inside";
/// How many more instructions than recorded are no reason to fail, in percent.
const TOLERANCE: f64 = 5.0;
/// How often each case is done, so that what it does now and then has its share.
const TIMES: u32 = 64;

/// What was recorded, and where.
#[derive(Serialize, Deserialize)]
struct Record {
    /// What else bears on a count.
    conditions: Conditions,
    /// By case: instructions of one call.
    instructions: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize, PartialEq, Clone)]
struct Conditions {
    /// Versions of the compiler, of valgrind and of the C library.
    versions: Vec<String>,
    /// The processor's features that ciphers and copies choose by, as valgrind shows them.
    features: Vec<String>,
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.versions.join(", "), self.features.join(" "))
    }
}

/// Compares, prints a line a case, and says what is over.
pub fn compare() -> Result<(), String> {
    let recorded =
        fs::read_to_string(place()).map_err(|e| format!("{}: {e}", place().display()))?;
    let recorded: Record =
        serde_json::from_str(&recorded).map_err(|e| format!("{}: {e}", place().display()))?;
    let found = count()?;
    if found.conditions != recorded.conditions {
        println!(
            "instructions not compared: they are counted with {}, and were recorded with {}",
            found.conditions, recorded.conditions
        );
        return Ok(());
    }
    let mut over = Vec::new();
    for (case, &now) in &found.instructions {
        let Some(&before) = recorded.instructions.get(case) else {
            over.push(format!("{case} was not recorded"));
            continue;
        };
        let change = (now as f64 / before as f64 - 1.0) * 100.0;
        println!("{case:<20} {now:>9} instructions, {change:+.1} %");
        if change > TOLERANCE {
            over.push(format!("{case} takes {now} instructions, {before} were recorded"));
        }
    }
    if over.is_empty() {
        return Ok(());
    }
    let how = "if that is meant, record them by: cargo bench --profile dev --bench micro -- --count --record";
    Err(format!("{}; {how}", over.join("; ")))
}

/// Writes what is counted now.
pub fn record() -> Result<(), String> {
    let json = serde_json::to_string_pretty(&count()?).map_err(|e| e.to_string())?;
    fs::write(place(), json + "\n").map_err(|e| format!("{}: {e}", place().display()))
}

/// The process under valgrind: says which features it sees, and does all cases.
pub fn inside() {
    println!("{}", features().join(" "));
    for (_, prepare) in CASES {
        let mut work = prepare();
        // Buffers and generators are made at the first call.
        work();
        measured(&mut *work);
    }
}

/// Where valgrind counts, and at whose end it writes a count down.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    (0..TIMES).for_each(|_| work());
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<String> {
    let features = [
        ("aes", is_x86_feature_detected!("aes")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("movbe", is_x86_feature_detected!("movbe")),
        ("sha", is_x86_feature_detected!("sha")),
        ("vaes", is_x86_feature_detected!("vaes")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    features.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<String> {
    vec![env::consts::ARCH.to_owned()]
}

fn count() -> Result<Record, String> {
    let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
    let program = env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*::measured", "--dump-after=*::measured"])
        .arg(format!("--callgrind-out-file={}", scratch.path().join("out").display()))
        .arg(program)
        .arg(INSIDE)
        // The C library chooses how to copy by the size of caches, unless it may not.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS,-FSRM")
        .output()
        .map_err(|e| format!("valgrind can't be run: {e}"))?;
    if !output.status.success() {
        return Err(format!("under valgrind: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let features = String::from_utf8_lossy(&output.stdout);
    let features = features.split_whitespace().map(str::to_owned).collect();
    let counts = CASES.iter().zip(1..).map(|((case, _), number)| {
        let total = total(&scratch.path().join(format!("out.{number}")))?;
        Ok(((*case).to_owned(), total / u64::from(TIMES)))
    });
    let instructions = counts.collect::<Result<_, String>>()?;
    Ok(Record { conditions: Conditions { versions: versions()?, features }, instructions })
}

/// The `totals:` line of callgrind's format.
fn total(path: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = line.and_then(|total| total.trim().parse().ok()).filter(|total| *total > 0);
    total.ok_or_else(|| format!("callgrind has counted nothing in {}", path.display()))
}

fn versions() -> Result<Vec<String>, String> {
    let asked =
        [["rustc", "--version"], ["valgrind", "--version"], ["getconf", "GNU_LIBC_VERSION"]];
    let answers = asked.iter().map(|[program, question]| {
        let output = Command::new(program).arg(question).output();
        let output = output.map_err(|e| format!("{program} can't be asked: {e}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    });
    answers.collect()
}

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/micro/instructions.json")
}
