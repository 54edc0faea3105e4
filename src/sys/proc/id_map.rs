//! /proc/self/uid_map and gid_map: the users and groups of this user namespace (user_namespaces(7)).

/// Whether the user namespace of this process has this user.
pub fn maps_user(uid: u32) -> bool {
    maps("/proc/self/uid_map", uid)
}

/// Whether it has this group.
pub fn maps_group(gid: u32) -> bool {
    maps("/proc/self/gid_map", gid)
}

/// A kernel without user namespaces has no such file, and all users.
fn maps(file: &str, id: u32) -> bool {
    std::fs::read_to_string(file).map_or(true, |map| has(&map, id))
}

/// Each line has the first id inside of the namespace, the same outside, and how many there are.
fn has(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map_while(|number| number.parse::<u64>().ok());
        let (Some(first), Some(_), Some(count)) = (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        (first..first + count).contains(&u64::from(id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_in_one_of_the_ranges() {
        assert!(has("         0          0 4294967295\n", 70_000));
        let map = "         0       1000          1\n         1     100000      65536\n";
        for (id, is_in) in [(0, true), (1, true), (65_536, true), (65_537, false)] {
            assert_eq!(has(map, id), is_in, "{id}");
        }
        assert!(maps_user(rustix::process::geteuid().as_raw()));
    }
}
