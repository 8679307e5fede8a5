//! orders → order_details: checks an order, adds up its lines and formats the money.
//!
//! Amounts are integers in the currency's minor unit ("cents"), and every sum is checked: an order that
//! doesn't add up is rejected with the path of the item that is to blame.

mod money;
mod whole;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wasmill_sdk::{Event, Failure, Outcome, Output};

wasmill_sdk::handler!(handle);

/// The greatest integer that every JSON reader takes for the same number (RFC 8259, section 6).
const GREATEST_CENTS: u64 = (1 << 53) - 1;

/// A text that is not copied: serde borrows a `Cow` only where it is a field by itself, not within an `Option`.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The fields are listed, not kept as a map: serde loses the JSON path of a fault in flattened fields.
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
    #[serde(default, deserialize_with = "whole::optional")]
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
    #[serde(deserialize_with = "whole::number")]
    quantity: u64,
    #[serde(deserialize_with = "whole::number")]
    unit_price_cents: u64,
}

#[derive(Serialize)]
struct OrderDetails<'a> {
    order_id: &'a str,
    status: Status,
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
#[serde(rename_all = "snake_case")]
enum Status {
    Created,
    Updated,
}

#[derive(Serialize)]
struct Line<'a> {
    // Not flattened: serde would make a map of it, field by field.
    sku: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    quantity: u64,
    unit_price_cents: u64,
    line_total_cents: u64,
    line_total: String,
}

fn handle(event: Event) -> Outcome {
    let order: Order<'_> = event.json()?;
    check_texts(&order)?;
    let (lines, total_cents) = add_up(&order)?;
    let details = OrderDetails {
        order_id: &order.order_id,
        status: status(&event),
        customer: &order.customer,
        items: &order.items,
        lines,
        currency: &order.currency,
        total_cents,
        total: money::format(total_cents, &order.currency),
        placed_at_us: order.placed_at_us,
        payment: order.payment,
        language: order.language.as_ref().map(|Text(text)| &**text),
    };
    let output = Output::json(&event, &details)?;
    // A record without a key would lose its order among the updates of the same order from here on.
    Ok(vec![if event.key.is_none() { output.key(order.order_id.as_bytes()) } else { output }])
}

/// The ingress says how the order came. Whoever publishes to the topic directly need not: it is new then.
fn status(event: &Event) -> Status {
    match event.header("http-method") {
        Some(b"PUT") => Status::Updated,
        _ => Status::Created,
    }
}

fn check_texts(order: &Order<'_>) -> Result<(), Failure> {
    let blank = |path: &str| Err(Failure::reject(format!("{path}: must not be empty")));
    if order.order_id.trim().is_empty() {
        return blank("order_id");
    }
    if order.customer.id.trim().is_empty() {
        return blank("customer.id");
    }
    if order.items.is_empty() {
        return blank("items");
    }
    if let Some(i) = order.items.iter().position(|item| item.sku.trim().is_empty()) {
        return blank(&format!("items[{i}].sku"));
    }
    let currency = order.currency.as_bytes();
    if currency.len() != 3 || !currency.iter().all(u8::is_ascii_uppercase) {
        let reason = format!("currency: {:?} is not three letters of ISO 4217, such as EUR", order.currency);
        return Err(Failure::reject(reason));
    }
    Ok(())
}

fn add_up<'a>(order: &'a Order<'_>) -> Result<(Vec<Line<'a>>, u64), Failure> {
    let mut total = 0;
    let mut lines = Vec::with_capacity(order.items.len());
    for (i, item) in order.items.iter().enumerate() {
        let Item { quantity, unit_price_cents, .. } = *item;
        if quantity == 0 {
            return Err(Failure::reject(format!("items[{i}].quantity: must be at least 1")));
        }
        let sum = quantity.checked_mul(unit_price_cents).filter(|sum| *sum <= GREATEST_CENTS);
        let Some(line_total_cents) = sum else {
            let reason = format!(
                "items[{i}].quantity: {quantity} times {unit_price_cents} is more than {GREATEST_CENTS} cents"
            );
            return Err(Failure::reject(reason));
        };
        total += line_total_cents;
        if total > GREATEST_CENTS {
            let reason = format!("items[{i}]: with it the order comes to more than {GREATEST_CENTS} cents");
            return Err(Failure::reject(reason));
        }
        lines.push(Line {
            sku: &item.sku,
            name: item.name.as_ref().map(|Text(text)| &**text),
            quantity,
            unit_price_cents,
            line_total_cents,
            line_total: money::format(line_total_cents, &order.currency),
        });
    }
    Ok((lines, total))
}

#[cfg(test)]
mod tests;
