//! Paths of .proto items, and the rule by which they match.

/// What a build script chose for paths, in the order of its calls.
#[derive(Clone, Debug)]
pub(crate) struct ByPath<T>(Vec<(String, T)>);

impl<T> Default for ByPath<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByPath<T> {
    pub(crate) fn push(&mut self, path: impl Into<String>, value: T) {
        self.0.push((path.into(), value));
    }

    /// The last value chosen for the item `full_name`: a later call overrides an earlier one.
    pub(crate) fn last(&self, full_name: &str) -> Option<&T> {
        self.0
            .iter()
            .rev()
            .find(|(path, _)| matches(path, full_name))
            .map(|(_, value)| value)
    }

    /// All values chosen for the item `full_name`, in the order of the calls.
    pub(crate) fn all(&self, full_name: &str) -> impl Iterator<Item = &T> {
        self.0
            .iter()
            .filter(move |(path, _)| matches(path, full_name))
            .map(|(_, value)| value)
    }

    /// True if the build script chose nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if a path matches the item `full_name`.
    pub(crate) fn contains(&self, full_name: &str) -> bool {
        self.last(full_name).is_some()
    }

    /// The paths and their values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(path, value)| (path.as_str(), value))
    }
}

/// True if `path` matches the item `full_name`, which has no dot at its start.
///
/// `.` matches every item. `.a.b` matches the item `a.b` and all items inside of it. `b.c` matches every item whose full name
/// ends in these parts, and no item inside of it. prost-build matches by the same rule.
pub(crate) fn matches(path: &str, full_name: &str) -> bool {
    let rest = |shorter: &str| full_name.len() - shorter.len();
    match path.strip_prefix('.') {
        Some("") => true,
        Some(outer) => full_name
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
        None => {
            !path.is_empty()
                && full_name.ends_with(path)
                && (rest(path) == 0 || full_name[..rest(path)].ends_with('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_dot_at_its_start_matches_an_item_and_all_inside() {
        for (path, is_match) in [
            (".", true),
            (".shop", true),
            (".shop.v1", true),
            (".shop.v1.Money", true),
            (".shop.v1.Money.units", true),
            (".shop.v1.Mon", false),
            (".v1.Money.units", false),
            (".shop.v1.Money.units.more", false),
        ] {
            assert_eq!(matches(path, "shop.v1.Money.units"), is_match, "{path}");
        }
    }

    #[test]
    fn a_path_without_one_matches_the_end_of_a_name() {
        for (path, is_match) in [
            ("units", true),
            ("Money.units", true),
            ("shop.v1.Money.units", true),
            ("nits", false),
            ("Money", false),
            ("", false),
        ] {
            assert_eq!(matches(path, "shop.v1.Money.units"), is_match, "{path}");
        }
    }

    #[test]
    fn the_last_call_wins() {
        let mut choice = ByPath::default();
        choice.push(".shop.v1.Money", 1);
        choice.push(".shop", 2);
        assert_eq!(choice.last("shop.v1.Money"), Some(&2));
        choice.push("Money", 3);
        assert_eq!(choice.last("shop.v1.Money"), Some(&3));
        assert_eq!(choice.last("shop.v1.Order"), Some(&2));
        assert_eq!(choice.last("bank.Order"), None);
        assert_eq!(choice.all("shop.v1.Money").collect::<Vec<_>>(), [&1, &2, &3]);
    }
}
