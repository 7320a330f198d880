//! The text of a plan file, and how a place in it is shown.

use std::fmt::Write as _;

/// Finds lines and columns.
pub(super) struct Source<'a> {
    text: &'a str,
    /// Where each line begins.
    lines: Vec<u32>,
}

/// A place as a person looks for it, with the line that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    /// The line, or the part of it around the place.
    pub(super) excerpt: String,
    /// Where the caret stands below the excerpt, in characters, from 0.
    pub(super) caret: usize,
}

/// Characters of a line that are shown before and after a place: a terminal's width together.
const BEFORE: usize = 40;
const AFTER: usize = 60;

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = ends.filter_map(|(at, _)| u32::try_from(at + 1).ok());
        Self { text, lines: std::iter::once(0).chain(starts).collect() }
    }

    pub(super) fn line_of(&self, at: u32) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    pub(super) fn place(&self, at: u32) -> Place {
        let line = self.line_of(at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default() as usize;
        let rest = self.text.get(start..).unwrap_or_default();
        let whole = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let mut within = (at as usize).saturating_sub(start).min(whole.len());
        while !whole.is_char_boundary(within) {
            within -= 1;
        }
        let (before, after) = whole.split_at(within);
        // Only what is near is counted and shown: a line may be as long as the file.
        let shown: Vec<char> = before.chars().rev().take(BEFORE).collect();
        let cut_before = shown.len() == BEFORE && before.chars().rev().nth(BEFORE).is_some();
        let mut excerpt = String::new();
        if cut_before {
            excerpt.push('…');
        }
        excerpt.extend(shown.iter().rev().map(|c| visible(*c)));
        let caret = shown.len() + usize::from(cut_before);
        let mut rest = after.chars();
        excerpt.extend(rest.by_ref().take(AFTER).map(visible));
        if rest.next().is_some() {
            excerpt.push('…');
        }
        Place { line, column: before.chars().count() + 1, excerpt, caret }
    }
}

/// A character that takes one place and does nothing to those beside it.
fn visible(c: char) -> char {
    if c == '\t' {
        ' '
    } else if c.is_control() || is_invisible(c) {
        '\u{fffd}'
    } else {
        c
    }
}

/// Whether a character shows nothing, or changes the order in which others are shown. Names that look alike but are not, and
/// lines that read otherwise than they are, are made of these.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

impl Place {
    /// The line, with a caret below the place.
    pub(super) fn show(&self) -> String {
        let number = self.line.to_string();
        let mut shown = String::new();
        // Writing to a text does not fail.
        let _ = write!(shown, "  {number} | {}\n  {:2$} | ", self.excerpt, "", number.len());
        shown.extend(std::iter::repeat_n(' ', self.caret));
        shown.push('^');
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_lines_and_characters() {
        let source = Source::new("a: 1\r\n\tä: 2\n");
        for (at, line, column) in
            [(0, 1, 1), (3, 1, 4), (6, 2, 1), (7, 2, 2), (9, 2, 3), (13, 3, 1), (999, 3, 1)]
        {
            let place = source.place(at);
            assert_eq!((place.line, place.column), (line, column), "at {at}");
        }
        assert_eq!(source.place(9).show(), "  2 |  ä: 2\n    |   ^");
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("{}X{}", "a".repeat(1_000), "b".repeat(1_000));
        let place = Source::new(&text).place(1_000);
        assert_eq!(place.column, 1_001);
        assert_eq!(place.excerpt, format!("…{}X{}…", "a".repeat(BEFORE), "b".repeat(AFTER - 1)));
        assert_eq!(place.excerpt.chars().nth(place.caret), Some('X'));
    }

    #[test]
    fn what_is_shown_changes_nothing_around_it() {
        let place = Source::new("a\u{202e}b\u{200b}c\u{1b}d").place(0);
        assert_eq!(place.excerpt, "a\u{fffd}b\u{fffd}c\u{fffd}d");
    }
}
