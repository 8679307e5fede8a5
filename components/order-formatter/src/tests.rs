//! What the formatter promises, by way of its handler.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wasmill_sdk::testing::{OutcomeExt, TestEvent, payload};

use super::handle;

fn order() -> Value {
    json!({
        "order_id": "o-00000001",
        "customer": {"id": "c-00042", "name": "Ada Park", "email": "c42@example.com"},
        "items": [
            {"sku": "margherita", "name": "Pizza Margherita", "quantity": 2, "unit_price_cents": 1150},
            {"sku": "water", "quantity": 1, "unit_price_cents": 650},
        ],
        "currency": "EUR",
        "placed_at_us": 1_790_000_000_000_000_u64,
        "payment": {"token": "tok_visa"},
        "language": "de",
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut order = order();
    *order.pointer_mut(pointer).expect("a field of the order") = value;
    order
}

fn without(field: &str) -> Value {
    let mut order = order();
    order.as_object_mut().unwrap().remove(field);
    order
}

fn details(order: &Value) -> Value {
    payload(&handle(TestEvent::new().json(order).build()).one())
}

fn reason(order: &Value) -> String {
    handle(TestEvent::new().json(order).build()).rejected()
}

#[test]
fn lines_and_the_total_are_added_up_and_formatted() {
    let details = details(&order());
    assert_eq!(
        details["lines"],
        json!([
            {"sku": "margherita", "name": "Pizza Margherita", "quantity": 2, "unit_price_cents": 1150,
             "line_total_cents": 2300, "line_total": "23.00 EUR"},
            {"sku": "water", "quantity": 1, "unit_price_cents": 650,
             "line_total_cents": 650, "line_total": "6.50 EUR"},
        ])
    );
    assert_eq!(details["total_cents"], 2950);
    assert_eq!(details["total"], "29.50 EUR");
}

#[test]
fn every_field_of_the_order_is_carried_through() {
    let details = details(&order());
    for (field, value) in order().as_object().unwrap() {
        assert_eq!(&details[field], value, "{field}");
    }
}

#[test]
fn the_schema_admits_no_field_that_would_get_lost_here() {
    let schema: Value = serde_json::from_str(include_str!("../../../schemas/order.json")).unwrap();
    for (schema_at, order_at) in [
        ("/properties", ""),
        ("/properties/customer/properties", "/customer"),
        ("/properties/items/items/properties", "/items/0"),
        ("/properties/payment/properties", "/payment"),
    ] {
        let names = |value: &Value, at| -> BTreeSet<String> {
            value.pointer(at).and_then(Value::as_object).unwrap().keys().cloned().collect()
        };
        // The sample order has every field, and another test sees each of them carried through.
        assert_eq!(names(&schema, schema_at), names(&order(), order_at), "{schema_at}");
    }
}

#[test]
fn optional_fields_that_are_absent_stay_absent() {
    for field in ["placed_at_us", "payment", "language"] {
        assert_eq!(details(&without(field)).get(field), None, "{field}");
    }
    assert_eq!(details(&with("/customer", json!({"id": "c-1"})))["customer"], json!({"id": "c-1"}));
}

#[test]
fn an_order_that_was_put_is_updated_and_any_other_is_created() {
    let status = |event: TestEvent| payload(&handle(event.json(&order()).build()).one())["status"].clone();
    assert_eq!(status(TestEvent::new().header("http-method", "PUT")), "updated");
    assert_eq!(status(TestEvent::new().header("http-method", "POST")), "created");
    assert_eq!(status(TestEvent::new()), "created");
}

#[test]
fn the_events_key_is_kept_and_a_missing_one_becomes_the_order_id() {
    let key = |event: TestEvent| handle(event.json(&order()).build()).one().key.unwrap();
    assert_eq!(key(TestEvent::new().key("by-customer")), b"by-customer");
    assert_eq!(key(TestEvent::new().no_key()), b"o-00000001");
}

#[test]
fn the_output_goes_to_the_default_topic() {
    assert_eq!(handle(TestEvent::new().json(&order()).build()).one().topic, None);
}

#[test]
fn absurd_quantities_are_rejected_and_the_item_is_named() {
    assert_eq!(
        reason(&with("/items/1/quantity", json!(1_u64 << 63))),
        "items[1].quantity: 9223372036854775808 times 650 is more than 9007199254740991 cents"
    );
    assert!(
        reason(&with("/items/1/quantity", json!(1e30)))
            .starts_with("items[1].quantity: invalid value: floating")
    );
    assert!(reason(&with("/items/0/quantity", json!(-1))).starts_with("items[0].quantity: invalid value"));
    assert!(reason(&with("/items/0/quantity", json!(1.5))).starts_with("items[0].quantity: invalid value"));
    assert_eq!(reason(&with("/items/0/quantity", json!(0))), "items[0].quantity: must be at least 1");
}

#[test]
fn a_total_that_overflows_is_rejected() {
    let half = json!({"sku": "yacht", "quantity": 1, "unit_price_cents": 1_u64 << 52});
    assert_eq!(
        reason(&with("/items", json!([half, half]))),
        "items[1]: with it the order comes to more than 9007199254740991 cents"
    );
}

#[test]
fn a_free_item_is_fine() {
    assert_eq!(details(&with("/items/1/unit_price_cents", json!(0)))["total"], "23.00 EUR");
}

#[test]
fn empty_fields_are_rejected_by_their_path() {
    for (pointer, value, path) in [
        ("/order_id", json!(" "), "order_id"),
        ("/customer/id", json!(""), "customer.id"),
        ("/items", json!([]), "items"),
        ("/items/1/sku", json!(""), "items[1].sku"),
    ] {
        assert_eq!(reason(&with(pointer, value)), format!("{path}: must not be empty"));
    }
}

#[test]
fn a_currency_has_three_capital_letters() {
    for currency in ["", "eur", "EURO", "E€"] {
        let reason = reason(&with("/currency", json!(currency)));
        assert_eq!(reason, format!("currency: {currency:?} is not three letters of ISO 4217, such as EUR"));
    }
}

#[test]
fn missing_fields_and_other_payloads_are_rejected() {
    assert!(reason(&without("customer")).contains("missing field `customer`"));
    assert!(reason(&json!([])).starts_with("payload: "));
    assert!(handle(TestEvent::new().payload("not JSON").build()).rejected().starts_with("payload: "));
    assert!(handle(TestEvent::new().tombstone().build()).rejected().contains("no payload"));
}
