//! Text of others, made fit to be shown: errors with their causes, what may be too long, and what might play
//! tricks on a terminal.

use std::error::Error;

/// An error and its causes. Those of libraries often say what happened only in their sources.
pub(crate) fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// At most `limit` bytes of `text`; an ellipsis tells that there was more.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    const MORE: &str = "…";
    if text.len() <= limit {
        return text.into();
    }
    let end = text.floor_char_boundary(limit.saturating_sub(MORE.len()));
    format!("{}{MORE}", &text[..end])
}

/// Without what a terminal would take for a command, or for the end or another direction of a line; line breaks and tabs stay.
pub(crate) fn readable(text: &str) -> String {
    let commands = |c: char| {
        c.is_control() && c != '\t' && c != '\n'
            // Unicode Standard Annex 9, 2.1 to 2.3, and the separators of lines and paragraphs.
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if commands(c) { '\u{fffd}' } else { c }).collect()
}

/// [`readable`] for a place of one line: a line break shows as `⏎`, so that nobody's text passes for ours.
pub(crate) fn one_line(text: &str) -> String {
    let visible = |c| match c {
        '\n' => '⏎',
        '\t' => ' ',
        c => c,
    };
    readable(text).chars().map(visible).collect()
}

/// As much of a digest as people need.
pub(crate) fn short(digest: &str) -> &str {
    &digest[..digest.floor_char_boundary(12)]
}

/// `1 event`, `2 events`.
pub(crate) fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        let tricks = "\u{1b}[2Jgone \u{9b}1A\u{1b}]0;title\u{7}\r\ttab\nline";
        assert_eq!(readable(tricks), "\u{fffd}[2Jgone \u{fffd}1A\u{fffd}]0;title\u{fffd}\u{fffd}\ttab\nline");
        assert_eq!(one_line("a\tb\nc\u{1b}"), "a b⏎c\u{fffd}");
        assert_eq!(readable("\u{202e}gpj.exe\u{2066}\u{2028}é"), "\u{fffd}gpj.exe\u{fffd}\u{fffd}é");
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "lo…");
        assert_eq!(cut("ééé", 5), "é…");
        assert!((3..20).all(|limit| cut(&"é".repeat(100), limit).len() <= limit));
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("no connection")]
        struct Outer(#[source] std::fmt::Error);
        assert_eq!(chain(&Outer(std::fmt::Error)), format!("no connection: {}", std::fmt::Error));
    }
}
