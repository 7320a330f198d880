//! The seeds of the fuzz targets, and what fuzzers have found, through the functions that are fuzzed.

use std::path::Path;

use super::fuzzed;

fn each(target: &str, run: impl Fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| run(&std::fs::read(file.unwrap().path()).unwrap())).count()
}

#[test]
fn the_corpus_of_plan_files_breaks_nothing() {
    assert!(each("plan_file", fuzzed::plan_file) >= 12);
}

#[test]
fn the_corpus_of_expressions_breaks_nothing() {
    assert!(each("expression", fuzzed::expression) >= 8);
}
