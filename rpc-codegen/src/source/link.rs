//! Linking: resolves all names and options, and checks protobuf's rules.

use std::collections::{HashMap, HashSet};

use prost_reflect::{DescriptorError, DescriptorPool};
use prost_types::{DescriptorProto, FileDescriptorProto, SourceCodeInfo};

use super::{
    Sources,
    diagnose::{self, is_about_a_name},
    file::SourceFile,
    names::Names,
    references,
    unresolved::{Advisor, Unresolved},
    visible::{Imports, Meaning, Scope, Visible},
};
use crate::error::{Error, Problem};

/// Whether the linked descriptors have the comments and places of the .proto files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comments {
    Kept,
    /// Linking is faster: with each option, the places of all descriptors of the file are visited.
    LeftOut,
}

impl Sources {
    /// Resolves all names and options.
    ///
    /// # Errors
    ///
    /// Names that are defined twice. If there are none, all violations of protobuf's rules, in all files.
    pub(crate) fn link(&self, comments: Comments) -> Result<DescriptorPool, Error> {
        let mut names = Names::default();
        for (number, source) in self.files.values().enumerate() {
            names.add(number, &source.proto);
        }
        let mut problems = self.duplicates(&names);
        let order = self.order().unwrap_or_else(|found| {
            problems.extend(found);
            Vec::new()
        });
        if !problems.is_empty() {
            return Err(Error::new(problems));
        }
        let mut linker = Linker::new(self, &names);
        for name in order {
            linker.add(name, comments);
        }
        linker.finish()
    }
}

/// Links file by file, each after its imports.
struct Linker<'a> {
    names: &'a Names,
    list: Vec<&'a SourceFile>,
    numbers: HashMap<&'a str, usize>,
    imports: Imports,
    pool: DescriptorPool,
    /// The files with an error, and the files that import one.
    broken: HashSet<usize>,
    unresolved: Vec<Unresolved<'a>>,
    problems: Vec<Problem>,
    /// The number of files that were linked and had an error.
    failures: usize,
}

/// A pool that refuses a file visits all names it has, so after this many such files no more are linked.
const MOST_FAILURES: usize = 20;

impl<'a> Linker<'a> {
    fn new(sources: &'a Sources, names: &'a Names) -> Self {
        let files = sources.files.iter();
        let imports = files.clone().map(|(name, source)| {
            let proto = &source.proto;
            (name.as_str(), &proto.dependency[..], &proto.public_dependency[..])
        });
        Self {
            names,
            list: sources.files.values().collect(),
            numbers: files
                .enumerate()
                .map(|(number, (name, _))| (name.as_str(), number))
                .collect(),
            imports: Imports::new(imports),
            pool: DescriptorPool::new(),
            broken: HashSet::new(),
            unresolved: Vec::new(),
            problems: Vec::new(),
            failures: 0,
        }
    }

    /// Resolves the names of a file, and links it if its imports are linked.
    fn add(&mut self, name: &str, comments: Comments) {
        let Some(&file) = self.numbers.get(name) else {
            return;
        };
        let source = self.list[file];
        let visible = self.imports.visible(file);
        let packages = visible.iter().map(|file| self.list[*file].proto.package());
        let visible = Visible::new(self.names, visible.clone(), packages);
        let (proto, unresolved) = self.resolved(file, &visible);
        let has_unresolved = !unresolved.is_empty();
        // More mistakes of this file would not be shown.
        let has_enough = unresolved.len() >= Error::MOST;
        self.unresolved.extend(unresolved);
        let import_is_broken = self.imports.of(file).any(|import| self.broken.contains(&import));
        if import_is_broken || has_enough || self.failures == MOST_FAILURES {
            self.broken.insert(file);
            return;
        }
        let with_comments = |mut proto: FileDescriptorProto| {
            let location = source.locations.list.clone();
            proto.source_code_info = Some(SourceCodeInfo { location });
            proto
        };
        let proto = match comments {
            Comments::Kept => with_comments(proto),
            Comments::LeftOut => proto,
        };
        let Err(error) = self.try_add(proto) else {
            return;
        };
        self.broken.insert(file);
        self.failures += 1;
        if diagnose::is_long(&error) {
            let place = error.path().and_then(|path| source.place(path));
            self.problems
                .extend(diagnose::first_of_many(&source.text, place, &error));
            return;
        }
        // Once more: only with its places does the pool say where the mistakes are.
        let (proto, _) = self.resolved(file, &visible);
        if let Err(error) = self.try_add(with_comments(proto)) {
            let problems = diagnose::linker_problems(&source.text, error);
            // What names mean is decided here, and explained better.
            let problems = problems
                .into_iter()
                .filter(|problem| !has_unresolved || !is_about_a_name(problem));
            self.problems.extend(problems);
        }
    }

    /// Adds a file to the pool, or leaves the pool as it was.
    ///
    /// prost-reflect 0.16 forgets extensions when it refuses a file, and later panics when one is used: it compares their
    /// numbers with that of the messages. So the pool is built again where that matters.
    fn try_add(&mut self, proto: FileDescriptorProto) -> Result<(), DescriptorError> {
        let brings_extensions = has_extensions(&proto);
        let result = self.pool.add_file_descriptor_proto(proto);
        let forgets = self.pool.all_extensions().len() > self.pool.all_messages().len();
        if result.is_err() && (brings_extensions || forgets) {
            let mut pool = DescriptorPool::new();
            for file in self.pool.files() {
                // The bytes and not the descriptor, because it does not hold the values of options.
                pool.decode_file_descriptor_proto(&file.encode_to_vec()[..])?;
            }
            self.pool = pool;
        }
        result
    }

    /// The descriptor of a file with full names, and the names that lead nowhere.
    fn resolved(&self, file: usize, visible: &Visible<'_>) -> (FileDescriptorProto, Vec<Unresolved<'a>>) {
        let source = self.list[file];
        let mut proto = source.proto.clone();
        let mut unresolved = Vec::new();
        references::visit(
            &mut proto,
            &mut |one| match visible.meaning(one.scope, one.name, one.wanted) {
                Meaning::Item(full) => *one.name = format!(".{full}"),
                meaning => unresolved.push(Unresolved {
                    source,
                    file,
                    name: one.name.clone(),
                    scope: one.scope.to_owned(),
                    wanted: one.wanted,
                    path: one.path.to_vec(),
                    meaning,
                }),
            },
        );
        // The pool follows `import public` one step only.
        let far = self.imports.visible_by_two_steps(file);
        proto
            .dependency
            .extend(far.iter().map(|file| self.list[*file].proto.name().to_owned()));
        (proto, unresolved)
    }

    fn finish(mut self) -> Result<DescriptorPool, Error> {
        let mut unresolved: Vec<_> = self
            .unresolved
            .drain(..)
            .map(|one| (one.problem(), one))
            .collect();
        unresolved.sort_by(|(a, _), (b, _)| a.order().cmp(&b.order()));
        let advisor = Advisor::new(self.names, &self.list, &self.imports);
        for (number, (problem, one)) in unresolved.into_iter().enumerate() {
            // Advice takes time, and the problems after these are not shown.
            let help = if number < Error::MOST {
                advisor.help(&one)
            } else {
                None
            };
            self.problems.push(match help {
                Some(help) => problem.with_help(help),
                None => problem,
            });
        }
        if self.problems.is_empty() {
            return Ok(self.pool);
        }
        let error = Error::new(self.problems);
        if self.failures < MOST_FAILURES {
            return Err(error);
        }
        let linked = self.pool.files().len() + self.failures;
        Err(error.with_unchecked(self.list.len() - linked))
    }
}

fn has_extensions(file: &FileDescriptorProto) -> bool {
    fn within(message: &DescriptorProto) -> bool {
        !message.extension.is_empty() || message.nested_type.iter().any(within)
    }
    !file.extension.is_empty() || file.message_type.iter().any(within)
}
