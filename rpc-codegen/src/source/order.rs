//! Order: each file after its imports, which must not lead in a circle.

use std::collections::HashMap;

use super::Sources;
use crate::error::Problem;

/// How far the search has come with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its imports are being visited.
    Open,
    Done,
}

impl Sources {
    /// The names of all files, each after its imports.
    ///
    /// # Errors
    ///
    /// Files that import each other in a circle, and files that import another one twice.
    pub(super) fn order(&self) -> Result<Vec<&str>, Vec<Problem>> {
        let mut states: HashMap<&str, State> = HashMap::new();
        let mut order = Vec::new();
        let mut problems = self.imported_twice();
        for root in &self.roots {
            if states.contains_key(root.as_str()) {
                continue;
            }
            // A list and no recursion: a chain of imports may be longer than a thread's stack.
            let mut stack: Vec<(&str, usize)> = vec![(root, 0)];
            states.insert(root, State::Open);
            while let Some((name, next)) = stack.last_mut() {
                let (name, index) = (*name, *next);
                *next += 1;
                match self.imports(name).get(index) {
                    Some(import) => match states.get(import.as_str()) {
                        None if self.files.contains_key(import) => {
                            states.insert(import, State::Open);
                            stack.push((import, 0));
                        }
                        Some(State::Open) => problems.push(self.import_circle(&stack, import, index)),
                        _ => {}
                    },
                    None => {
                        stack.pop();
                        states.insert(name, State::Done);
                        order.push(name);
                    }
                }
            }
        }
        if problems.is_empty() {
            Ok(order)
        } else {
            Err(problems)
        }
    }

    /// The imports of the file `name`.
    fn imports(&self, name: &str) -> &[String] {
        self.files
            .get(name)
            .map_or(&[], |source| &source.proto.dependency)
    }

    fn import_circle(&self, stack: &[(&str, usize)], import: &str, index: usize) -> Problem {
        let begin = stack.iter().position(|(name, _)| *name == import).unwrap_or(0);
        let names: Vec<&str> = stack[begin..]
            .iter()
            .map(|(name, _)| *name)
            .chain([import])
            .collect();
        let importer = stack.last().map_or(import, |(name, _)| name);
        Problem::new(format!(
            "files import each other in a circle: {}",
            names.join(" -> ")
        ))
        .at(self.import_place(importer, index))
        .with_help("move what both files need into a third file")
    }

    fn imported_twice(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (file, source) in &self.files {
            let mut firsts: HashMap<&str, usize> = HashMap::new();
            for (index, import) in source.proto.dependency.iter().enumerate() {
                let first = *firsts.entry(import).or_insert(index);
                if first != index {
                    let problem = Problem::new(format!("\"{import}\" is imported twice"))
                        .at(self.import_place(file, index))
                        .with_other("the other import is here", self.import_place(file, first))
                        .with_help("remove one of the two lines");
                    problems.push(problem);
                }
            }
        }
        problems
    }
}
