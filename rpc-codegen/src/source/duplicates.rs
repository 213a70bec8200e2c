//! Duplicates: names that are defined twice, one problem for each pair of files.

use std::collections::HashMap;

use super::{
    Sources,
    file::SourceFile,
    lookup,
    names::{Names, Shared, Twice, first_places},
};
use crate::error::Problem;

impl Sources {
    /// The problems of all names that are defined twice.
    pub(super) fn duplicates(&self, names: &Names) -> Vec<Problem> {
        let files: Vec<(&String, &SourceFile)> = self.files.iter().collect();
        let mut places = FirstPlaces(HashMap::new());
        let shared = names.shared.iter().map(|((first, second), shared)| {
            between(
                files[*first],
                files[*second],
                shared,
                places.of(*first, files[*first].1),
            )
        });
        let mut problems: Vec<Problem> = shared.collect();
        for twice in &names.twice {
            let source = files[twice.file].1;
            problems.push(within(source, twice, places.of(twice.file, source)));
        }
        problems
    }
}

/// The places of the first definitions in files that have duplicates.
struct FirstPlaces(HashMap<usize, HashMap<String, Vec<i32>>>);

impl FirstPlaces {
    fn of(&mut self, number: usize, source: &SourceFile) -> &HashMap<String, Vec<i32>> {
        self.0
            .entry(number)
            .or_insert_with(|| first_places(&source.proto))
    }
}

/// The problem of two files that define the same names.
fn between(
    first: (&String, &SourceFile),
    second: (&String, &SourceFile),
    shared: &Shared,
    places: &HashMap<String, Vec<i32>>,
) -> Problem {
    let ((first_name, first), (second_name, second)) = (first, second);
    if is_one_file(first, second) {
        return Problem::new(format!(
            "`{first_name}` and `{second_name}` are one file under two names"
        ))
        .at(second.place(&shared.path))
        .with_help("import it by one name everywhere: check imports, include paths and symbolic links");
    }
    let others = match shared.others {
        0 => String::new(),
        1 => " and 1 other name".to_owned(),
        n => format!(" and {n} other names"),
    };
    let help = if first.text.text == second.text.text {
        "the files have the same text: keep one of them"
    } else {
        "rename one of the two, or give one file another package"
    };
    Problem::new(format!(
        "{} and {} both define `{}`{others}",
        first.text.shown, second.text.shown, shared.name
    ))
    .at(second.place(&shared.path))
    .with_other(
        "the other one is here",
        places.get(&shared.name).and_then(|path| first.place(path)),
    )
    .with_help(help)
}

/// The problem of a name that one file defines twice.
fn within(source: &SourceFile, twice: &Twice, places: &HashMap<String, Vec<i32>>) -> Problem {
    let help = if twice.is_value {
        "rename one of them: the values of all enums in one scope need different names"
    } else {
        "rename one of them"
    };
    Problem::new(format!("`{}` is defined twice", twice.name))
        .at(source.place(&twice.path))
        .with_other(
            "the other one is here",
            places.get(&twice.name).and_then(|path| source.place(path)),
        )
        .with_help(help)
}

fn is_one_file(a: &SourceFile, b: &SourceFile) -> bool {
    let real = |source: &SourceFile| lookup::real(source.path.as_ref()?).ok();
    real(a).is_some_and(|path| real(b) == Some(path))
}
