//! /proc: the machine.

use std::fs;

/// The model of the CPU (/proc/cpuinfo).
pub fn cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map(|(_, name)| name.to_owned())
}
