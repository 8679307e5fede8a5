//! Orders, and what the order-formatter makes of them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The bytes of an order that has everything; below, it has one line, and no names.
const WHOLE: usize = 313;
/// The bytes of the smallest one.
pub const SMALLEST_ORDER: usize = 161;

/// One like those of the pipeline that ships: its key, and its payload of so many bytes, or [`SMALLEST_ORDER`].
pub fn order(number: u64, placed_at_us: u64, bytes: usize) -> (String, String) {
    let id = format!("o-{number:08}");
    if bytes < WHOLE {
        let more = "x".repeat(bytes.saturating_sub(SMALLEST_ORDER));
        let payload = format!(
            "{{\"order_id\":\"{id}\",\"customer\":{{\"id\":\"c-00042{more}\"}},\"items\":[{{\"sku\":\"m\",\"quantity\":2,\
             \"unit_price_cents\":1150}}],\"currency\":\"EUR\",\"placed_at_us\":{placed_at_us}}}"
        );
        return (id, payload);
    }
    let with_name = |name: &str| {
        format!(
            "{{\"order_id\":\"{id}\",\"customer\":{{\"id\":\"c-00042\",\"name\":\"{name}\",\"email\":\"c42@example.com\"}},\
             \"items\":[{{\"sku\":\"margherita\",\"name\":\"Pizza Margherita\",\"quantity\":2,\"unit_price_cents\":1150}},\
             {{\"sku\":\"tiramisu\",\"name\":\"Tiramisu\",\"quantity\":1,\"unit_price_cents\":650}}],\
             \"currency\":\"EUR\",\"placed_at_us\":{placed_at_us}}}"
        )
    };
    let mut payload = with_name("Ada Park");
    if payload.len() < bytes {
        payload = with_name(&format!("Ada Park {}", "x".repeat(bytes - payload.len() - 1)));
    }
    (id, payload)
}

/// Of the order that has this key.
pub fn number(key: &[u8]) -> Option<u64> {
    str::from_utf8(key).ok()?.strip_prefix("o-")?.parse().ok()
}

/// When the order was placed, by its payload or by what was made of it. Cheaper than to parse the whole.
pub fn placed_at_us(payload: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"placed_at_us\":";
    let at = payload.windows(NAME.len()).rposition(|window| window == NAME)? + NAME.len();
    let digits = payload[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// serde borrows a `Cow` only where it is a field by itself, not within an `Option`.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow)]
    order_id: Cow<'a, str>,
    #[serde(borrow)]
    customer: Customer<'a>,
    #[serde(borrow)]
    items: Vec<Item<'a>>,
    #[serde(borrow)]
    currency: Cow<'a, str>,
    placed_at_us: Option<u64>,
    #[serde(borrow)]
    payment: Option<&'a RawValue>,
    #[serde(borrow)]
    language: Option<Text<'a>>,
}

#[derive(Deserialize, Serialize)]
struct Customer<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    name: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    email: Option<Text<'a>>,
}

#[derive(Deserialize, Serialize)]
struct Item<'a> {
    #[serde(borrow)]
    sku: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    name: Option<Text<'a>>,
    quantity: u64,
    unit_price_cents: u64,
}

#[derive(Serialize)]
struct Details<'a> {
    order_id: &'a str,
    status: &'static str,
    customer: &'a Customer<'a>,
    items: &'a [Item<'a>],
    lines: Vec<Line<'a>>,
    currency: &'a str,
    total_cents: u64,
    total: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    placed_at_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    sku: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    quantity: u64,
    unit_price_cents: u64,
    line_total_cents: u64,
    line_total: String,
}

/// What the component makes of a new order, byte by byte. It checks less: sums that overflow and texts that are empty are not
/// refused, numbers are digits only, and all money has two decimals.
///
/// # Errors
///
/// When it is no JSON, or no order.
pub fn details(payload: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    // As fast as it goes: the encoding is checked once, strings are not copied, and the output has room from the start.
    let order: Order<'_> = match str::from_utf8(payload) {
        Ok(text) => serde_json::from_str(text)?,
        Err(_) => serde_json::from_slice(payload)?,
    };
    let money = |cents: u64| {
        let mut text = cents.to_string();
        text.insert_str(0, &"00"[..3_usize.saturating_sub(text.len())]);
        text.insert(text.len() - 2, '.');
        text.push(' ');
        text.push_str(&order.currency);
        text
    };
    let lines: Vec<Line<'_>> = order
        .items
        .iter()
        .map(|item| {
            let line_total_cents = item.quantity * item.unit_price_cents;
            Line {
                sku: &item.sku,
                name: item.name.as_ref().map(|Text(text)| &**text),
                quantity: item.quantity,
                unit_price_cents: item.unit_price_cents,
                line_total_cents,
                line_total: money(line_total_cents),
            }
        })
        .collect();
    let total_cents = lines.iter().map(|line| line.line_total_cents).sum();
    let mut output = Vec::with_capacity(payload.len() / 2 * 3 + 256);
    serde_json::to_writer(
        &mut output,
        &Details {
            order_id: &order.order_id,
            status: "created",
            customer: &order.customer,
            items: &order.items,
            lines,
            currency: &order.currency,
            total_cents,
            total: money(total_cents),
            placed_at_us: order.placed_at_us,
            payment: order.payment,
            language: order.language.as_ref().map(|Text(text)| &**text),
        },
    )?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_and_the_time_are_found_in_an_order_and_in_its_details() {
        let (key, payload) = order(123_456_789, 1_790_000_000_000_000, 400);
        assert_eq!((number(key.as_bytes()), payload.len()), (Some(123_456_789), 400));
        for payload in [payload.as_bytes(), &details(payload.as_bytes()).unwrap()] {
            assert_eq!(placed_at_us(payload), Some(1_790_000_000_000_000));
        }
        assert_eq!((number(b"broken"), placed_at_us(b"{}")), (None, None));
    }

    #[test]
    fn an_order_has_the_bytes_that_it_is_to_have() {
        for (bytes, expected) in [
            (0, SMALLEST_ORDER),
            (SMALLEST_ORDER, SMALLEST_ORDER),
            (200, 200),
            (WHOLE, WHOLE),
            (10_000, 10_000),
        ] {
            let (_, payload) = order(1, 1_790_000_000_000_000, bytes);
            assert_eq!(payload.len(), expected);
            assert!(details(payload.as_bytes()).is_ok());
        }
    }
}
