//! The hot path in pieces, without a mount.
//!
//! `cargo bench --bench micro` times them. `cargo bench --bench micro -- --count` counts their
//! instructions under valgrind and compares them with `instructions.json` beside this file, and
//! `--count --record` writes that file.

mod cases;
mod counting;

use std::process::ExitCode;

use cases::CASES;

#[divan::bench(args = CASES.iter().map(|(name, _)| *name))]
fn case(bencher: divan::Bencher, name: &str) {
    let Some((_, prepare)) = CASES.iter().find(|(case, _)| *case == name) else { return };
    let mut work = prepare();
    bencher.bench_local(&mut work);
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has(counting::INSIDE) {
        counting::inside();
        return ExitCode::SUCCESS;
    }
    if !has("--count") {
        divan::main();
        return ExitCode::SUCCESS;
    }
    let done = if has("--record") { counting::record() } else { counting::compare() };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}
