//! The command `lunacore`: runs plan files, and shows what a store holds.

fn main() {}
