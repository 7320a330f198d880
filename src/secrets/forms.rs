//! The ways in which a secret is written by what does not know that it is one.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

use crate::id::percent_encode;

/// A line of a secret, or another way to write it, that is shorter than this is found in every other text.
const SHORT: usize = 6;

/// All that has to be taken out for a secret: itself, its lines, and either of them in JSON, in Rust's `Debug`, in an address,
/// and as base64.
pub(super) fn of(secret: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= SHORT);
    for text in std::iter::once(secret).chain(std::iter::once(secret.trim())).chain(lines) {
        let written = [json(text), text.escape_debug().to_string(), percent(text)];
        let written = written.into_iter().chain(encoded(text));
        forms.extend(written.filter(|form| form.len() >= SHORT));
        forms.insert(text.to_owned());
    }
    forms.remove("");
    forms
}

/// A string in JSON, without its quotes.
fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    percent_encode(text, &mut encoded);
    encoded
}

/// What base64 (RFC 4648) makes of it wherever it stands in a longer text: what comes before decides on which of three places in
/// a group it begins. The characters that it shares with its neighbours are left out.
fn encoded(text: &str) -> impl Iterator<Item = String> {
    let at = |before: usize| {
        let padded = [&b"\0\0"[..before], text.as_bytes()].concat();
        let (skip, last) = ([0, 2, 3][before], padded.len() * 8 / 6);
        [BASE64_STANDARD_NO_PAD.encode(&padded), BASE64_URL_SAFE_NO_PAD.encode(&padded)]
            .map(|all| all.get(skip..last).unwrap_or_default().to_owned())
    };
    (0..3).flat_map(at).collect::<Vec<_>>().into_iter()
}
