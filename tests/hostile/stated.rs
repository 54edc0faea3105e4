//! What the threat model names as its evidence is there.

use std::fs;
use std::path::Path;

const MANUAL: &str = include_str!("../../src/manual/threat_model.md");

#[test]
fn the_tests_that_the_table_names_are_there() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let rows = MANUAL.lines().filter(|line| line.starts_with("| "));
    let cells = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let named: Vec<_> = cells.filter_map(|cell| cell.split_once("::")).collect();
    assert!(named.len() > 20, "{} tests are named", named.len());
    for (file, test) in named {
        let source = fs::read_to_string(tests.join(file).with_extension("rs"));
        let source = source.unwrap_or_else(|error| panic!("tests/{file}.rs: {error}"));
        assert!(source.contains(&format!("fn {test}()")), "tests/{file}.rs has no {test}");
    }
}
