//! Visibility: the names that a file may use, and what a name means in it, as protoc decides it.

use std::collections::{HashMap, HashSet};

use super::{
    definitions::Kind,
    names::{Names, Symbol},
    references::Wanted,
};

/// What a name leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The item with this full name.
    Item(String),
    /// Nothing: its first part leads to a scope that has no such item, so that this full name does not exist.
    NotInScope(String),
    Nothing,
}

/// The names that one file may use: those of itself, of its imports, and of what these import publicly.
pub(super) struct Visible<'a> {
    names: &'a Names,
    files: HashSet<usize>,
    /// The packages of these files, and the packages around them.
    packages: HashSet<&'a str>,
}

/// The names of all files, whether imported or not.
pub(super) struct Everything<'a>(pub(super) &'a Names);

/// A set of names in which other names are looked up.
pub(super) trait Scope {
    /// The symbol with the name `full_name`.
    fn symbol(&self, full_name: &str) -> Option<Symbol>;

    /// What `name`, written in the scope `scope`, leads to.
    ///
    /// The innermost scope that has the first part of the name decides.
    fn meaning(&self, scope: &str, name: &str, wanted: Wanted) -> Meaning {
        if let Some(full) = name.strip_prefix('.') {
            return match self.symbol(full) {
                Some(_) => Meaning::Item(full.to_owned()),
                None => Meaning::Nothing,
            };
        }
        let (first, rest) = name.split_at(name.find('.').unwrap_or(name.len()));
        let mut found = Meaning::Nothing;
        let mut candidate = String::with_capacity(scope.len() + name.len() + 1);
        let mut around = Some(scope);
        while let Some(scope) = around {
            candidate.clear();
            candidate.push_str(scope);
            if !scope.is_empty() {
                candidate.push('.');
            }
            candidate.push_str(first);
            match self.symbol(&candidate) {
                Some(symbol) if rest.is_empty() && wanted.is_met_by(symbol.kind) => {
                    return Meaning::Item(candidate);
                }
                // Of another kind: the compiler says so, unless a scope around this one has a better one.
                Some(_) if rest.is_empty() && found == Meaning::Nothing => {
                    found = Meaning::Item(candidate.clone());
                }
                Some(symbol) if !rest.is_empty() && symbol.kind.is_scope() => {
                    candidate.push_str(rest);
                    return match self.symbol(&candidate) {
                        Some(_) => Meaning::Item(candidate),
                        None => Meaning::NotInScope(candidate),
                    };
                }
                _ => {}
            }
            around = match scope.rfind('.') {
                Some(dot) => Some(&scope[..dot]),
                None => (!scope.is_empty()).then_some(""),
            };
        }
        found
    }
}

impl<'a> Visible<'a> {
    /// The names of `files`; `packages` are their packages.
    pub(super) fn new(
        names: &'a Names,
        files: HashSet<usize>,
        packages: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut all = HashSet::new();
        for package in packages {
            all.insert(package);
            all.extend(package.match_indices('.').map(|(dot, _)| &package[..dot]));
        }
        Self {
            names,
            files,
            packages: all,
        }
    }
}

impl Scope for Visible<'_> {
    fn symbol(&self, full_name: &str) -> Option<Symbol> {
        let symbol = self.names.get(full_name)?;
        let is_visible = match symbol.kind {
            // Several files have the same package.
            Kind::Package => self.packages.contains(full_name),
            _ => self.files.contains(&symbol.file),
        };
        is_visible.then_some(symbol)
    }
}

impl Scope for Everything<'_> {
    fn symbol(&self, full_name: &str) -> Option<Symbol> {
        self.0.get(full_name)
    }
}

impl Wanted {
    fn is_met_by(self, kind: Kind) -> bool {
        match self {
            Self::Type => matches!(kind, Kind::Message | Kind::Enum),
            Self::Message => kind == Kind::Message,
            Self::Extension => kind == Kind::Extension,
        }
    }
}

/// The imports of all files; a file is the number of its place in a list.
pub(super) struct Imports {
    /// The imports of each file, and whether an import is public.
    of: Vec<Vec<(usize, bool)>>,
}

impl Imports {
    /// The imports of `files`, each by name with its imports and the indices of those that are public.
    pub(super) fn new<'a>(files: impl Iterator<Item = (&'a str, &'a [String], &'a [i32])> + Clone) -> Self {
        let numbers = files
            .clone()
            .enumerate()
            .map(|(number, (name, ..))| (name, number));
        let numbers: HashMap<&str, usize> = numbers.collect();
        let of = files.map(|(_, imports, public)| {
            let imports = (0..).zip(imports);
            let known = imports
                .filter_map(|(index, name)| Some((*numbers.get(name.as_str())?, public.contains(&index))));
            known.collect()
        });
        Self { of: of.collect() }
    }

    /// The files that `file` imports.
    pub(super) fn of(&self, file: usize) -> impl Iterator<Item = usize> {
        self.of[file].iter().map(|(import, _)| *import)
    }

    /// The file itself, its imports, and what these import publicly.
    pub(super) fn visible(&self, file: usize) -> HashSet<usize> {
        let mut visible = HashSet::from([file]);
        let mut open: Vec<usize> = self.of(file).collect();
        while let Some(import) = open.pop() {
            if visible.insert(import) {
                let imports = self.of[import].iter();
                open.extend(
                    imports
                        .filter(|(_, is_public)| *is_public)
                        .map(|(import, _)| *import),
                );
            }
        }
        visible
    }

    /// The files that `file` sees only because an import publicly imports a file that publicly imports them.
    pub(super) fn visible_by_two_steps(&self, file: usize) -> Vec<usize> {
        let mut near = HashSet::from([file]);
        for import in self.of(file) {
            near.insert(import);
            let imports = self.of[import].iter();
            near.extend(
                imports
                    .filter(|(_, is_public)| *is_public)
                    .map(|(import, _)| *import),
            );
        }
        let mut far: Vec<usize> = self.visible(file).difference(&near).copied().collect();
        far.sort_unstable();
        far
    }
}
