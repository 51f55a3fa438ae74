//! Rust text with what is not code blanked out, so that a rule can look for words without a parser.
//!
//! Lengths and line breaks stay as they are: a position in the result is a position in the file.

/// The text with comments, strings and character literals turned into spaces.
pub(super) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_block_comment(bytes, at),
            b'"' => end_of_quoted(bytes, at + 1, b'"'),
            b'r' => match raw_string_hashes(bytes, at) {
                Some(hashes) => end_of_raw_string(bytes, at, hashes),
                None => at,
            },
            b'\'' if starts_character(&text[at..]) => end_of_quoted(bytes, at + 1, b'\''),
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("only whole literals and comments were replaced, and by ASCII")
}

/// The code with the items marked `#[cfg(test)]` blanked out too.
pub(super) fn code_outside_tests(text: &str) -> String {
    let mut code = code_only(text).into_bytes();
    let mut from = 0;
    while let Some(start) =
        [b"#[cfg(test)]".as_slice(), b"#[cfg(all(test"].iter().filter_map(|m| find(&code, from, m)).min()
    {
        let end = end_of_item(&code, start);
        for byte in &mut code[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8(code).expect("whole items were replaced, and by ASCII")
}

/// The numbers, from 1, of the lines with this word in them, alone and not as a part of a longer name.
pub(super) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let has = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            !before.is_some_and(is_name) && !after.is_some_and(is_name)
        })
    };
    code.lines().enumerate().filter(|(_, line)| has(line)).map(|(number, _)| number + 1).collect()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `what` starts, at `from` or after it.
fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes.get(from..)?.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

/// Block comments nest.
fn end_of_block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// Just past the closing quote, which a backslash keeps from closing.
fn end_of_quoted(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// How many `#` a raw string that starts here has; `None` if none starts here.
fn raw_string_hashes(bytes: &[u8], at: usize) -> Option<usize> {
    let name = |i: usize| bytes[i].is_ascii_alphanumeric() || bytes[i] == b'_';
    let prefix = at > 0 && matches!(bytes[at - 1], b'b' | b'c') && (at == 1 || !name(at - 2));
    if at > 0 && name(at - 1) && !prefix {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn end_of_raw_string(bytes: &[u8], start: usize, hashes: usize) -> usize {
    let closing = [b"\"".as_slice(), "#".repeat(hashes).as_bytes()].concat();
    let opened = start + 1 + hashes + 1;
    find(bytes, opened, &closing).map_or(bytes.len(), |at| at + closing.len())
}

/// Whether the quote opens a character and not a lifetime.
fn starts_character(text: &str) -> bool {
    let mut after = text.chars().skip(1);
    match after.next() {
        Some('\\') => true,
        Some(_) => after.next() == Some('\''),
        None => false,
    }
}

/// Just past the item that an attribute starts: its closing brace, or the semicolon of one without a body.
fn end_of_item(code: &[u8], start: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth <= 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}
