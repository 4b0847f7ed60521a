//! From serde_json's line and column to the JSON path of the value at fault. Pure; runs only after a parse failed.
//! Called by `spec`. The text was already found to be valid JSON, so the scan need not judge it.

/// serde's sentence without its position.
pub(super) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The path (`linux.namespaces[0].type`) of the innermost value that ends at or behind the position, which is
/// where serde_json stands when a value was read and found wrong. Empty for the document itself.
pub(super) fn path_of(text: &[u8], line: usize, column: usize) -> String {
    let Some(target) = offset_of(text, line, column) else {
        return String::new();
    };
    let mut scan = Scan::new(text, target);
    scan.value();
    render(&scan.found.unwrap_or_default())
}

/// The paths of all lists of a document.
pub(super) fn lists(text: &[u8]) -> impl Iterator<Item = String> {
    let mut scan = Scan::new(text, usize::MAX);
    scan.value();
    scan.lists.into_iter().map(|path| render(&path))
}

/// serde_json counts lines from 1 and, in a line, the bytes consumed.
fn offset_of(text: &[u8], line: usize, column: usize) -> Option<usize> {
    let mut start = 0;
    for _ in 1..line {
        start += text[start..].iter().position(|byte| *byte == b'\n')? + 1;
    }
    Some((start + column).min(text.len()))
}

/// serde_json parses no deeper; what nobody asks for it passes over however deep it is.
const DEEPEST: usize = 128;

#[derive(Clone)]
enum Part {
    Key(String),
    Index(usize),
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    target: usize,
    path: Vec<Part>,
    found: Option<Vec<Part>>,
    lists: Vec<Vec<Part>>,
}

impl<'a> Scan<'a> {
    fn new(text: &'a [u8], target: usize) -> Self {
        Scan {
            text,
            at: 0,
            target,
            path: Vec::new(),
            found: None,
            lists: Vec::new(),
        }
    }

    /// Walks one value; children first, so the innermost one that reaches the target wins.
    fn value(&mut self) {
        self.blanks();
        let start = self.at;
        match self.peek() {
            Some(b'{' | b'[') if self.path.len() >= DEEPEST => self.skip(),
            Some(b'{') => self.members(b'}'),
            Some(b'[') => {
                self.lists.push(self.path.clone());
                self.members(b']');
            }
            Some(b'"') => drop(self.string()),
            _ => {
                while self
                    .peek()
                    .is_some_and(|byte| !b",]} \t\r\n".contains(&byte))
                {
                    self.at += 1;
                }
            }
        }
        // A value of the wrong kind is refused where it begins, any other fault is found at its end.
        if self.found.is_none() && start <= self.target && self.target <= self.at {
            self.found = Some(self.path.clone());
        }
    }

    fn members(&mut self, close: u8) {
        self.at += 1;
        let mut index = 0;
        loop {
            self.blanks();
            match self.peek() {
                None => return,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return;
                }
                Some(b',') => self.at += 1,
                Some(_) => {
                    if close == b'}' {
                        let start = self.at;
                        let key = self.string();
                        self.path.push(Part::Key(key));
                        // A fault found in the key itself (a duplicate) belongs to this member.
                        if start < self.target && self.target <= self.at && self.found.is_none() {
                            self.found = Some(self.path.clone());
                        }
                        self.blanks();
                        self.at += 1;
                    } else {
                        self.path.push(Part::Index(index));
                        index += 1;
                    }
                    self.value();
                    self.path.pop();
                }
            }
            if self.found.is_some() {
                return;
            }
        }
    }

    /// Passes over a value with all that is in it.
    fn skip(&mut self) {
        let mut open = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.string();
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open = open.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return;
            }
        }
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += match byte {
                b'\\' => 2,
                _ => 1,
            };
            if byte == b'"' {
                break;
            }
        }
        let end = self.at.min(self.text.len());
        serde_json::from_slice(&self.text[start..end]).unwrap_or_default()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| b" \t\r\n".contains(&byte)) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

fn render(path: &[Part]) -> String {
    let mut out = String::new();
    for part in path {
        match part {
            Part::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
            Part::Index(index) => out.extend([format!("[{index}]")]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_that_ends_at_the_position_is_named() {
        let text = br#"{"a":{"b":[1,{"c":"x"}],"d":2}}"#;
        let end_of = |needle: &str| {
            let text = std::str::from_utf8(text).unwrap();
            text.find(needle).unwrap() + needle.len()
        };
        assert_eq!(path_of(text, 1, end_of("\"x\"")), "a.b[1].c");
        assert_eq!(path_of(text, 1, end_of("[1")), "a.b[0]");
        assert_eq!(path_of(text, 1, end_of("\"x\"}")), "a.b[1]");
        assert_eq!(path_of(text, 1, end_of("\"d\":2}")), "a");
        assert_eq!(path_of(text, 1, text.len()), "");
    }

    #[test]
    fn lines_and_escaped_quotes_are_counted() {
        let text = b"{\n  \"a\\\"b\": [\n    \"\\\\\",\n    true\n  ]\n}";
        assert_eq!(path_of(text, 4, 8), "a\"b[1]");
        assert_eq!(path_of(text, 3, 8), "a\"b[0]");
    }

    #[test]
    fn no_position_and_cut_text_do_not_panic() {
        let text = br#"{"a":["b","#;
        for column in 0..20 {
            let _ = path_of(text, 1, column);
        }
        assert_eq!(path_of(text, 9, 1), "");
    }
}
