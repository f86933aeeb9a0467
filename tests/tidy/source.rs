//! Reads Rust as tokens, without comments and the insides of strings, and knows which of them are tests.

/// A word or a mark of the source, and the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
    /// Whether it stands in an item that is compiled for tests only.
    pub(crate) in_test: bool,
}

/// A path such as `crate::types::Product`. A `use` tree yields one for each of its leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    pub(crate) in_test: bool,
}

impl Path {
    /// Whether these segments stand in it, side by side.
    pub(crate) fn has(&self, wanted: &[&str]) -> bool {
        self.segments.windows(wanted.len()).any(|w| w == wanted)
    }
}

/// The tokens of a file.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0, line: 1, out: Vec::new() };
    while lexer.at < lexer.chars.len() {
        lexer.step();
    }
    mark_tests(&mut lexer.out);
    lexer.out
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    out: Vec<Token>,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0) == '\n' {
                self.line += 1;
            }
            self.at += 1;
        }
    }

    fn push(&mut self, text: impl Into<String>, line: usize) {
        self.out.push(Token { text: text.into(), line, in_test: false });
    }

    fn step(&mut self) {
        let line = self.line;
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => self.skip_until(|l| l.peek(0) == '\n'),
            ('/', '*') => self.block_comment(),
            ('"', _) => self.quoted('"'),
            ('\'', next) => {
                let is_lifetime = is_word(next) && self.peek(2) != '\'';
                if is_lifetime { self.skip(1) } else { self.quoted('\'') }
            }
            (':', ':') => {
                self.skip(2);
                self.push("::", line);
            }
            (c, _) if is_word(c) => self.word(),
            (c, _) => {
                self.skip(1);
                if !c.is_whitespace() {
                    self.push(c, line);
                }
            }
        }
    }

    fn skip_until(&mut self, done: impl Fn(&Self) -> bool) {
        while self.at < self.chars.len() && !done(self) {
            self.skip(1);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    if self.at >= self.chars.len() {
                        return;
                    }
                    self.skip(1);
                    continue;
                }
            }
            self.skip(2);
            if depth == 0 {
                return;
            }
        }
    }

    /// A string or a character, from one mark to the next that no backslash stands before.
    fn quoted(&mut self, mark: char) {
        let line = self.line;
        self.skip(1);
        while self.at < self.chars.len() && self.peek(0) != mark {
            self.skip(if self.peek(0) == '\\' { 2 } else { 1 });
        }
        self.skip(1);
        self.push("\"\"", line);
    }

    /// A name, a number, or the prefix of a string: `b"…"`, `r#"…"#`, `r#name`.
    fn word(&mut self) {
        let (line, start) = (self.line, self.at);
        self.skip_until(|l| !is_word(l.peek(0)));
        let word: String = self.chars[start..self.at].iter().collect();
        if !matches!(word.as_str(), "r" | "br" | "cr") {
            return self.push(word, line);
        }
        let hashes = self.chars[self.at..].iter().take_while(|c| **c == '#').count();
        if self.peek(hashes) == '"' {
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            self.skip(hashes + 1);
            self.skip_until(|l| l.chars[l.at..].starts_with(&end));
            self.skip(end.len());
            self.push("\"\"", line);
        } else if hashes == 1 && is_word(self.peek(1)) {
            self.skip(1);
        } else {
            self.push(word, line);
        }
    }
}

/// Marks what stands under `#[cfg(test)]` or `#[test]`, to the end of the item.
fn mark_tests(tokens: &mut [Token]) {
    let mut at = 0;
    while at < tokens.len() {
        let Some((end, is_test)) = attribute(tokens, at) else {
            at += 1;
            continue;
        };
        let is_inner = tokens[at + 1].text == "!";
        let mut next = end;
        if is_test {
            next = if is_inner { tokens.len() } else { item_end(tokens, end) };
            tokens[at..next].iter_mut().for_each(|t| t.in_test = true);
        }
        at = next;
    }
}

/// The end of the attribute that begins here, and whether it says "for tests only".
fn attribute(tokens: &[Token], at: usize) -> Option<(usize, bool)> {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    let open = match (text(at), text(at + 1), text(at + 2)) {
        ("#", "[", _) => at + 1,
        ("#", "!", "[") => at + 2,
        _ => return None,
    };
    let end = closing(tokens, open);
    let inside: Vec<&str> =
        tokens[open + 1..end.saturating_sub(1).max(open + 1)].iter().map(|t| &*t.text).collect();
    let is_test = match inside.as_slice() {
        ["cfg", rest @ ..] => rest.contains(&"test") && !rest.contains(&"not") && !rest.contains(&"any"),
        [.., "test"] => true,
        ["tokio", "::", "test", ..] => true,
        _ => false,
    };
    Some((end, is_test))
}

/// The index after the mark that closes the one at `open`.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// The index after the item that begins here: after its block, or after its semicolon.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut at = start;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => return closing(tokens, at),
            "(" | "[" => at = closing(tokens, at),
            ";" => return at + 1,
            _ => at += 1,
        }
    }
    tokens.len()
}

/// Every path in the file, `use` trees taken apart, `super` and `self` followed as far as the crate.
pub(crate) fn paths(file: &str, tokens: &[Token]) -> Vec<Path> {
    let mut out = Vec::new();
    let mut blocks: Vec<bool> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let text = tokens[at].text.as_str();
        let before = |n: usize| at.checked_sub(n).map_or("", |i| tokens[i].text.as_str());
        match text {
            "{" => blocks.push(before(2) == "mod"),
            "}" => drop(blocks.pop()),
            _ => {}
        }
        // What follows `::` belongs to a path already read, except in `::std::fs`.
        let goes_on = before(1) == "::" && (before(2).ends_with(is_word) || before(2) == ">");
        if !text.starts_with(is_word) || goes_on {
            at += 1;
            continue;
        }
        let first = out.len();
        at = tree(tokens, at, &[], &mut out).max(at + 1);
        let inline = blocks.iter().filter(|is_module| **is_module).count();
        for path in &mut out[first..] {
            resolve(&mut path.segments, depth(file) + inline);
        }
    }
    out
}

/// Reads one branch of a `use` tree, or a plain path; returns the index after it.
fn tree(tokens: &[Token], mut at: usize, prefix: &[String], out: &mut Vec<Path>) -> usize {
    let mut segments = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        if token.text == "{" && !segments.is_empty() {
            at += 1;
            while tokens.get(at).is_some_and(|t| t.text != "}") {
                at = tree(tokens, at, &segments, out).max(at + 1);
            }
            return at + 1;
        }
        if token.text != "*" && !token.text.starts_with(is_word) {
            return at;
        }
        segments.push(token.text.clone());
        at += 1;
        if tokens.get(at).is_none_or(|t| t.text != "::") {
            out.push(Path { segments, line: token.line, in_test: token.in_test });
            let is_renamed = tokens.get(at).is_some_and(|t| t.text == "as") && !prefix.is_empty();
            return if is_renamed { at + 2 } else { at };
        }
        at += 1;
        // `Vec::<u8>::new`, `a::*` and `a::{…}` end or go on; anything else ends the path here.
        if tokens.get(at).is_some_and(|t| t.text == "<") {
            out.push(Path { segments, line: token.line, in_test: token.in_test });
            return at;
        }
    }
    at
}

/// How many modules deep a file's own module lies: `src/lib.rs` 0, `src/limit/mod.rs` 1.
fn depth(file: &str) -> usize {
    let Some(inside) = file.strip_prefix("src/") else { return usize::MAX / 2 };
    let is_own_directory = ["mod.rs", "lib.rs", "main.rs"].iter().any(|f| inside.ends_with(f));
    inside.split('/').count() - usize::from(is_own_directory)
}

/// `super::super::engine` in a file two modules deep is `crate::engine`.
fn resolve(segments: &mut Vec<String>, depth: usize) {
    if segments[0] == "self" && segments.len() > 1 {
        segments.remove(0);
    }
    let ups = segments.iter().take_while(|s| *s == "super").count();
    if ups > 0 && ups == depth {
        segments.splice(..ups, ["crate".to_owned()]);
    }
}
