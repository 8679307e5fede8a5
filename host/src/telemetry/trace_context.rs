//! W3C Trace Context: which trace something belongs to, as `traceparent` says it.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Source: https://www.w3.org/TR/trace-context/#traceparent-header. Versions above 00 may go on after the
/// flags. None for what is not valid.
pub(crate) fn parse(traceparent: &str) -> Option<SpanContext> {
    let bytes = traceparent.as_bytes();
    let field = |from: usize, len: usize| {
        let of = bytes.get(from..from + len)?;
        let is_hex = of.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then(|| traceparent.get(from..from + len)).flatten()
    };
    let (version, trace, span, flags) = (field(0, 2)?, field(3, 32)?, field(36, 16)?, field(53, 2)?);
    let dashes = [2, 35, 52].iter().all(|i| bytes[*i] == b'-');
    let end = bytes.len() == 55 || (version != "00" && bytes.get(55) == Some(&b'-') && bytes.len() <= 256);
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::NONE,
    );
    (dashes && end && version != "ff" && context.is_valid()).then_some(context)
}

pub(crate) fn is_valid(traceparent: &str) -> bool {
    parse(traceparent).is_some()
}

/// The id of the trace that it names, if it is valid.
pub(crate) fn trace_id(traceparent: &[u8]) -> Option<&str> {
    let traceparent = str::from_utf8(traceparent).ok().filter(|text| is_valid(text))?;
    traceparent.get(3..35)
}

pub(super) fn text(context: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags())
}

/// Sampled: whoever collects traces wants the events that came in here.
pub(crate) fn make() -> String {
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
        let context = parse(good).unwrap();
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(text(&context), good);
        assert_eq!(trace_id(good.as_bytes()), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert!(!parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02").unwrap().is_sampled());
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
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert!(!is_valid(bad), "{bad}");
            assert_eq!(trace_id(bad.as_bytes()), None, "{bad}");
        }
    }
}
