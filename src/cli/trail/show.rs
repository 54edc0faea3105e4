//! The trail for people.

use std::collections::HashMap;

use crate::service::principals;
use crate::service::text::counted;
use crate::sys::{self, Show};
use crate::trail::{Line, Reader, Report};

/// Users' names, looked up once.
#[derive(Debug, Default)]
pub struct Names(HashMap<u32, String>);

impl Names {
    fn of(&mut self, uid: u32) -> &str {
        self.0.entry(uid).or_insert_with(|| principals::user_name(uid))
    }
}

/// One line: time, event, user, program, purpose, object and outcome.
pub fn line(text: &str, names: &mut Names) -> String {
    let Ok(line) = serde_json::from_str::<Line<'_>>(text) else {
        return sys::harmless(text, false).into_owned();
    };
    let request = &line.request_parameters;
    let mut words = vec![
        format!("{:.3}", line.event_time),
        format!("{:<15}", line.event_name.word()),
        names.of(line.user_identity.uid).to_owned(),
    ];
    let optional = [
        line.user_identity.executable.as_deref(),
        request.operation.as_deref(),
        request.path.as_deref().map(|path| if path.is_empty() { "/" } else { path }),
    ];
    words.extend(optional.into_iter().flatten().map(|name| name.shown().to_string()));
    if let Some(access) = request.access {
        let access = serde_json::to_value(access).unwrap_or_default();
        words.extend(access.as_str().map(|access| format!("({access})")));
    }
    for key in &line.resources {
        let material = line.additional_event_data.as_ref().map(|data| &*data.key_material_id);
        let version = material.and_then(|id| id.rsplit_once('/')).map(|(_, version)| version);
        words.push(match version {
            Some(version) => format!("key {} version {}", key.name.shown(), version.shown()),
            None => format!("key {}", key.name.shown()),
        });
    }
    if let Some(details) = &request.details {
        words.push(sys::harmless_json(&details.to_string()).into_owned());
    }
    if let Some(code) = &line.error_code {
        let message = line.error_message.as_deref().unwrap_or_default();
        words.push(format!("{code}: {}", sys::harmless(message, false)));
    }
    words.join("  ")
}

/// The users who read a file.
pub fn readers(readers: &[Reader]) -> String {
    let mut names = Names::default();
    let line = |reader: &Reader| {
        let times =
            |count: u64| if count == 1 { "once".to_owned() } else { format!("{count} times") };
        let mut line = format!("{}  {}", names.of(reader.uid), reader.executable.shown());
        if reader.opened > 0 {
            line.push_str(&format!("  opened it {}", times(reader.opened)));
        }
        if reader.refused > 0 {
            line.push_str(&format!("  was refused {}", times(reader.refused)));
        }
        line.push_str(&format!("  from {:.0} to {:.0}", reader.first, reader.last));
        line
    };
    readers.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What `verify` found.
pub fn report(report: &Report) -> String {
    let finding = |finding: &crate::trail::Finding| {
        let place = match (&finding.file, finding.line) {
            (Some(file), Some(line)) => format!("{file}, line {line}: "),
            (Some(file), None) => format!("{file}: "),
            (None, _) => String::new(),
        };
        format!("{place}{}", finding.what)
    };
    let mut lines: Vec<_> = report.findings.iter().map(finding).collect();
    let Report { first, last, files, unsealed, head, acknowledged, .. } = report;
    let verdict = match report.findings.len() as u64 {
        0 => "as they were written".to_owned(),
        places => format!("changed in {}", counted(places, "place")),
    };
    let files = counted(*files, "file");
    lines.push(format!("Lines {first} to {last} in {files}: {verdict}."));
    if *unsealed > 0 {
        let are = if *unsealed == 1 { "is" } else { "are" };
        lines.push(format!("{unsealed} of them {are} newer than the vault's record of its trail."));
    }
    if *acknowledged > 0 {
        lines.push(format!("{} acknowledged.", counted(*acknowledged, "finding")));
    }
    if report.lost > 0 {
        let events = counted(report.lost, "event");
        lines.push(format!("Lost while the trail could not be written (TrailGap): {events}."));
    }
    if report.without_trail > 0 {
        let mounts = counted(report.without_trail, "mount");
        lines.push(format!("{mounts} kept no trail, as told (--no-trail)."));
    }
    lines.push(format!("head  {head}"));
    lines.join("\n")
}
