//! Whether a command shows what its page says.

/// `…` stands for anything, and alone in a line for any number of lines. How wide the gaps of a table are doesn't count.
pub(crate) fn fits(shown: &str, expected: &str) -> Result<(), String> {
    let [actual, wanted] = [shown, expected].map(lines);
    told(all(&actual, &wanted), shown, expected)
}

/// With whatever lines before, between and after: of a log.
pub(crate) fn fits_in_order(shown: &str, expected: &str) -> Result<(), String> {
    let actual = lines(shown);
    let mut left = actual.iter();
    let there = lines(expected).iter().all(|wanted| wanted == "…" || left.any(|line| one(line, wanted)));
    told(there, shown, expected)
}

fn told(fits: bool, shown: &str, expected: &str) -> Result<(), String> {
    if fits { Ok(()) } else { Err(format!("the page says\n{expected}\nand there is\n{shown}")) }
}

fn lines(text: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.trim().lines().map(words).collect()
}

fn all(actual: &[String], wanted: &[String]) -> bool {
    match wanted {
        [] => actual.is_empty(),
        [any, rest @ ..] if any == "…" => (0..=actual.len()).any(|skipped| all(&actual[skipped..], rest)),
        [first, rest @ ..] => actual.first().is_some_and(|line| one(line, first)) && all(&actual[1..], rest),
    }
}

fn one(line: &str, wanted: &str) -> bool {
    let Some((start, rest)) = wanted.split_once('…') else { return line == wanted };
    let Some(mut line) = line.strip_prefix(start) else { return false };
    let mut parts: Vec<_> = rest.split('…').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match line.split_once(part) {
            Some((_, after)) => line = after,
            None => return false,
        }
    }
    line.ends_with(end)
}

#[test]
fn what_a_page_shows_may_leave_out_and_nothing_else() {
    assert!(fits("a  b\nc\n", "a b\nc").is_ok());
    assert!(fits("a 12 ms\nb\nc\nd", "a … ms\n…\nd").is_ok());
    assert!(fits("a", "a\n…").is_ok() && fits("x-1-y-2-z", "x-…-y-…").is_ok());
    assert!(fits("a\nb", "a").is_err() && fits("a", "b").is_err() && fits("x-1", "x-…-y").is_err());
    assert!(fits_in_order("0\na\n1\nb\n2", "a\nb").is_ok() && fits_in_order("b\na", "a\nb").is_err());
}
