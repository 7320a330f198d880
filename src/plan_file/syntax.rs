//! A text that is not of its format, and the limits that hold for all formats.

use crate::limits::{MAX_PLAN_FILE_DEPTH, MAX_PLAN_FILE_VALUES};

/// Why a text cannot be read, and at which byte of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) at: u32,
    pub(super) message: String,
}

pub(super) fn too_deep(at: u32) -> Syntax {
    let message = format!("lists and mappings nest deeper than {MAX_PLAN_FILE_DEPTH} levels here");
    Syntax { at, message }
}

pub(super) fn too_many(at: u32) -> Syntax {
    let message = format!("the file has more than {MAX_PLAN_FILE_VALUES} values; split the plan");
    Syntax { at, message }
}

/// Counts values while they are read.
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Self {
        Self(MAX_PLAN_FILE_VALUES)
    }

    /// A value of any kind.
    pub(super) fn value(&mut self, at: u32) -> Result<(), Syntax> {
        self.0 = self.0.checked_sub(1).ok_or_else(|| too_many(at))?;
        Ok(())
    }

    /// A list or a mapping inside of `depth` others.
    pub(super) fn level(&self, at: u32, depth: usize) -> Result<(), Syntax> {
        if depth >= MAX_PLAN_FILE_DEPTH { Err(too_deep(at)) } else { Ok(()) }
    }
}
