//! The command `lunacore`: runs plan files, and shows what a store holds.

#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "the commands that run plans use them"))]
mod callables;

fn main() {}
