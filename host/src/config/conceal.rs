//! pipeline.toml as errors may quote it: with literal secrets blanked, byte for byte, so that spans stay right.
//!
//! A scan of the text and not of the parsed file: the line that isn't TOML may be the one with the password, and
//! a comment can hold an old one. It would rather hide too much.

use std::ops::Range;

/// The value of a key that has one of these in it is a secret.
const SECRET_KEYS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "api_key",
    "apikey",
    "ssl.key.pem",
    "private_key",
];

/// The text with `*` for every byte of a secret. Placeholders stay: what they stand for isn't in the text.
pub(super) fn conceal(text: &str) -> String {
    let mut secrets = Vec::new();
    find(text, 0..text.len(), &mut secrets);
    let mut concealed = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        // Spans of secrets begin and end at characters.
        if c != '\n' && c != '\r' && secrets.iter().any(|secret| secret.contains(&at)) {
            concealed.extend(std::iter::repeat_n('*', c.len_utf8()));
        } else {
            concealed.push(c);
        }
    }
    concealed
}

fn find(text: &str, within: Range<usize>, secrets: &mut Vec<Range<usize>>) {
    let (mut at, mut key_from) = (within.start, within.start);
    while at < within.end {
        match text.as_bytes()[at] {
            b'#' => {
                let end = line_end(text, at).min(within.end);
                find(text, at + 1..end, secrets);
                at = end;
            }
            b'"' | b'\'' => {
                let end = string_end(text, at).min(within.end);
                user_info(text, at..end, secrets);
                parameters(text, at..end, secrets);
                at = end;
            }
            b'=' => {
                let is_secret = names_a_secret(&text[key_from..at]);
                at += 1;
                at += text[at..within.end].len() - text[at..within.end].trim_start_matches([' ', '\t']).len();
                if is_secret {
                    let end = value_end(text, at).clamp(at, within.end.max(at));
                    literals(text, at..end, secrets);
                    at = end;
                }
            }
            b'\n' | b'{' | b',' | b'[' => {
                at += 1;
                key_from = at;
            }
            _ => at += 1,
        }
    }
}

/// The end of a secret's value. One that isn't TOML, as with a quote inside of a password, takes its whole line.
fn value_end(text: &str, at: usize) -> usize {
    let end = match text.as_bytes().get(at) {
        Some(b'"' | b'\'') => string_end(text, at),
        Some(b'[' | b'{') => brackets_end(text, at),
        Some(_) | None => return line_end(text, at),
    };
    let after = text[end..line_end(text, end)].trim_start();
    if after.is_empty() || after.starts_with([',', '}', ']', '#']) { end } else { line_end(text, end) }
}

/// Behind the closing quotes, or at the line's end if they are missing.
fn string_end(text: &str, at: usize) -> usize {
    let quote = &text[at..at + 1];
    let (quotes, end) = match quote.repeat(3) {
        three if text[at..].starts_with(&three) && text[at + 3..].contains(&three) => (three, text.len()),
        _ => (quote.to_string(), line_end(text, at)),
    };
    let mut inside = at + quotes.len();
    while inside < end {
        if text[inside..].starts_with(&quotes) {
            // Up to two more of them are content of the string.
            let more = text[inside + quotes.len()..]
                .bytes()
                .take(2)
                .take_while(|b| quotes.len() == 3 && *b == quote.as_bytes()[0]);
            return inside + quotes.len() + more.count();
        }
        let escaped = quote == "\"" && text.as_bytes()[inside] == b'\\';
        let chars = if escaped { 2 } else { 1 };
        inside += text[inside..].chars().take(chars).map(char::len_utf8).sum::<usize>();
    }
    end
}

/// Behind the bracket that closes the one at `at`, or the text's end if it is missing.
fn brackets_end(text: &str, mut at: usize) -> usize {
    let mut open = 0;
    while at < text.len() {
        match text.as_bytes()[at] {
            b'"' | b'\'' => {
                at = string_end(text, at);
                continue;
            }
            b'[' | b'{' => open += 1,
            b']' | b'}' => open -= 1,
            _ => {}
        }
        at += 1;
        if open == 0 {
            return at;
        }
    }
    text.len()
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline)
}

/// `user:password@` of a URL in a string, with the scheme's `//` or with it forgotten.
fn user_info(text: &str, string: Range<usize>, secrets: &mut Vec<Range<usize>>) {
    let Some(to) = text[string.clone()].rfind('@').map(|at| string.start + at) else { return };
    let before = &text[string.start..to];
    let from = match (before.find("://"), before.find(':')) {
        (Some(scheme), _) => scheme + 3,
        (None, Some(_)) => before.len() - before.trim_start_matches(['"', '\'']).len(),
        (None, None) => return,
    };
    literals(text, string.start + from..to, secrets);
}

/// `password=…` in a string, of a URL's query or of what Java's clients call a JAAS configuration: with all that follows.
fn parameters(text: &str, string: Range<usize>, secrets: &mut Vec<Range<usize>>) {
    let content = text[string.clone()].trim_end_matches(['"', '\'']);
    let mut key_from = 0;
    for (at, c) in content.char_indices() {
        match c {
            '?' | '&' | ';' | ',' | ' ' => key_from = at + 1,
            '=' if names_a_secret(&content[key_from..at]) => {
                return literals(text, string.start + at + 1..string.start + content.len(), secrets);
            }
            _ => {}
        }
    }
}

fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.iter().any(|secret| key.contains(secret))
}

/// What of a value is not quotes around it or a placeholder; a placeholder's default is.
fn literals(text: &str, value: Range<usize>, secrets: &mut Vec<Range<usize>>) {
    let quoted = &text[value.clone()];
    let quotes = quoted.len() - quoted.trim_start_matches(['"', '\'']).len();
    let mut at = value.start + quotes;
    let mut end = value.end;
    if quotes > 0 {
        end -= quoted.len() - quoted.trim_end_matches(['"', '\'']).len();
    }
    while at < end {
        let rest = &text[at..end];
        let placeholder = rest.find("${").filter(|open| !rest[..*open].ends_with('$'));
        let closed = placeholder.and_then(|open| Some((open, open + rest[open..].find('}')?)));
        let Some((open, close)) = closed else { break };
        secrets.push(at..at + open);
        if let Some(default) = rest[open..close].find(":-") {
            secrets.push(at + open + default + 2..at + close);
        }
        at += close + 1;
    }
    if at < end {
        secrets.push(at..end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn literal_secrets_are_blanked_and_placeholders_stay() {
        for (written, shown) in [
            ("password = \"hunter2\" # mine", "password = \"*******\" # mine"),
            ("\"sasl.password\"='hunter2'", "\"sasl.password\"='*******'"),
            ("a = { ssl.key.password = \"h\\\"2\", b = 1 }", "a = { ssl.key.password = \"****\", b = 1 }"),
            ("SMTP_TOKEN = \"\"\"\nhunter\n2\"\"\"\nb = 1", "SMTP_TOKEN = \"\"\"\n******\n*\"\"\"\nb = 1"),
            ("# password = \"hunter2\"\nb = 1", "# password = \"*******\"\nb = 1"),
            ("# don't\npassword = 'é'", "# don't\npassword = '**'"),
            ("password = \"${P}\"", "password = \"${P}\""),
            ("password = \"a${P:-hunter2}b\"", "password = \"*${P:-*******}*\""),
            ("password = \"$${hunter2}\"", "password = \"***********\""),
            ("password = [\"hunter2\", 'a]']\nb = 1", "password = *****************\nb = 1"),
            ("smtp = \"ftp://user:hunter2@x\"", "smtp = \"ftp://************@x\""),
            ("smtp = \"smtp://u:${P}@x\"", "smtp = \"smtp://**${P}@x\""),
            ("smtp = \"user:hunter2@x\"", "smtp = \"************@x\""),
            ("from = \"shop@example.com\"", "from = \"shop@example.com\""),
            ("smtp = \"smtp://x?password=hunter2&a=b\"", "smtp = \"smtp://x?password=***********\""),
            ("smtp = \"smtp://x?token=${T}\"", "smtp = \"smtp://x?token=${T}\""),
            (
                "jaas = 'a.B required name=\"ada\" password=\"hunter2\";'",
                "jaas = 'a.B required name=\"ada\" password=\"*********'",
            ),
            ("template = \"a=b, c=d\"", "template = \"a=b, c=d\""),
            // No TOML.
            ("password = hunter2, or\nb = 1", "password = ***********\nb = 1"),
            ("password = \"hunter2\nb = 1", "password = \"*******\nb = 1"),
            ("password = \"hun\"ter2\"\nb = 1", "password = \"********\"\nb = 1"),
            ("password", "password"),
            ("password =", "password ="),
        ] {
            assert_eq!(conceal(written), shown);
        }
    }

    proptest! {
        #[test]
        fn the_concealed_text_has_the_same_lines_of_the_same_length(
            text in "(password|token|é|\\$\\{|[\"'#=,{}\\[\\]\\\\@:/$ab\n -])*",
        ) {
            let lengths = |text: &str| text.split('\n').map(str::len).collect::<Vec<_>>();
            prop_assert_eq!(lengths(&conceal(&text)), lengths(&text));
        }
    }
}
