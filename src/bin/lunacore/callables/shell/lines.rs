//! What is told of a stream while it comes: its lines, and not too many. Pure.

use std::time::{Duration, Instant};

use super::capture::first;
use crate::callables::limits::{CUT_MARGIN, LINE_BUFFER, LINE_BYTES, LINES_PER_SECOND};

/// Cuts a stream into lines. A carriage return ends one too, for that is how programs rewrite a line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// The rest of the line is not collected.
    over: bool,
}

impl Lines {
    /// Hands on each line that is whole, but for empty ones.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        clean: impl Fn(String) -> String,
        mut tell: impl FnMut(String),
    ) {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, ends) = match piece {
                [line @ .., b'\n' | b'\r'] => (line, true),
                line => (line, false),
            };
            let room = LINE_BUFFER - self.buffer.len();
            self.over |= line.len() > room;
            self.buffer.extend_from_slice(&line[..line.len().min(room)]);
            if ends {
                self.end(&clean, &mut tell);
            }
        }
    }

    /// Hands on what has come of a line, if any has.
    pub(super) fn end(&mut self, clean: impl Fn(String) -> String, mut tell: impl FnMut(String)) {
        let over = std::mem::take(&mut self.over);
        if !self.buffer.is_empty() {
            let line = clean(String::from_utf8_lossy(&self.buffer).into_owned());
            self.buffer.clear();
            tell(cut(&line, over));
        }
    }
}

/// The line, with a mark where it is cut. `over`: it was longer still, and what stands at its end may be half of something that
/// could not be cleaned.
fn cut(line: &str, over: bool) -> String {
    let most = if over { line.len().saturating_sub(CUT_MARGIN) } else { line.len() };
    if !over && line.len() <= LINE_BYTES {
        return line.to_owned();
    }
    format!("{}…", first(line, most.min(LINE_BYTES - '…'.len_utf8())))
}

/// Lets so many lines pass in a second, and of the others the last, with the number of those before it that nobody saw.
#[derive(Debug)]
pub(super) struct Pace<T> {
    second: Instant,
    passed: u32,
    held: Option<T>,
    skipped: u64,
}

impl<T> Pace<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self { second: now, passed: 0, held: None, skipped: 0 }
    }

    /// The line, if it may pass now, and how many were skipped before it.
    pub(super) fn pass(&mut self, line: T, now: Instant) -> Option<(T, u64)> {
        self.skipped += u64::from(self.held.replace(line).is_some());
        self.due(now)
    }

    /// The line that was held back, if its time has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<(T, u64)> {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.passed) = (now, 0);
        }
        if self.passed >= LINES_PER_SECOND {
            return None;
        }
        let line = self.rest()?;
        self.passed += 1;
        Some(line)
    }

    /// The line that was held back. The last one is always told of.
    pub(super) fn rest(&mut self) -> Option<(T, u64)> {
        self.held.take().map(|line| (line, std::mem::take(&mut self.skipped)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut told) = (Lines::default(), Vec::new());
        pieces.iter().for_each(|piece| lines.push(piece, |text| text, |line| told.push(line)));
        lines.end(|text| text, |line| told.push(line));
        told
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        assert_eq!(lines(&[b"on", b"e\ntwo\n", b"\n\nthr", b"ee"]), ["one", "two", "three"]);
        assert_eq!(lines(&[b"10 %\r20 %\r\n", b"\r\ndone\xff\r", b"\n"]), ["10 %", "20 %", "done\u{fffd}"]);
        assert_eq!(lines(&[b"", b"\n"]), [""; 0]);
    }

    #[test]
    fn long_lines_are_cut() {
        let exact = "x".repeat(LINE_BYTES);
        assert_eq!(lines(&[exact.as_bytes(), b"\n"]), std::slice::from_ref(&exact));
        for more in [1, 3 * CUT_MARGIN, 100 * CUT_MARGIN] {
            let line = "x".repeat(LINE_BYTES + more);
            let told = lines(&[line.as_bytes(), b"\nnext"]);
            assert_eq!(told, [format!("{}…", "x".repeat(LINE_BYTES - 3)), "next".to_owned()], "{more}");
        }
    }

    #[test]
    fn what_is_cleaned_away_is_in_no_half_at_a_cut() {
        let secret = "top-secret-".repeat(100);
        for fill in (LINE_BUFFER - 20 * secret.len()..LINE_BUFFER).step_by(577) {
            let line = ["f".repeat(fill % 10), secret.repeat((fill - fill % 10) / secret.len() + 2)].concat();
            let (mut lines, mut told) = (Lines::default(), Vec::new());
            lines.push(line.as_bytes(), |text| text.replace(&secret, "*"), |line| told.push(line));
            lines.end(|text| text.replace(&secret, "*"), |line| told.push(line));
            assert!(told.len() == 1 && !told[0].contains("secret"), "{told:?}");
        }
    }

    #[test]
    fn so_many_pass_in_a_second_and_then_the_last() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for n in 0..LINES_PER_SECOND {
            assert_eq!(pace.pass(n, start), Some((n, 0)));
        }
        let late = start + Duration::from_millis(999);
        for n in 1_000..1_010 {
            assert_eq!((pace.pass(n, late), pace.due(late)), (None, None));
        }
        let next = start + Duration::from_secs(1);
        assert_eq!((pace.due(next), pace.due(next)), (Some((1_009, 9)), None));
        assert_eq!((pace.pass(7, next), pace.rest()), (Some((7, 0)), None));
        for n in 0..LINES_PER_SECOND {
            pace.pass(n, next);
        }
        assert_eq!(pace.rest(), Some((LINES_PER_SECOND - 1, 1)));
    }
}
