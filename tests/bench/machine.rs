//! Where and when a run takes place.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

/// The machine as a run found it.
pub struct Machine {
    pub date: String,
    pub processor: String,
    pub cores: usize,
    pub kernel: String,
    /// Load average over the last minute, before the run adds its own
    pub load: f64,
}

impl Machine {
    pub fn here() -> Self {
        let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            date: date
                .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
                .unwrap_or_default(),
            processor: model.map_or("unknown processor", |(_, name)| name).to_owned(),
            cores: available_parallelism().map_or(1, usize::from),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            load: load.split(' ').next().and_then(|minute| minute.parse().ok()).unwrap_or(0.0),
        }
    }

    pub fn line(&self) -> String {
        let busy =
            if self.load > 0.5 { " (the machine was busy: these figures are rough)" } else { "" };
        format!(
            "{}; {}, {} cores; Linux {}; load {:.2}{busy}",
            self.date, self.processor, self.cores, self.kernel, self.load
        )
    }
}
