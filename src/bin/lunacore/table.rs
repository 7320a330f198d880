//! Tables without lines: columns are told apart by two spaces, so that people and `awk` can read them.

use console::measure_text_width;

use crate::exit::Failure;
use crate::screen::{Colour, Screen, pad};

/// A table that is written a page at a time: a column never gets narrower than on the pages before, so that they look like
/// one table where their content allows.
pub(crate) struct Table {
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str], screen: &Screen) -> Self {
        let painted = header.iter().map(|name| screen.style.paint(Colour::Bold, name)).collect();
        Self { widths: vec![0; header.len()], rows: vec![painted] }
    }

    pub(crate) fn add(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Writes what there is, and forgets it. A header alone says nothing.
    pub(crate) fn write(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        for row in &self.rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(measure_text_width(cell));
            }
        }
        for row in self.rows.drain(..) {
            let cells = row.iter().zip(&self.widths).map(|(cell, width)| pad(cell, *width));
            screen.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        screen.flush()
    }
}
