//! A view of Rust source that is good enough for checks: code without comments and literals, functions marked
//! as tests, and the part of a file before its tests.
//!
//! Deliberately not a parser: a check that needs types belongs in clippy or in the type system.

use std::ops::Range;

/// `text` with comments and the contents of string and character literals blanked out, byte for byte, so that
/// offsets and lines stay the same.
pub fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut offset = 0;
    while let Some(rest) = text.get(offset..).filter(|rest| !rest.is_empty()) {
        let (length, keep) = match token(rest, text.get(..offset).unwrap_or_default()) {
            Token::Blank(length) => (length, false),
            Token::Code(length) => (length, true),
        };
        let piece = rest.get(..length).unwrap_or(rest);
        if keep {
            out.push_str(piece);
        } else {
            out.extend(piece.chars().flat_map(|c| {
                let fill = if c == '\n' { '\n' } else { ' ' };
                std::iter::repeat_n(fill, c.len_utf8())
            }));
        }
        offset += piece.len();
    }
    out
}

enum Token {
    /// A comment or a literal.
    Blank(usize),
    Code(usize),
}

/// The next token's kind and length in bytes; `before` decides whether a letter begins a word.
fn token(rest: &str, before: &str) -> Token {
    let first = rest.chars().next().map_or(1, char::len_utf8);
    if rest.starts_with("//") {
        return Token::Blank(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Token::Blank(block_comment(rest));
    }
    let in_word = before
        .chars()
        .next_back()
        .is_some_and(|c| c.is_alphanumeric() || c == '_');
    let prefix = if in_word { "" } else { literal_prefix(rest) };
    let body = rest.get(prefix.len()..).unwrap_or_default();
    if prefix.ends_with('r') && (body.starts_with('"') || body.starts_with('#')) {
        let hashes = body.bytes().take_while(|byte| *byte == b'#').count();
        if body.as_bytes().get(hashes) == Some(&b'"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let content = hashes + 1;
            let end = body.get(content..).and_then(|inside| inside.find(&close));
            return Token::Blank(
                prefix.len() + end.map_or(body.len(), |end| content + end + close.len()),
            );
        }
    }
    if body.starts_with('"') && !prefix.ends_with('r') {
        return Token::Blank(prefix.len() + quoted(body, '"').unwrap_or(body.len()));
    }
    if body.starts_with('\'') && (prefix.is_empty() || prefix == "b") {
        return character(body).map_or(Token::Code(first), |length| {
            Token::Blank(prefix.len() + length)
        });
    }
    Token::Code(first)
}

fn literal_prefix(rest: &str) -> &str {
    ["br", "cr", "b", "c", "r"]
        .into_iter()
        .find(|prefix| {
            rest.strip_prefix(prefix).is_some_and(|body| {
                body.starts_with(['"', '#']) || (*prefix == "b" && body.starts_with('\''))
            })
        })
        .unwrap_or_default()
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut offset = 0;
    while let Some(inside) = rest.get(offset..).filter(|inside| !inside.is_empty()) {
        let step = if inside.starts_with("/*") {
            depth += 1;
            2
        } else if inside.starts_with("*/") {
            depth -= 1;
            2
        } else {
            inside.chars().next().map_or(1, char::len_utf8)
        };
        offset += step;
        if depth == 0 {
            return offset;
        }
    }
    rest.len()
}

/// The length of a literal that begins and ends with `quote`.
fn quoted(body: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (offset, c) in body.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return Some(offset + c.len_utf8());
        }
    }
    None
}

/// The length of a character literal; none for a lifetime.
fn character(body: &str) -> Option<usize> {
    let mut chars = body.chars().skip(1);
    match chars.next()? {
        '\\' => quoted(body, '\''),
        c => (chars.next() == Some('\'')).then(|| c.len_utf8() + 2),
    }
}

/// The end of the item that begins at `start`: behind its closing brace, or its semicolon.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return offset + 1;
                }
            }
            b';' if depth == 0 => return offset + 1,
            _ => {}
        }
    }
    code.len()
}

/// Where the file's test module begins (`#[cfg(test)]` before a `mod … {`), or the end of the file.
pub fn tests_start(text: &str) -> usize {
    let code = code_only(text);
    code.match_indices("#[cfg(test)]")
        .map(|(start, _)| start)
        .find(|start| {
            let item = code
                .get(*start..item_end(&code, *start))
                .unwrap_or_default();
            item.contains("mod ") && item.contains('{')
        })
        .unwrap_or(text.len())
}

/// A function with a `#[test]` attribute.
pub struct TestFunction<'a> {
    pub name: &'a str,
    /// Its doc comment and body: from its first doc line or attribute to its closing brace.
    pub range: Range<usize>,
}

/// The test functions of a file, in order.
pub fn test_functions(text: &str) -> Vec<TestFunction<'_>> {
    let code = code_only(text);
    let mut found = Vec::new();
    for (attribute, _) in code
        .match_indices("#[test]")
        .chain(code.match_indices("#[tokio::test"))
    {
        let Some(function) = code
            .get(attribute..)
            .and_then(|rest| rest.find("fn "))
            .map(|at| attribute + at)
        else {
            continue;
        };
        let name = text.get(function + 3..).unwrap_or_default();
        let name = name
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap_or_default();
        let start = doc_start(text, attribute);
        found.push(TestFunction {
            name,
            range: start..item_end(&code, function),
        });
    }
    found.sort_by_key(|function| function.range.start);
    found
}

/// The first of the doc comment and attribute lines directly above `attribute`.
fn doc_start(text: &str, attribute: usize) -> usize {
    let mut start = text
        .get(..attribute)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |end| end + 1);
    while start > 0 {
        let before = text.get(..start - 1).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = before.get(line_start..).unwrap_or_default().trim_start();
        if !line.starts_with("///") && !line.starts_with("#[") {
            break;
        }
        start = line_start;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_comments_and_literals_and_keeps_offsets() {
        for (source, expect) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x\"y", 'z', '\'')"#, "f(      ,    ,     )"),
            (r##"f(r#"a"b"#, br"c")"##, "f(        ,      )"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("let ü = \"ü\";", "let ü =     ;"),
        ] {
            assert_eq!(code_only(source), expect, "{source}");
            assert_eq!(code_only(source).len(), source.len());
        }
    }

    #[test]
    fn the_tests_begin_at_the_test_module_and_not_at_a_test_only_item() {
        let source = "#[cfg(test)]\nmod harness;\nfn f() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(tests_start(source), source.rfind("#[cfg(test)]").unwrap());
        assert_eq!(tests_start("fn f() {}"), 9);
    }

    #[test]
    fn finds_test_functions_with_their_docs() {
        let source = "/// Says 5 [X].\n/// More.\n#[test]\n#[should_panic]\nfn one() { let x = \"}\"; }\n\nfn other() {}\n\n#[test]\nfn two() {}\n";
        let found = test_functions(source);
        let names: Vec<_> = found.iter().map(|function| function.name).collect();
        assert_eq!(names, ["one", "two"]);
        assert!(
            source[found[0].range.clone()].starts_with("/// Says")
                && source[found[0].range.clone()].ends_with('}')
        );
        assert_eq!(&source[found[1].range.clone()], "#[test]\nfn two() {}");
    }
}
