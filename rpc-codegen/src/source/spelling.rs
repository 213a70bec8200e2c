//! Spelling: finds the name that a misspelt word was meant to be.

use std::mem;

/// The element of `known` that is closest to `word`, if it is close enough.
pub(crate) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best = known
        .into_iter()
        .map(|other| (distance(word, other), word.len().abs_diff(other.len()), other))
        .min()?;
    (best.0 <= word.chars().count().max(3) / 3).then_some(best.2)
}

/// True if the author of the path `written` surely meant `other`; `separator` stands between the parts of a path.
///
/// The paths end with the same parts: two parts, or all parts of the shorter path. Or one part differs, in few letters. Or the paths
/// differ by case only.
pub(super) fn is_near(written: &str, other: &str, separator: char) -> bool {
    if written.eq_ignore_ascii_case(other) {
        return true;
    }
    let (a, b): (Vec<&str>, Vec<&str>) = (
        written.split(separator).collect(),
        other.split(separator).collect(),
    );
    if shared_tail(written, other, separator) >= a.len().min(b.len()).min(2) {
        return true;
    }
    let mut others = a.iter().zip(&b).filter(|(a, b)| a != b);
    let (Some((a_part, b_part)), None) = (others.next(), others.next()) else {
        return false;
    };
    a.len() == b.len() && distance(a_part, b_part) <= (a_part.chars().count() / 6).max(1)
}

/// The number of parts at the end that two paths have in common.
pub(super) fn shared_tail(a: &str, b: &str, separator: char) -> usize {
    let pairs = a.rsplit(separator).zip(b.rsplit(separator));
    pairs.take_while(|(a, b)| a == b).count()
}

/// The edit distance of `a` and `b`: letters to change, add, remove, or swap with a neighbour.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let changed = row[j] + usize::from(a[i] != b[j]);
            let best = changed.min(row[j + 1] + 1).min(next[j] + 1);
            let is_swapped = i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j];
            next.push(if is_swapped {
                best.min(before[j - 1] + 1)
            } else {
                best
            });
        }
        before = mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_near_one_with_the_same_end_or_one_wrong_part() {
        let near = |written, other| is_near(written, other, '/');
        assert!(near("money.proto", "acme/money.proto"));
        assert!(near("v1/money.proto", "acme/v1/money.proto"));
        assert!(near("old/v1/money.proto", "acme/v1/money.proto"));
        assert!(near("acme/mony.proto", "acme/money.proto"));
        assert!(near("acme/v2/money.proto", "acme/v1/money.proto"));
        assert!(near("Acme/V1/Money.proto", "acme/v1/money.proto"));
        assert!(!near("google/rpc/status.proto", "google/api/http.proto"));
        assert!(!near("google/rpc/status.proto", "envoy/type/status.proto"));
        assert!(is_near(
            "config.core.v3.DataSource",
            "envoy.config.core.v3.DataSource",
            '.'
        ));
        assert!(!is_near(
            "config.core.v3.DataSource",
            "envoy.api.v2.core.DataSource",
            '.'
        ));
    }

    #[test]
    fn a_typo_finds_its_word_and_nonsense_finds_none() {
        assert_eq!(closest("flaten", ["flatten", "blocking"]), Some("flatten"));
        assert_eq!(closest("zzz", ["flatten", "blocking"]), None);
        // A swap of two letters is one mistake. Of two words at the same distance, the one of the same length wins.
        assert_eq!(closest("unit64", ["int64", "uint64"]), Some("uint64"));
        assert_eq!(
            (distance("", "ab"), distance("ab", "ba"), distance("abc", "c")),
            (2, 1, 2)
        );
    }
}
