//! W3C Trace Context: the request's `traceparent` if it has a valid one, else a new one.

/// Source: https://www.w3.org/TR/trace-context/#traceparent-header. Versions above 00 may go on after the
/// flags.
pub(super) fn is_valid(traceparent: &str) -> bool {
    let bytes = traceparent.as_bytes();
    let field = |from: usize, len: usize| {
        bytes.get(from..from + len).filter(|f| f.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    };
    let not_zero = |field: &[u8]| field.iter().any(|b| *b != b'0');
    let (Some(version), Some(trace), Some(span), Some(_flags)) =
        (field(0, 2), field(3, 32), field(36, 16), field(53, 2))
    else {
        return false;
    };
    let dashes = [2, 35, 52].iter().all(|i| bytes[*i] == b'-');
    let end = bytes.len() == 55 || (version != b"00" && bytes.get(55) == Some(&b'-') && bytes.len() <= 256);
    dashes && end && version != b"ff" && not_zero(trace) && not_zero(span)
}

/// Sampled: whoever collects traces wants the events that came in here.
pub(super) fn make() -> String {
    // Zero is the one invalid value of each.
    let trace = rand::random::<u128>().max(1);
    let span = rand::random::<u64>().max(1);
    format!("00-{trace:032x}-{span:016x}-01")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_valid() {
        assert!(is_valid(&make()));
    }

    #[test]
    fn the_standards_examples_pass_and_broken_ones_do_not() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_valid(good));
        assert!(is_valid(&format!("cc{}-what-the-future-holds", &good[2..])));
        for bad in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
