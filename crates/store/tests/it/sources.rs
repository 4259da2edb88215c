//! The statements in this crate's own sources: what is explained is what runs, and no file can be forgotten.

use std::path::Path;

/// The whole statements in a folder of this crate and in those below it.
pub(crate) fn statements(folder: &str) -> Vec<String> {
    let mut sources = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut sources);
    let found = sources.iter().flat_map(|source| statements_in(source));
    found.map(str::to_owned).collect()
}

/// Those in one source.
pub(crate) fn statements_in(source: &str) -> impl Iterator<Item = &str> {
    let verbs = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "];
    let literals = source.split('"').skip(1).step_by(2);
    literals.filter(move |text| verbs.iter().any(|verb| text.starts_with(verb)))
}

fn read(folder: &Path, sources: &mut Vec<String>) {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read(&path, sources);
        } else if path.file_name().is_some_and(|name| name != "tests.rs") {
            sources.push(std::fs::read_to_string(&path).unwrap());
        }
    }
}
