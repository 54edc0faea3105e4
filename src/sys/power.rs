//! The machine's power supply.

use std::fs;
use std::path::Path;

/// Whether the machine runs on a battery: one of its own discharges, and no mains are connected.
/// False where the kernel knows of none. (Linux Documentation/ABI/testing/sysfs-class-power)
pub fn on_battery() -> bool {
    discharges(Path::new("/sys/class/power_supply"))
}

fn discharges(supplies: &Path) -> bool {
    let Ok(entries) = fs::read_dir(supplies) else { return false };
    let mut discharging = false;
    for supply in entries.flatten() {
        let says = |file: &str| fs::read_to_string(supply.path().join(file)).unwrap_or_default();
        match says("type").trim() {
            "Mains" | "USB" if says("online").trim() == "1" => return false,
            // A mouse has one too.
            "Battery" if says("scope").trim() != "Device" => {
                discharging |= says("status").trim() == "Discharging";
            }
            _ => {}
        }
    }
    discharging
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_battery_of_the_machine_that_discharges_without_mains_counts() {
        let dir = tempfile::tempdir().unwrap();
        let put = |supply: &str, file: &str, text: &str| {
            let path = dir.path().join(supply);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(file), format!("{text}\n")).unwrap();
        };
        assert!(!discharges(dir.path()) && !discharges(&dir.path().join("none")));
        put("hid-mouse", "type", "Battery");
        put("hid-mouse", "scope", "Device");
        put("hid-mouse", "status", "Discharging");
        assert!(!discharges(dir.path()));
        put("BAT0", "type", "Battery");
        put("BAT0", "status", "Full");
        assert!(!discharges(dir.path()));
        put("BAT0", "status", "Discharging");
        assert!(discharges(dir.path()));
        put("AC", "type", "Mains");
        put("AC", "online", "0");
        assert!(discharges(dir.path()));
        put("AC", "online", "1");
        assert!(!discharges(dir.path()));
    }
}
