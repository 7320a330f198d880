use std::borrow::Cow;

#[cfg(feature = "expressions")]
use aho_corasick::AhoCorasick;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::artifact::ArtifactData;

/// What stands in the place of a secret.
#[cfg(feature = "expressions")]
const MARK: &str = "***";

/// Takes secret values out of what leaves a step. One that knows none, as where there are no expressions, changes nothing.
#[derive(Clone, Default)]
pub(crate) struct Redactor {
    #[cfg(feature = "expressions")]
    forms: std::collections::BTreeSet<String>,
    #[cfg(feature = "expressions")]
    matcher: Option<AhoCorasick>,
}

/// The secrets of a plan are so many, or so long, that they cannot be looked for: so none is handed out.
#[cfg(feature = "expressions")]
#[derive(Debug, thiserror::Error)]
#[error("the secrets of the plan are too many to be kept out of what leaves it; split the plan")]
pub(crate) struct TooManySecrets;

#[cfg(feature = "expressions")]
impl Redactor {
    /// Learns a further secret; what it knows, it goes on knowing.
    ///
    /// # Errors
    /// There are too many to look for.
    pub(crate) fn learn(&mut self, secret: &str) -> Result<(), TooManySecrets> {
        let known = self.forms.len();
        self.forms.extend(super::forms::of(secret));
        if self.forms.len() > known {
            self.matcher = Some(AhoCorasick::new(&self.forms).map_err(|_| TooManySecrets)?);
        }
        Ok(())
    }

    /// Whether it knows this one.
    pub(crate) fn knows(&self, secret: &str) -> bool {
        self.forms.contains(secret)
    }

    /// Where secrets are. Two that overlap are one place, so that no part of either is left.
    fn places(&self, text: &[u8]) -> Vec<std::ops::Range<usize>> {
        let Some(matcher) = self.matcher.as_ref().filter(|matcher| matcher.is_match(text)) else {
            return Vec::new();
        };
        let mut places: Vec<_> = matcher.find_overlapping_iter(text).map(|found| found.range()).collect();
        places.sort_by_key(|place| place.start);
        places.dedup_by(|next, place| {
            let touches = next.start < place.end;
            if touches {
                place.end = place.end.max(next.end);
            }
            touches
        });
        places
    }

    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let places = self.places(text.as_bytes());
        if places.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut clean = text.to_owned();
        for place in places.into_iter().rev() {
            clean.replace_range(place, MARK);
        }
        Cow::Owned(clean)
    }

    fn bytes(&self, bytes: Bytes) -> Bytes {
        let places = self.places(&bytes);
        if places.is_empty() {
            return bytes;
        }
        let (mut clean, mut from) = (Vec::with_capacity(bytes.len()), 0);
        for place in places {
            clean.extend_from_slice(&bytes[from..place.start]);
            clean.extend_from_slice(MARK.as_bytes());
            from = place.end;
        }
        clean.extend_from_slice(&bytes[from..]);
        Bytes::from(clean)
    }

    /// Whether it knows of no secret.
    pub(crate) fn is_idle(&self) -> bool {
        self.matcher.is_none()
    }
}

#[cfg(not(feature = "expressions"))]
#[allow(clippy::unused_self, reason = "the same shape as with the feature")]
impl Redactor {
    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        Cow::Borrowed(text)
    }

    fn bytes(&self, bytes: Bytes) -> Bytes {
        bytes
    }

    pub(crate) fn is_idle(&self) -> bool {
        true
    }
}

impl Redactor {
    fn owned(&self, text: String) -> String {
        match self.text(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(clean) => clean,
        }
    }

    /// All texts in a value, the names of its members too, and numbers that are a secret.
    pub(crate) fn value(&self, value: Value) -> Value {
        if self.is_idle() {
            return value;
        }
        match value {
            Value::String(text) => Value::String(self.owned(text)),
            Value::Number(number) => {
                let text = number.to_string();
                match self.text(&text) {
                    // A part of a number is mostly there by chance.
                    Cow::Owned(clean) if clean.chars().all(|c| c == '*') => Value::String(clean),
                    _ => Value::Number(number),
                }
            }
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.value(item)).collect()),
            Value::Object(members) => {
                let mut clean = Map::with_capacity(members.len());
                for (name, member) in members {
                    let mut name = self.owned(name);
                    // Members whose names are alike now are members all the same.
                    while clean.contains_key(&name) {
                        name.push('*');
                    }
                    clean.insert(name, self.value(member));
                }
                Value::Object(clean)
            }
            other => other,
        }
    }

    pub(crate) fn raw(&self, bytes: Bytes) -> Bytes {
        if self.is_idle() { bytes } else { self.bytes(bytes) }
    }

    pub(crate) fn data(&self, data: ArtifactData) -> ArtifactData {
        match data {
            ArtifactData::Text(text) => match self.text(&text) {
                Cow::Borrowed(_) => ArtifactData::Text(text),
                Cow::Owned(clean) => ArtifactData::from(clean),
            },
            ArtifactData::Bytes(bytes) => ArtifactData::Bytes(self.raw(bytes)),
        }
    }
}

/// What it knows is told to nobody.
impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(feature = "expressions")]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn knowing(secrets: &[&str]) -> Redactor {
        let mut redactor = Redactor::default();
        for secret in secrets {
            redactor.learn(secret).unwrap();
        }
        redactor
    }

    #[test]
    fn a_secret_is_found_however_it_is_written() {
        let secret = "p\u{e4}ss \"word\"/1";
        let redactor = knowing(&[secret]);
        let written = [
            secret.to_owned(),
            json!({ "a": [secret] }).to_string(),
            format!("{secret:?}"),
            "p%C3%A4ss%20%22word%22%2F1".to_owned(),
            BASE64_STANDARD.encode(secret),
            BASE64_STANDARD.encode(format!("user:{secret}")),
            BASE64_STANDARD.encode(format!("us:{secret}!")),
        ];
        for text in written {
            let clean = redactor.text(&text);
            assert!(clean.contains("***"), "{text}");
            for leak in ["word", "ss%20", "c3Mg"] {
                assert!(!clean.contains(leak), "{text} became {clean}");
            }
        }
        assert_eq!(redactor.text("p\u{e4}ss words are other words"), "p\u{e4}ss words are other words");
    }

    #[test]
    fn lines_of_a_secret_are_secret_too() {
        let redactor = knowing(&["-----BEGIN KEY-----\nabcdefgh\nij\n-----END KEY-----\n"]);
        assert_eq!(redactor.text("line abcdefgh"), "line ***");
        assert_eq!(redactor.text("ij is short"), "ij is short");
    }

    #[test]
    fn secrets_that_overlap_leave_nothing() {
        let redactor = knowing(&["abcdef", "defghi", "abc"]);
        assert_eq!(redactor.text("xabcdefghiy abc"), "x***y ***");
        assert_eq!(redactor.raw(Bytes::from_static(b"\xffabcdefghi\xff")), &b"\xff***\xff"[..]);
    }

    #[test]
    fn names_and_numbers_are_looked_at() {
        let redactor = knowing(&["12345678", "sesame"]);
        let value = json!({ "sesame": 12_345_678, "a": [912_345_678_u64, null, true, "open sesame"] });
        assert_eq!(
            redactor.value(value),
            json!({ "***": "***", "a": [912_345_678_u64, null, true, "open ***"] })
        );
        let alike = redactor.value(json!({ "sesame": 1, "***": 2 }));
        assert_eq!(alike.as_object().map(Map::len), Some(2));
    }

    proptest! {
        #[test]
        fn no_secret_is_left_in_any_text(
            secrets in prop::collection::vec("[ab\\\\\"]{1,5}", 1..4),
            text in "[ab\\\\\"x]{0,40}",
        ) {
            let redactor = knowing(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
            let clean = redactor.text(&text);
            for secret in &secrets {
                prop_assert!(!clean.contains(secret.as_str()), "{:?} in {:?}", secret, clean);
            }
            // What has no secret in it is as it was.
            if !secrets.iter().any(|secret| text.contains(secret.as_str())) {
                prop_assert!(clean == text || text.len() >= 6);
            }
        }
    }
}
