//! What is kept of a stream. Pure.

use std::collections::VecDeque;

use crate::callables::limits::{CUT_MARGIN, STREAM_BYTES};

/// The beginning and the end of a stream, of bounded size.
#[derive(Debug, Default)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Bytes that came between the two and are gone.
    lost: u64,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) text: String,
    /// How many bytes are not in it.
    pub(super) left_out: u64,
}

const HALF: usize = STREAM_BYTES / 2;
const SIDE: usize = HALF + CUT_MARGIN;

impl Capture {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(SIDE - self.head.len()));
        self.head.extend_from_slice(first);
        // Of much that comes at once only the end can stay.
        let (gone, rest) = rest.split_at(rest.len().saturating_sub(SIDE));
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(SIDE);
        self.tail.drain(..over);
        self.lost += (gone.len() + over) as u64;
    }

    /// The text, and if it is too long its two ends with a note between them.
    ///
    /// It is cleaned before it is cut, and where bytes are lost already, [`CUT_MARGIN`] of the cleaned text goes with them: there
    /// may be half of something in it that could not be cleaned.
    pub(super) fn finish(self, clean: impl Fn(String) -> String) -> Kept {
        let Self { mut head, tail, mut lost } = self;
        let mut tail = Vec::from(tail);
        let read = |bytes: &[u8]| clean(String::from_utf8_lossy(bytes).into_owned());
        if lost == 0 {
            let mut whole = head;
            whole.append(&mut tail);
            let text = read(&whole);
            if text.len() <= STREAM_BYTES {
                return Kept { text, left_out: 0 };
            }
            let (first, last) = (first(&text, HALF), last(&text, HALF));
            let left_out = (text.len() - first.len() - last.len()) as u64;
            return Kept { text: joined(first, left_out, last), left_out };
        }
        // A character that was cut in two is lost whole.
        let (of_head, of_tail) = (begun(&head), ended(&tail));
        head.truncate(head.len() - of_head);
        tail.drain(..of_tail);
        lost += (of_head + of_tail) as u64;
        let (head, tail) = (read(&head), read(&tail));
        let room = |text: &str| text.len().saturating_sub(CUT_MARGIN).min(HALF);
        let (first, last) = (first(&head, room(&head)), last(&tail, room(&tail)));
        let left_out = lost + (head.len() - first.len() + tail.len() - last.len()) as u64;
        Kept { text: joined(first, left_out, last), left_out }
    }
}

/// How many bytes at the end are the beginning of a character of UTF-8.
fn begun(bytes: &[u8]) -> usize {
    let first = bytes.iter().rev().take(3).position(|byte| *byte >= 0b1100_0000);
    let needed = |at: usize| match bytes[bytes.len() - 1 - at] {
        0b1111_0000.. => 4,
        0b1110_0000.. => 3,
        _ => 2,
    };
    first.filter(|at| needed(*at) > at + 1).map_or(0, |at| at + 1)
}

/// How many bytes at the beginning are the end of a character of UTF-8.
fn ended(bytes: &[u8]) -> usize {
    bytes.iter().take(3).take_while(|byte| (0b1000_0000..0b1100_0000).contains(*byte)).count()
}

fn joined(first: &str, left_out: u64, last: &str) -> String {
    format!("{first}\n… {left_out} bytes left out …\n{last}")
}

/// At most so many bytes from the beginning.
pub(super) fn first(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// At most so many bytes from the end.
pub(super) fn last(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pieces: &[&[u8]]) -> Kept {
        let mut capture = Capture::default();
        pieces.iter().for_each(|piece| capture.push(piece));
        capture.finish(|text| text)
    }

    #[test]
    fn what_fits_is_kept_whole() {
        assert_eq!(kept(&[]), Kept { text: String::new(), left_out: 0 });
        assert_eq!(kept(&[b"a\xffb", b"c\n"]), Kept { text: "a\u{fffd}bc\n".to_owned(), left_out: 0 });
        let full = "x".repeat(STREAM_BYTES);
        assert_eq!(kept(&[full.as_bytes()]), Kept { text: full, left_out: 0 });
    }

    #[test]
    fn of_what_does_not_fit_the_middle_is_left_out_and_counted() {
        for more in [1, CUT_MARGIN, 3 * CUT_MARGIN, 5 * STREAM_BYTES] {
            let text = ["a".repeat(HALF), "b".repeat(more), "c".repeat(HALF)].concat();
            let expected =
                ["a".repeat(HALF), format!("\n… {more} bytes left out …\n"), "c".repeat(HALF)].concat();
            let expected = Kept { text: expected, left_out: more as u64 };
            assert!(kept(&[text.as_bytes()]) == expected, "{more} at once");
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(7_001).collect();
            assert!(kept(&pieces) == expected, "{more} in pieces");
        }
    }

    #[test]
    fn it_is_cut_between_characters() {
        let text = "ä€𝄞".repeat(STREAM_BYTES / 4);
        for shift in ["", "x", "xx", "xxx", "xxxx", "xxxxx", "xxxxxx", "xxxxxxx", "xxxxxxxx"] {
            let Kept { text: kept, left_out } = kept(&[shift.as_bytes(), text.as_bytes()]);
            assert!(!kept.contains('\u{fffd}'));
            let note = format!("\n… {left_out} bytes left out …\n").len();
            assert_eq!(kept.len() - note + left_out as usize, shift.len() + text.len());
        }
    }

    #[test]
    fn what_is_cleaned_away_is_in_no_half_beside_a_cut() {
        let secret = "top-secret-".repeat(100);
        let clean = |text: String| text.replace(&secret, "***");
        // The secret lies over each place where bytes are lost, in every way; many more make the text shorter.
        for end in (0..=secret.len()).step_by(97) {
            for before in [0, 20] {
                let filler = "f".repeat(SIDE - end - before * secret.len());
                let head = [secret.repeat(before), filler.clone(), secret.clone()].concat();
                let tail = [secret.clone(), filler, secret.repeat(before)].concat();
                let mut capture = Capture::default();
                capture.push(head.as_bytes());
                capture.push("m".repeat(2 * SIDE).as_bytes());
                capture.push(tail.as_bytes());
                let kept = capture.finish(clean);
                assert!(!kept.text.contains("secret"), "{end} {before}");
                assert_eq!(kept.text.matches("***").count(), 2 * before);
            }
        }
    }
}
