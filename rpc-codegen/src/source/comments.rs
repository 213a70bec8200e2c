//! Comments of .proto files as Rust documentation, without doctests.

use prost_types::source_code_info::Location;

/// The lines of documentation from the comments at `location`; empty without comments.
pub(crate) fn docs(location: &Location) -> Vec<String> {
    let leading = location.leading_comments.as_deref().unwrap_or_default();
    let trailing = location.trailing_comments.as_deref().unwrap_or_default();
    let mut lines: Vec<&str> = lines(leading).collect();
    if !lines.is_empty() && !trailing.trim().is_empty() {
        lines.push("");
    }
    lines.extend(self::lines(trailing));
    markdown(lines.into_iter())
}

/// The lines of a comment, without the marks around its text.
fn lines(comment: &str) -> impl Iterator<Item = &str> {
    // `/** text`, as in Java, is the same as `/* text`.
    let comment = comment.strip_prefix('*').unwrap_or(comment).trim_end();
    // One space or tab after `//` is not indentation. A carriage return alone ends a line, too: Rust has none in documentation.
    let lines = comment
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line));
    lines
        .flat_map(|line| line.split('\r'))
        .map(|line| line.strip_prefix([' ', '\t']).unwrap_or(line))
}

/// Turns all code in Markdown into text, because rustdoc would compile and run it.
fn markdown<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut writer = Writer::default();
    for line in lines {
        writer.line(&plain(line));
    }
    writer.finish()
}

/// The state of the Markdown text before the next line.
#[derive(Default)]
struct Writer {
    out: Vec<String>,
    /// The indentation of the text of each open list item, the innermost last.
    items: Vec<usize>,
    code: Code,
    /// True if the line before is text that an indented line continues.
    in_paragraph: bool,
}

/// The open code block, if any.
#[derive(Default)]
enum Code {
    #[default]
    None,
    /// Opened by a fence of `len` times `mark`, in a list item whose text begins at `indent`.
    Fenced {
        mark: char,
        len: usize,
        quoted: bool,
        indent: usize,
    },
    /// Indented code, inside a fence that we wrote at `indent`; `blank` lines wait for more code.
    Indented { indent: usize, blank: usize },
}

impl Writer {
    fn line(&mut self, line: &str) {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        match self.code {
            // The end of a quotation or of a list item ends the code in it.
            Code::Fenced { quoted: true, .. } if !text.starts_with('>') => self.code = Code::None,
            Code::Fenced { indent: at, .. } if indent < at && !text.is_empty() => self.close_code(),
            Code::Fenced {
                mark, len, quoted, ..
            } => return self.fenced(line, mark, len, quoted),
            Code::Indented { indent: at, .. } if text.is_empty() || indent >= at + 4 => {
                return self.indented(line, at);
            }
            Code::Indented { .. } => self.close_code(),
            Code::None => {}
        }
        if text.is_empty() {
            self.in_paragraph = false;
            self.out.push(String::new());
            return;
        }
        let marker = list_marker(text);
        if !self.in_paragraph || marker.is_some() {
            while self.items.last().is_some_and(|item| indent < *item) {
                self.items.pop();
            }
        }
        let base = self.base();
        if self.in_paragraph && marker.is_none() {
            // The rest of a sentence, at any indentation: written at `base`, it can mean nothing else.
            self.text(&" ".repeat(base), text);
        } else if indent >= base + 4 {
            self.out.push(format!("{}```text", " ".repeat(base)));
            self.code = Code::Indented {
                indent: base,
                blank: 0,
            };
            self.indented(line, base);
        } else {
            self.text(&line[..indent], text);
        }
    }

    /// A line outside of code, which may open code; `before` is the part of the line before `text`.
    fn text(&mut self, before: &str, text: &str) {
        if let Some((mark, len)) = fence(text) {
            self.out
                .push(format!("{before}{}text", mark.to_string().repeat(len)));
            let quoted = before.trim_start().starts_with('>');
            self.code = Code::Fenced {
                mark,
                len,
                quoted,
                indent: self.base(),
            };
            self.in_paragraph = false;
        } else if let Some(width) = list_marker(text) {
            let (marker, rest) = text.split_at(width);
            // One space, because more than four would turn the rest into code.
            let before = format!("{before}{marker} ");
            self.items.push(before.chars().count());
            self.text(&before, rest.trim_start());
        } else if let Some(rest) = text.strip_prefix('>') {
            self.text(&format!("{before}> "), rest.trim_start());
        } else {
            self.in_paragraph = !text.is_empty() && !text.starts_with('#');
            self.out
                .push(format!("{before}{}", escaped(text)).trim_end().to_owned());
        }
    }

    fn fenced(&mut self, line: &str, mark: char, len: usize, quoted: bool) {
        let inner = if quoted {
            line.trim_start().trim_start_matches('>')
        } else {
            line
        }
        .trim();
        let marks = inner.chars().take_while(|c| *c == mark).count();
        if marks >= len && marks == inner.chars().count() {
            self.code = Code::None;
        }
        self.out.push(line.trim_end().to_owned());
    }

    /// The indentation of the innermost list item's text.
    fn base(&self) -> usize {
        self.items.last().copied().unwrap_or(0)
    }

    fn indented(&mut self, line: &str, indent: usize) {
        let Code::Indented { blank, .. } = &mut self.code else {
            return;
        };
        if line.trim().is_empty() {
            *blank += 1;
            return;
        }
        let blank = std::mem::take(blank);
        self.out.extend(std::iter::repeat_n(String::new(), blank));
        self.out
            .push(format!("{}{}", " ".repeat(indent), line[indent + 4..].trim_end()));
    }

    fn close_code(&mut self) {
        match std::mem::take(&mut self.code) {
            Code::None => {}
            Code::Fenced { quoted: true, .. } => {}
            Code::Fenced {
                mark, len, indent, ..
            } => {
                self.out
                    .push(format!("{}{}", " ".repeat(indent), mark.to_string().repeat(len)));
            }
            Code::Indented { indent, blank } => {
                self.out.push(format!("{}```", " ".repeat(indent)));
                self.out.extend(std::iter::repeat_n(String::new(), blank));
            }
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.close_code();
        while self.out.last().is_some_and(|line| line.is_empty()) {
            self.out.pop();
        }
        let first = self.out.iter().position(|line| !line.is_empty()).unwrap_or(0);
        self.out.split_off(first)
    }
}

/// The mark and how often it is repeated, if `text` opens a fence.
fn fence(text: &str) -> Option<(char, usize)> {
    let mark = text.chars().next().filter(|c| ['`', '~'].contains(c))?;
    let len = text.chars().take_while(|c| *c == mark).count();
    // "```a```" on one line is a code span.
    (len >= 3 && (mark == '~' || !text[len..].contains('`'))).then_some((mark, len))
}

/// The length of the marker, if `text` is a list item.
fn list_marker(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let marker = match text.as_bytes().get(digits)? {
        b'-' | b'*' | b'+' if digits == 0 => 1,
        b'.' | b')' if (1..=9).contains(&digits) => digits + 1,
        _ => return None,
    };
    text[marker..].starts_with(' ').then_some(marker)
}

/// Escapes `<`, because rustdoc takes `map<K, V>` for HTML and hides its end.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_code = false;
    for (at, c) in text.char_indices() {
        in_code ^= c == '`';
        let is_link = ["http://", "https://", "mailto:"]
            .iter()
            .any(|s| text[at + c.len_utf8()..].starts_with(s));
        if c == '<' && !in_code && !is_link && !out.ends_with('\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Replaces tabs with spaces, and leaves out the characters that turn the direction of text, which Rust refuses.
fn plain(line: &str) -> String {
    let text = line.trim_start();
    let mut out = String::new();
    for c in line[..line.len() - text.len()].chars() {
        out.push_str(if c == '\t' { "    " } else { " " });
    }
    let mut column = 0;
    for c in text.trim_end().chars() {
        match c {
            '\t' => {
                let width = 4 - column % 4;
                out.push_str(&"    "[..width]);
                column += width;
            }
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            _ => {
                out.push(c);
                column += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(comment: &str, docs: &str) {
        assert_eq!(markdown(comment.lines()).join("\n"), docs);
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        check(
            "Looks a user up.\n\nBy *name*, see [RFC 1](https://a.b).",
            "Looks a user up.\n\nBy *name*, see [RFC 1](https://a.b).",
        );
    }

    #[test]
    fn a_fence_of_any_language_becomes_text() {
        check("a\n```\nx\n```\nb", "a\n```text\nx\n```\nb");
        check("```rust,ignore\nx\n```", "```text\nx\n```");
        check("~~~~go\n~~~\n~~~~\nb", "~~~~text\n~~~\n~~~~\nb");
    }

    #[test]
    fn an_indented_block_becomes_a_text_fence() {
        check("a\n\n    x\n\n      y\n\nb", "a\n\n```text\nx\n\n  y\n```\n\nb");
        check("a\n\n\tx", "a\n\n```text\nx\n```");
        check("# A\n    x", "# A\n```text\nx\n```");
    }

    #[test]
    fn an_indented_line_of_a_sentence_is_no_code() {
        check("a\n        b", "a\nb");
        check("- a\nb\n      c", "- a\n  b\n  c");
    }

    #[test]
    fn code_in_a_list_becomes_text_there() {
        check("- a\n\n      x\n\n  b", "- a\n\n  ```text\n  x\n  ```\n\n  b");
        check("1. ```\n   x\n   ```\n2. b", "1. ```text\n   x\n   ```\n2. b");
        check("-      x", "- x");
        check(
            "- a\n  - b\n\n        x",
            "- a\n  - b\n\n    ```text\n    x\n    ```",
        );
        check("- a\n\n  ```go\n  x\n  ```", "- a\n\n  ```text\n  x\n  ```");
    }

    #[test]
    fn code_in_a_quotation_becomes_text_there() {
        check("> ```\n> x\n> ```", "> ```text\n> x\n> ```");
        check(">     x", "> x");
        check("> ```\n> x\n\nb", "> ```text\n> x\n\nb");
    }

    #[test]
    fn a_fence_that_is_never_closed_is_closed_at_the_end() {
        check("```\nx", "```text\nx\n```");
        check("- ```\n  x\ny", "- ```text\n  x\n  ```\ny");
    }

    #[test]
    fn a_carriage_return_ends_a_line() {
        assert_eq!(
            lines(" a\r b\r\n c\r\r\n d\r").collect::<Vec<_>>(),
            ["a", "b", "c", "", "d"]
        );
    }

    #[test]
    fn no_tab_is_left() {
        check("a\tb\tc", "a   b   c");
        check("```\n\tx\ty\n```", "```text\n    x   y\n```");
    }

    #[test]
    fn nothing_turns_the_direction_of_text() {
        check("a \u{202e}b\u{2069}", "a b");
    }

    #[test]
    fn brackets_of_types_stay_visible() {
        check("é <ü>", "é \\<ü>");
        check(
            "a map<K, V>, `Vec<T>`, <https://a.b>",
            "a map\\<K, V>, `Vec<T>`, <https://a.b>",
        );
    }
}
