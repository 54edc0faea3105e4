//! Fuzz targets of the trail.

use super::chain::{Chain, Head, split};
use super::claims::parse_claims;
use super::query::{number_of, parsed};
use super::{Checkpoint, Filter};
use crate::crypto::{Secret, TrailKeys};

fn keys() -> TrailKeys {
    TrailKeys::derive(&Secret::from_bytes(&[7; 32]), &[7; 16])
}

/// A line: what parses, linked anew, is a line of the trail that says the same.
pub fn line(bytes: &[u8]) -> bool {
    number_of(bytes);
    split(bytes).and_then(|(body, _)| parse_claims(body));
    let seen = parsed(bytes, &mut Vec::new(), |line| {
        Filter { path: Some("a".to_owned()), ..Filter::default() }.meets(line);
        let before = Head { sequence: line.sequence.saturating_sub(1), ..Head::START };
        let mut written = Vec::new();
        let mut append = |line: &super::Line<'_>| {
            written.clear();
            let mut chain = Chain::after(keys().line, before);
            chain.append(&mut line.clone(), &mut written).expect("a line is JSON");
            written.pop();
            let (body, link) = split(&written).expect("a line that was written has a link");
            let mut chain = Chain::after(keys().line, before);
            assert!(chain.fits(before.sequence + 1, body, link));
            parse_claims(body).expect("a line that was written has a number");
            written.clone()
        };
        append(line);
        // A number with a fraction, which no event has, is not always read as it was written.
        let mut line = line.clone();
        line.request_parameters.details = None;
        let first = append(&line);
        let second = parsed(&first, &mut Vec::new(), |again| append(again));
        assert_eq!(second.as_ref(), Some(&first));
    });
    seen.is_some()
}

/// The checkpoint without its MAC, which a fuzzer does not find; or a head as text.
pub fn checkpoint(bytes: &[u8]) -> bool {
    let keys = keys();
    assert!(Checkpoint::from_bytes(bytes, &keys).is_none(), "a MAC was forged");
    if let Some(checkpoint) = Checkpoint::parse(bytes) {
        let written = checkpoint.to_bytes(&keys).expect("a checkpoint is JSON");
        assert_eq!(Checkpoint::from_bytes(&written, &keys), Some(checkpoint));
        return true;
    }
    let head = str::from_utf8(bytes).ok().and_then(|text| text.parse::<Head>().ok());
    if let Some(head) = head {
        assert_eq!(head.to_string().parse(), Ok(head));
    }
    head.is_some()
}
