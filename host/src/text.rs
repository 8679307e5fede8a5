//! Text of others, made fit to be shown: errors with their causes, and what may be too long.

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

#[cfg(test)]
mod tests {
    use super::*;

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
