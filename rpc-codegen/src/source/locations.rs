//! Locations: where each descriptor of a file stands, with its comments.

use prost_types::source_code_info::Location;

/// The locations of one file, found by path.
#[derive(Debug, Default)]
pub(super) struct Locations {
    pub(super) list: Vec<Location>,
    /// The indices into `list`, sorted by path.
    by_path: Vec<usize>,
}

impl Locations {
    pub(super) fn new(list: Vec<Location>) -> Self {
        let mut by_path: Vec<usize> = (0..list.len()).collect();
        // The sort is stable: of two locations with one path, the first stays first.
        by_path.sort_by(|a, b| list[*a].path.cmp(&list[*b].path));
        Self { list, by_path }
    }

    /// The first location of the descriptor at `path`.
    pub(super) fn get(&self, path: &[i32]) -> Option<&Location> {
        let at = self
            .by_path
            .partition_point(|index| *self.list[*index].path < *path);
        let found = &self.list[*self.by_path.get(at)?];
        (found.path == path).then_some(found)
    }

    /// The first line of the descriptor at `path`, or of the closest one that contains it: line, start and end, from zero.
    pub(super) fn span(&self, path: &[i32]) -> Option<(usize, usize, usize)> {
        let location = (1..=path.len()).rev().find_map(|len| self.get(&path[..len]))?;
        let at = |index: usize| location.span.get(index).and_then(|n| usize::try_from(*n).ok());
        // Three numbers end in the line where they begin.
        let end = match location.span.len() {
            3 => at(2)?,
            _ => usize::MAX,
        };
        Some((at(0)?, at(1)?, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_location_of_the_closest_path_counts() {
        let location = |path: &[i32], span: &[i32]| Location {
            path: path.to_vec(),
            span: span.to_vec(),
            ..Location::default()
        };
        let locations = Locations::new(vec![
            location(&[4, 0], &[1, 0, 3, 1]),
            location(&[4, 0, 1], &[1, 8, 9]),
            location(&[], &[0, 0, 9, 9]),
            location(&[4, 0, 1], &[2, 2, 4]),
        ]);
        assert_eq!(locations.span(&[4, 0, 1]), Some((1, 8, 9)));
        assert_eq!(locations.span(&[4, 0, 2, 0]), Some((1, 0, usize::MAX)));
        assert_eq!(locations.span(&[5, 0]), None);
        assert!(locations.get(&[4]).is_none());
    }
}
