//! The memory limits of this process's control groups (cgroups(7)).

use std::fs;
use std::path::{Path, PathBuf};

use super::proc::mountinfo::MountTable;
use super::proc::own::control_groups;

/// The least of the memory limits of this process's control group and of those above it, in bytes;
/// `None` where none is below the machine's memory.
pub fn memory_limit() -> Option<u64> {
    let groups = control_groups()?;
    let table = MountTable::read().ok()?;
    least(&groups, &table).filter(|limit| *limit < machine_memory())
}

fn least(groups: &str, table: &MountTable) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, group) = line.split_once(':')?;
        let is_memory = controllers.split(',').any(|controller| controller == "memory");
        match (controllers, is_memory) {
            ("", _) => least_above(table, "cgroup2", "", group),
            (_, true) => least_above(table, "cgroup", "memory", group),
            _ => None,
        }
    });
    limits.min()
}

fn least_above(table: &MountTable, kind: &str, controller: &str, group: &str) -> Option<u64> {
    let (root, mountpoint) = table.control_groups(kind, controller)?;
    // A group that is not below what is mounted here is one of another container.
    let below = Path::new(group).strip_prefix(root).ok()?;
    if below.components().any(|part| part.as_os_str() == "..") {
        return None;
    }
    let directories = below.ancestors().map(|above| mountpoint.join(above));
    directories.filter_map(|directory| limit_in(&directory)).min()
}

fn limit_in(directory: &Path) -> Option<u64> {
    // Version 2 says `max` where there is no limit; version 1 a number above all memory.
    let files = ["memory.max", "memory.high", "memory.limit_in_bytes"];
    let says = |file| fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok();
    files.into_iter().filter_map(says).min()
}

fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

impl MountTable {
    /// Where a hierarchy of control groups is mounted, and the group that is its root there.
    fn control_groups(&self, kind: &str, controller: &str) -> Option<(PathBuf, PathBuf)> {
        self.of_type(kind).find_map(|(root, mountpoint, options)| {
            let has = options.split(|byte| *byte == b',').any(|one| one == controller.as_bytes());
            (controller.is_empty() || has).then_some((root, mountpoint))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(of: &[(&str, &str, &Path)]) -> MountTable {
        let line = |(number, (kind, options, path)): (usize, &(&str, &str, &Path))| {
            format!("{number} 1 0:{number} / {} rw - {kind} {kind} {options}\n", path.display())
        };
        MountTable::parse(of.iter().enumerate().map(line).collect::<String>().as_bytes())
    }

    #[test]
    fn the_least_limit_above_a_group_counts_in_both_versions() {
        let scratch = tempfile::tempdir().unwrap();
        let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
        fs::create_dir_all(one.join("a/b")).unwrap();
        fs::create_dir_all(two.join("c/d")).unwrap();
        let table = table(&[("cgroup", "rw,memory", &one), ("cgroup2", "rw", &two)]);
        let groups = "3:cpu,cpuacct:/\n2:memory:/a/b\n0::/c/d\n";
        assert_eq!(least(groups, &table), None);
        fs::write(one.join("a/b/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        fs::write(one.join("a/memory.limit_in_bytes"), "157286400\n").unwrap();
        assert_eq!(least(groups, &table), Some(150 << 20));
        fs::write(two.join("c/d/memory.max"), "max\n").unwrap();
        fs::write(two.join("c/memory.max"), "1048576\n").unwrap();
        assert_eq!(least(groups, &table), Some(1 << 20));
        assert_eq!(least("2:memory:/../x\n", &table), None);
    }

    #[test]
    fn this_process_has_a_machine_with_memory() {
        assert!(machine_memory() > 16 << 20);
    }
}
