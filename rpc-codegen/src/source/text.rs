//! The text of a file, and the places in it.

use crate::error::Place;

/// The text of a .proto file.
#[derive(Debug)]
pub(super) struct Text {
    /// The file's name in messages.
    pub(super) shown: String,
    pub(super) text: String,
    /// The offset at which each line begins.
    lines: Vec<usize>,
}

impl Text {
    pub(super) fn new(shown: String, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = [0]
            .into_iter()
            .chain(breaks.map(|(offset, _)| offset + 1))
            .collect();
        Self { shown, text, lines }
    }

    /// The place of the `len` bytes at `offset`.
    pub(super) fn place(&self, offset: usize, len: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|begin| *begin <= offset) - 1;
        let start = offset - self.lines[line];
        let place = self.line(line, start, start + len);
        Place {
            start: start.min(place.end),
            ..place
        }
    }

    /// The place of the bytes from `start` to `end` in line number `line`, from zero.
    pub(super) fn line(&self, line: usize, start: usize, end: usize) -> Place {
        let begin = self.lines.get(line).copied().unwrap_or(self.text.len());
        let next = self.lines.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let text = self.text[begin..next].trim_end_matches('\r').to_owned();
        Place {
            file: self.shown.clone(),
            line,
            start,
            end: end.min(text.len()),
            text: Some(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_part_of_one_line() {
        let text = Text::new("a.proto".to_owned(), "one\r\ntwo three\n".to_owned());
        let at = |offset, len| {
            let place = text.place(offset, len);
            (place.line, place.start, place.end, place.text)
        };
        assert_eq!(at(0, 3), (0, 0, 3, Some("one".to_owned())));
        assert_eq!(at(9, 5), (1, 4, 9, Some("two three".to_owned())));
        assert_eq!(at(9, 50), (1, 4, 9, Some("two three".to_owned())));
        assert_eq!(at(14, 1), (1, 9, 9, Some("two three".to_owned())));
        assert_eq!(at(99, 1), (2, 0, 0, Some(String::new())));
    }
}
