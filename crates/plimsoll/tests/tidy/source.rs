//! A Rust file as the rules see it: its code without comments and literals, and without tests.
//!
//! Not a parser: it knows how comments, literals, attributes, braces and `use` trees look, which is enough for rules about
//! paths, sizes and words. Everything blanked is replaced by spaces, so places and line numbers stay what they were.

/// One file.
pub(crate) struct Source {
    /// From the workspace's root, with `/` between.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// Without comments and literals.
    pub(crate) code: String,
    /// Without items under `#[cfg(test)]` as well.
    pub(crate) production: String,
}

/// A path that the code names, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) path: String,
    pub(crate) line: usize,
    /// It stands in a `use`, so that a module named here can be used by its last segment.
    pub(crate) imported: bool,
}

/// A function with its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// From `fn` to the closing brace, both included.
    pub(crate) lines: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let code = blank_literals(text);
        let production = blank_tests(&code);
        Source { path: path.to_owned(), text: text.to_owned(), code, production }
    }

    /// The file holds nothing but tests, or what tests share.
    pub(crate) fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.contains("/benches/")
    }

    /// The crate's folder name, for a file under `crates/`.
    pub(crate) fn krate(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    /// Lines that are not tests: without the blanked ones at a file's end or in its middle.
    pub(crate) fn production_lines(&self) -> usize {
        let tests = self.code.lines().zip(self.production.lines()).filter(|(all, kept)| all != kept).count();
        self.text.lines().count() - tests
    }
}

/// Where `at` is, counted from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count()
}

/// Every place of `word` in `code` that is not part of a longer identifier.
pub(crate) fn words<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = usize> + 'c {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !(before.is_some_and(is_word) || word.ends_with(is_word) && after.is_some_and(is_word))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every path of two segments or more, `use` trees written out.
pub(crate) fn paths(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut rest = code.to_owned();
    for at in words(code, "use") {
        let Some(end) = code[at..].find(';').map(|n| at + n) else {
            continue;
        };
        let before = code[..at].trim_end();
        let before = before.strip_suffix("pub").map_or(before, str::trim_end);
        let is_import = before.is_empty() || before.ends_with([';', '{', '}', ')', ']']);
        if !is_import {
            continue; // `impl Trait + use<'a>`
        }
        let mut all = Vec::new();
        expand("", &code[at + 3..end], &mut all);
        found.extend(all.into_iter().map(|path| Named { path, line: line_of(code, at), imported: true }));
        rest.replace_range(at..end, &" ".repeat(end - at));
    }
    let mut from = 0;
    while let Some(start) = rest[from..].find(|c: char| c.is_alphabetic() || c == '_').map(|n| from + n) {
        let end = rest[start..].find(|c: char| !is_word(c) && c != ':').map_or(rest.len(), |n| start + n);
        let path = rest[start..end].trim_end_matches(':');
        if path.contains("::") {
            found.push(Named { path: path.to_owned(), line: line_of(&rest, start), imported: false });
        }
        from = end;
    }
    found
}

/// Writes a `use` tree out: `a::{b, c::{self, d as e}}` is `a::b`, `a::c` and `a::c::d`.
fn expand(prefix: &str, tree: &str, all: &mut Vec<String>) {
    let tree = tree.trim().trim_start_matches("::");
    let join = |a: &str, b: &str| {
        if a.is_empty() { b.to_owned() } else { format!("{a}::{b}") }
    };
    let Some(open) = tree.find('{') else {
        let name = tree.split_whitespace().next().unwrap_or_default().trim_end_matches("::*");
        match name {
            "" => {}
            "self" | "*" => all.push(prefix.to_owned()),
            name => all.push(join(prefix, name)),
        }
        return;
    };
    let head = join(prefix, tree[..open].trim().trim_end_matches("::"));
    let head = head.trim_end_matches("::");
    let inside = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(head, &inside[start..at], all);
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Every function that has a body.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let name: String = code[at + 2..].trim_start().chars().take_while(|&c| is_word(c)).collect();
        if name.is_empty() {
            continue; // a function pointer's type
        }
        let Some(end) = item_end(code, at) else { continue };
        if code[..=end].ends_with('}') {
            let line = line_of(code, at);
            found.push(Function { name, line, lines: line_of(code, end) - line + 1 });
        }
    }
    found
}

/// The last byte of the item that begins at `at`: its `;`, or the brace that closes its body.
fn item_end(code: &str, at: usize) -> Option<usize> {
    let (mut braces, mut others) = (0usize, 0usize);
    for (offset, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 && others == 0 {
                    return Some(at + offset);
                }
            }
            ';' if braces == 0 && others == 0 => return Some(at + offset),
            _ => {}
        }
    }
    None
}

/// Blanks every item under `#[cfg(test)]`, its attribute included.
fn blank_tests(code: &str) -> String {
    let mut kept = code.to_owned();
    for (at, mark) in code.match_indices("#[cfg(test)]") {
        let mut item = at + mark.len();
        while let Some(attribute) = code[item..].trim_start().strip_prefix("#[") {
            let open = code.len() - attribute.len();
            item = open + attribute.find(']').map_or(attribute.len(), |n| n + 1);
        }
        let end = item_end(code, item).unwrap_or(code.len() - 1);
        blank(&mut kept, at, end + 1);
    }
    kept
}

/// Blanks comments and what stands in string and character literals.
fn blank_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = text.to_owned();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => at + text[at..].find('\n').unwrap_or(text.len() - at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !follows_word(text, at) && raw_hashes(&bytes[at..]).is_some() => raw_end(text, at),
            b'b' | b'c' if !follows_word(text, at) && raw_hashes(&bytes[at + 1..]).is_some() => {
                raw_end(text, at + 1)
            }
            b'\'' => character_end(text, at),
            _ => {
                at += 1;
                continue;
            }
        };
        blank(&mut code, at, end);
        at = end.max(at + 1);
    }
    code
}

fn follows_word(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(is_word)
}

/// The number of `#` if these bytes begin a raw string.
fn raw_hashes(bytes: &[u8]) -> Option<usize> {
    let hashes = bytes.strip_prefix(b"r")?.iter().take_while(|&&b| b == b'#').count();
    (bytes.get(1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn raw_end(text: &str, at: usize) -> usize {
    let hashes = raw_hashes(&text.as_bytes()[at..]).unwrap_or_default();
    let (begin, close) = (at + hashes + 2, format!("\"{}", "#".repeat(hashes)));
    text[begin..].find(&close).map_or(text.len(), |n| begin + n + close.len())
}

fn string_end(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The end of a character literal; the place behind the `'` of a lifetime.
fn character_end(text: &str, open: usize) -> usize {
    let inside = &text[open + 1..];
    if inside.starts_with('\\') {
        return inside[2..].find('\'').map_or(text.len(), |n| open + 1 + 2 + n + 1);
    }
    let mut chars = inside.char_indices().skip(1);
    match chars.next() {
        Some((n, '\'')) => open + 1 + n + 1,
        _ => open + 1,
    }
}

fn block_comment_end(bytes: &[u8], open: usize) -> usize {
    let (mut depth, mut at) = (0, open);
    while at < bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Replaces everything but line ends by spaces, byte for byte.
fn blank(code: &mut String, from: usize, to: usize) {
    let to = to.min(code.len());
    let blanks: String = code[from..to].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
    code.replace_range(from..to, &blanks);
}
