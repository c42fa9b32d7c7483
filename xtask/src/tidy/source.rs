//! A Rust file, split into what the compiler reads and what people read, so that a rule about code is not fooled by
//! a comment or a string, and the other way round.

/// One `.rs` file. `code` and `comments` have the file's own lines, in each of which the rest is blank.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the workspace's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Without comments, and without what is inside string and character literals.
    pub(crate) code: String,
    /// Comments alone.
    pub(crate) comments: String,
    /// Every string literal's content, with the line where it starts (from 1).
    pub(crate) strings: Vec<(usize, String)>,
}

impl Source {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let Split { code, comments, strings, .. } = Split::of(&text);
        Self { path, text, code, comments, strings }
    }

    /// Written by a tool; the rules about size and style are not for it.
    pub(crate) fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }

    /// (line from 1, code of that line).
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(at, line)| (at + 1, line))
    }
}

/// Whether `word` stands in `line` as a word of its own, not as part of a longer identifier.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part_of_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        !part_of_name(line[..at].chars().next_back()) && !part_of_name(line[at + word.len()..].chars().next())
    })
}

#[derive(Default)]
struct Split {
    code: String,
    comments: String,
    strings: Vec<(usize, String)>,
    line: usize,
}

impl Split {
    fn of(text: &str) -> Self {
        let mut split = Self { line: 1, ..Self::default() };
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let taken = if rest.starts_with("//") {
                let length = rest.find('\n').unwrap_or(rest.len());
                split.comment(&rest[..length]);
                length
            } else if rest.starts_with("/*") {
                let length = block_comment(rest);
                split.comment(&rest[..length]);
                length
            } else if let Some((prefix, length)) = string_literal(rest, split.code.chars().next_back()) {
                split.string(&rest[..length], prefix);
                length
            } else if let Some(length) = char_literal(rest) {
                split.code("''");
                split.blank_comment(length);
                split.code(&" ".repeat(length.saturating_sub(2)));
                length
            } else {
                let length = first.len_utf8();
                split.code(&rest[..length]);
                split.blank_comment(usize::from(first != '\n'));
                if first == '\n' {
                    split.comments.push('\n');
                    split.line += 1;
                }
                length
            };
            rest = &rest[taken..];
        }
        split
    }

    fn code(&mut self, text: &str) {
        self.code.push_str(text);
    }

    fn blank_comment(&mut self, count: usize) {
        self.comments.extend(std::iter::repeat_n(' ', count));
    }

    fn comment(&mut self, text: &str) {
        self.comments.push_str(text);
        self.blank_code(text);
        self.line += text.matches('\n').count();
    }

    fn string(&mut self, literal: &str, prefix: usize) {
        let content = literal[prefix..].trim_matches('#').trim_matches('"');
        self.strings.push((self.line, content.to_owned()));
        self.code.push('"');
        self.blank_code(literal);
        self.code.push('"');
        for c in literal.chars() {
            self.comments.push(if c == '\n' { '\n' } else { ' ' });
        }
        self.line += literal.matches('\n').count();
    }

    fn blank_code(&mut self, text: &str) {
        self.code.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
    }
}

/// Bytes of the block comment that `text` starts with; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// (bytes before the opening hashes and quote, bytes in all) of the string literal that `text` starts with.
fn string_literal(text: &str, before: Option<char>) -> Option<(usize, usize)> {
    let after_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let prefix = text.len() - text.trim_start_matches(['b', 'c', 'r']).len();
    if prefix > 2 || (prefix > 0 && after_name) {
        return None;
    }
    let raw = text[..prefix].ends_with('r');
    let hashes = text[prefix..].len() - text[prefix..].trim_start_matches('#').len();
    if !text[prefix + hashes..].starts_with('"') || (hashes > 0 && !raw) {
        return None;
    }
    let content = prefix + hashes + 1;
    if raw {
        let closing = format!("\"{}", "#".repeat(hashes));
        let end = text[content..].find(&closing).map_or(text.len(), |at| content + at + closing.len());
        return Some((prefix, end));
    }
    let mut escaped = false;
    for (at, c) in text[content..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((prefix, content + at + 1)),
            _ => {}
        }
    }
    Some((prefix, text.len()))
}

/// Bytes of the character literal that `text` starts with; `None` for a lifetime.
fn char_literal(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        // The escaped character may itself be a quote.
        let skipped = 1 + inside[1..].chars().next()?.len_utf8();
        return inside[skipped..].find('\'').map(|at| 1 + skipped + at + 1);
    }
    inside[first.len_utf8()..].starts_with('\'').then(|| 1 + first.len_utf8() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Source {
        Source::new("crates/x/src/lib.rs", text)
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let source = split("let a = \"unsafe\"; // unsafe too\nunsafe { b() } /* SAFETY: c */");
        let words: Vec<_> =
            source.code_lines().filter(|(_, line)| has_word(line, "unsafe")).map(|(at, _)| at).collect();
        assert_eq!(words, [2]);
        assert_eq!(source.strings, [(1, "unsafe".to_owned())]);
        assert!(source.comments.lines().nth(1).unwrap().contains("SAFETY: c"));
    }

    #[test]
    fn quotes_in_literals_do_not_end_them() {
        let source = split(r##"f('"', '\'', "a\"b", r#"c"d"#, b"e", 'x') // 'g"##);
        let strings: Vec<_> = source.strings.iter().map(|(_, s)| s.as_str()).collect();
        assert_eq!(strings, [r#"a\"b"#, r#"c"d"#, "e"]);
        assert!(source.comments.contains("// 'g"), "{:?}", source.comments);
    }

    #[test]
    fn lifetimes_are_code_and_block_comments_nest() {
        let source = split("fn f<'a>(x: &'a str) {} /* a /* b */ unsafe */ fn g() {}");
        assert!(source.code.contains("<'a>(x: &'a str)"));
        assert!(source.code.contains("fn g()"));
        assert!(!source.code.contains("unsafe"));
    }

    #[test]
    fn every_line_stays_on_its_line() {
        let source = split("//! a\nlet s = \"x\ny\";\n/* p\nq */\ndbg!(s);\n");
        assert_eq!(source.code.lines().count(), source.text.lines().count());
        assert_eq!(source.comments.lines().count(), source.text.lines().count());
        assert_eq!(source.code_lines().find(|(_, l)| has_word(l, "dbg")).unwrap().0, 6);
    }

    #[test]
    fn a_word_is_not_found_inside_a_longer_name() {
        assert!(has_word("use ureq::get;", "ureq"));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(!has_word("my_ureq", "ureq"));
    }
}
