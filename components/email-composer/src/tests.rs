//! What the composer promises, by way of its handler and a configuration.

use serde_json::{Value, json};
use wasmill_sdk::testing::{OutcomeExt, TestEvent, payload};
use wasmill_sdk::{Env, Outcome};

use super::{Config, compose};

fn confirmed() -> Value {
    json!({
        "order_id": "o-00000001",
        "transaction_id": "tx-1",
        "payment_status": "approved",
        "status": "created",
        "customer": {"id": "c-00042", "name": "Ada Park", "email": "ada@example.org"},
        "items": [{"sku": "margherita", "quantity": 2, "unit_price_cents": 1150}],
        "lines": [
            {"sku": "margherita", "name": "Pizza Margherita", "quantity": 2, "line_total": "23.00 EUR"},
            {"sku": "water", "quantity": 1, "line_total": "6.50 EUR"},
        ],
        "currency": "EUR",
        "total_cents": 2950,
        "total": "29.50 EUR",
        "placed_at_us": 1_790_000_000_000_000_u64,
    })
}

fn with(changes: Value) -> Value {
    let mut order = confirmed();
    order.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    order
}

fn declined(reason: &str) -> Value {
    with(json!({"payment_status": "declined", "decline_reason": reason}))
}

fn compose_with<const N: usize>(env: [(&str, &str); N], order: &Value) -> Outcome {
    compose(&TestEvent::new().json(order).build(), &Config::new(&Env::from_iter(env)).unwrap())
}

fn email(order: &Value) -> Value {
    payload(&compose_with([], order).one())
}

fn part<'a>(email: &'a Value, name: &str) -> &'a str {
    email[name].as_str().unwrap_or_else(|| panic!("no {name} in {email}"))
}

#[test]
fn a_confirmation_says_what_was_ordered_and_what_it_costs() {
    let email = email(&confirmed());
    assert_eq!(email["to"], "ada@example.org");
    assert_eq!(email["from"], "orders@example.com");
    assert_eq!(email["subject"], "Your order o-00000001 is confirmed");
    assert_eq!(
        part(&email, "text"),
        "Hello Ada Park,\n\n\
         Thank you for your order. Your payment went through.\n\n\
         2 x Pizza Margherita: 23.00 EUR\n\
         1 x water: 6.50 EUR\n\
         Total: 29.50 EUR\n\n\
         Transaction: tx-1\n"
    );
    let html = part(&email, "html");
    assert!(html.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"), "{html}");
    assert!(html.contains("<td>2 × Pizza Margherita</td><td align=\"right\">23.00 EUR</td>"), "{html}");
}

#[test]
fn the_record_can_be_followed_like_any_other_of_the_order() {
    let output = compose_with([], &confirmed()).one();
    assert_eq!((output.topic.as_deref(), output.key.as_deref()), (None, Some(&b"key"[..])));
    let email = payload(&output);
    for field in ["order_id", "transaction_id", "customer", "currency", "placed_at_us"] {
        assert_eq!(email[field], confirmed()[field], "{field}");
    }
}

#[test]
fn an_updated_order_gets_another_subject() {
    let email = email(&with(json!({"status": "updated"})));
    assert_eq!(email["subject"], "Your order o-00000001 has been updated");
    assert_eq!(email["notice"], "updated");
}

#[test]
fn a_declined_order_is_told_the_reason() {
    let over_limit = email(&declined("over_limit"));
    assert_eq!(over_limit["subject"], "Your order o-00000001 could not be paid");
    assert!(part(&over_limit, "text").contains("over the limit"));
    assert!(part(&over_limit, "html").contains("over the limit"));
    assert!(part(&email(&declined("card_declined")), "text").contains("card was declined"));
    assert_eq!(email(&declined("something new"))["notice"], "declined");
}

#[test]
fn the_customers_language_is_used() {
    for (language, subject) in [
        ("de-AT", "Ihre Bestellung o-00000001 ist bestätigt"),
        ("fr", "Votre commande o-00000001 est confirmée"),
        ("es", "Su pedido o-00000001 está confirmado"),
        ("tlh", "Your order o-00000001 is confirmed"),
    ] {
        assert_eq!(email(&with(json!({"language": language})))["subject"], subject);
    }
    let german = email(&with(json!({"language": "de"})));
    assert!(part(&german, "html").contains("<html lang=\"de\">"));
    assert!(part(&german, "text").contains("Guten Tag Ada Park,"));
}

#[test]
fn a_customer_without_a_name_is_greeted_without_one() {
    for customer in [json!({"id": "c-1", "email": "a@b"}), json!({"id": "c-1", "email": "a@b", "name": " "})]
    {
        assert!(part(&email(&with(json!({ "customer": customer }))), "text").starts_with("Hello,\n"));
    }
}

#[test]
fn html_in_an_order_shows_as_text() {
    let email = email(&with(json!({
        "customer": {"id": "c-1", "name": "<script>alert(1)</script>", "email": "a@b"},
        "lines": [{"sku": "x", "name": "Fish & \"Chips\"", "quantity": 1, "line_total": "<b>1</b>"}],
        "order_id": "</title><i>",
        "total": "<u>",
        "transaction_id": "<s>",
    })));
    let html = part(&email, "html");
    for raw in ["<script", "<b>", "<i>", "<u>", "<s>", "Fish & "] {
        assert!(!html.contains(raw), "{raw} in {html}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{html}");
    assert!(html.contains("Fish &amp; &quot;Chips&quot;"), "{html}");
    assert!(part(&email, "text").contains("Hello <script>alert(1)</script>,"));
}

#[test]
fn a_line_break_in_a_header_value_is_rejected() {
    for injection in ["\r\nBcc: all@example.com", "\nBcc: all@example.com", "\rBcc: all@example.com"] {
        let in_subject = with(json!({"order_id": format!("o-1{injection}")}));
        assert!(compose_with([], &in_subject).rejected().starts_with("order_id: has a line break"));
        let customer = json!({"id": "c-1", "email": format!("a@b.example{injection}")});
        let in_recipient = compose_with([], &with(json!({ "customer": customer }))).rejected();
        assert!(in_recipient.starts_with("customer.email: has a line break"), "{in_recipient}");
        let from = format!("orders@example.com{injection}");
        let in_sender = Config::new(&Env::from_iter([("MAIL_FROM", from)])).err().unwrap();
        assert!(in_sender.to_string().starts_with("environment variable MAIL_FROM is "), "{in_sender}");
    }
}

#[test]
fn a_line_break_in_a_name_adds_no_line_to_the_text() {
    let customer = json!({"id": "c-1", "name": "Ada\r\n\r\nSend money to", "email": "a@b"});
    let email = email(&with(json!({ "customer": customer })));
    assert!(part(&email, "text").starts_with("Hello Ada    Send money to,\n"), "{email}");
}

#[test]
fn what_is_no_address_is_rejected() {
    for address in ["", "ada", "a@b, c@d"] {
        let customer = json!({"id": "c-1", "email": address});
        let reason = compose_with([], &with(json!({ "customer": customer }))).rejected();
        assert_eq!(reason, "customer.email: is not an e-mail address");
    }
}

#[test]
fn the_sender_is_configured() {
    let email = payload(&compose_with([("MAIL_FROM", "Pizzeria <p@example.com>")], &confirmed()).one());
    assert_eq!(email["from"], "Pizzeria <p@example.com>");
    // A wrong setting is for the operator to mend, and must not cost a mail.
    for wrong in ["garbage", "Pizzeria <>", "p@example.com\r\nBcc: x@example.com"] {
        let Err(error) = Config::new(&Env::from_iter([("MAIL_FROM", wrong)])) else {
            panic!("{wrong} passes")
        };
        assert!(error.to_string().contains("MAIL_FROM"), "{error}");
    }
}

#[test]
fn a_decode_error_names_the_path() {
    let order = with(json!({"lines": [{"sku": "x", "quantity": "two", "line_total": ""}]}));
    let reason = compose_with([], &order).rejected();
    assert!(reason.starts_with("lines[0].quantity: invalid type"), "{reason}");
    let reason = compose_with([], &with(json!({"payment_status": "maybe"}))).rejected();
    assert!(reason.starts_with("payment_status: unknown variant `maybe`"), "{reason}");
    let tombstone = compose(&TestEvent::new().tombstone().build(), &Config::new(&Env::default()).unwrap());
    assert!(tombstone.rejected().contains("no payload"));
}
