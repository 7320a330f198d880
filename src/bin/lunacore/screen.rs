//! Where the output goes: whether it is a terminal, how wide that is, and what it can show.

use std::env;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use console::Term;
use lunacore::RunState;
use serde::Serialize;

use crate::exit::Failure;

/// The width of output that goes to no terminal.
const PLAIN_WIDTH: usize = 80;

/// Stdout, and what it can show.
pub(crate) struct Screen {
    out: BufWriter<StdoutLock<'static>>,
    pub(crate) style: Style,
    pub(crate) width: usize,
    pub(crate) is_terminal: bool,
}

impl Screen {
    pub(crate) fn stdout() -> Self {
        let (out, terminal) = (io::stdout(), Term::stdout());
        let is_terminal = out.is_terminal();
        let width = terminal.size_checked().map_or(PLAIN_WIDTH, |(_, columns)| usize::from(columns).max(40));
        let width = if is_terminal { width } else { PLAIN_WIDTH };
        Self { out: BufWriter::new(out.lock()), style: Style::of(is_terminal), width, is_terminal }
    }

    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{line}")?)
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.out.write_all(bytes)?)
    }

    /// One line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }
}

/// What may be used to make output pleasant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) colours: bool,
    pub(crate) unicode: bool,
}

impl Style {
    /// Colours only on a terminal, and not where `NO_COLOR` says otherwise (<https://no-color.org>).
    pub(crate) fn of(is_terminal: bool) -> Self {
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            colours: is_terminal && !set("NO_COLOR") && !dumb,
            unicode: is_utf8(|name| env::var(name).ok()),
        }
    }

    pub(crate) fn paint(self, colour: Colour, text: impl Display) -> String {
        if !self.colours {
            return text.to_string();
        }
        let code = match colour {
            Colour::Bold => 1,
            Colour::Dim => 2,
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Cyan => 36,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A state of a run as all tables show it.
    pub(crate) fn state(self, state: RunState) -> String {
        let colour = match state {
            RunState::Completed => Colour::Green,
            RunState::Failed => Colour::Red,
            RunState::Running => Colour::Cyan,
            RunState::Cancelled => Colour::Dim,
            _ => Colour::Yellow,
        };
        self.paint(colour, state)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

/// The first of the variables that is set decides, as in the C library.
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name| variable(name).filter(|value: &String| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_lowercase();
    locale.ends_with("utf-8") || locale.ends_with("utf8")
}

/// Says on stderr what is wrong. Where that cannot be written either, only the exit code is left to tell.
pub(crate) fn complain(message: &str) {
    let mut stderr = io::stderr().lock();
    let mark = Style::of(stderr.is_terminal()).paint(Colour::Red, "error:");
    let _ = writeln!(stderr, "{mark} {message}");
}

/// Says on stderr what is no data and no error, but should be known.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A text in at most `width` columns, without what would break a line or move the cursor: ids and messages come from
/// elsewhere.
pub(crate) fn fit(text: &str, width: usize, style: Style) -> String {
    let mark = if style.unicode { "…" } else { "." };
    console::truncate_str(&clean(text), width, mark).into_owned()
}

/// A text in which control characters are shown, and not obeyed.
pub(crate) fn clean(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// A text filled up with spaces to `width` columns, however many bytes it has.
pub(crate) fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(console::measure_text_width(text));
    format!("{text}{:missing$}", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_says_whether_the_locale_is_utf8() {
        let locale = |set: &'static [(&str, &str)]| {
            is_utf8(move |name| {
                set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(locale(&[("LANG", "de_DE.UTF-8")]));
        assert!(locale(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(!locale(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(!locale(&[]));
    }

    #[test]
    fn a_text_is_cut_by_columns_and_its_control_characters_are_shown() {
        let style = Style { colours: false, unicode: true };
        assert_eq!(fit("grüße", 9, style), "grüße");
        assert_eq!(fit("一二三四", 5, style), "一二…");
        assert_eq!(fit("\u{1b}[31mred\n", 99, style), "\\u{1b}[31mred\\n");
        assert_eq!(pad("一", 4), "一  ");
    }
}
