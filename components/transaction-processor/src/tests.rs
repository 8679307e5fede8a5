//! What the processor promises, by way of its handler and a configuration.

use serde_json::{Value, json};
use wasmill_sdk::testing::{OutcomeExt, TestEvent, payload};
use wasmill_sdk::{Env, Outcome};

use super::{Config, settle};

fn details() -> Value {
    json!({
        "order_id": "o-00000001",
        "status": "created",
        "customer": {"id": "c-00042", "name": "Ada Park", "email": "ada@example.org"},
        "items": [{"sku": "margherita", "quantity": 2, "unit_price_cents": 1475}],
        "lines": [{"sku": "margherita", "quantity": 2, "unit_price_cents": 1475,
                   "line_total_cents": 2950, "line_total": "29.50 EUR"}],
        "currency": "EUR",
        "total_cents": 2950,
        "total": "29.50 EUR",
        "placed_at_us": 1_790_000_000_000_000_u64,
        "payment": {"token": "tok_visa"},
        "language": "de",
    })
}

fn with_token(token: &str) -> TestEvent {
    let mut details = details();
    details["payment"]["token"] = token.into();
    TestEvent::new().json(&details)
}

fn with_total(cents: u64) -> TestEvent {
    let mut details = details();
    details["total_cents"] = cents.into();
    TestEvent::new().json(&details)
}

fn without_email() -> TestEvent {
    let mut details = details();
    details["customer"].as_object_mut().unwrap().remove("email");
    TestEvent::new().json(&details)
}

fn settle_with<const N: usize>(env: [(&str, &str); N], event: TestEvent) -> Outcome {
    settle(&event.build(), &Config::new(&Env::from_iter(env)).unwrap())
}

fn settled(event: TestEvent) -> Value {
    payload(&settle_with([], event).one())
}

#[test]
fn a_good_card_is_approved_and_goes_to_the_default_topic() {
    let output = settle_with([], TestEvent::new().json(&details())).one();
    assert_eq!(output.topic, None);
    assert_eq!(output.key.as_deref(), Some(&b"key"[..]));
    let settled = payload(&output);
    assert_eq!(settled["payment_status"], "approved");
    assert_eq!(settled.get("decline_reason"), None);
}

#[test]
fn an_order_without_a_payment_is_approved_too() {
    let mut details = details();
    details.as_object_mut().unwrap().remove("payment");
    assert_eq!(settled(TestEvent::new().json(&details))["payment_status"], "approved");
}

#[test]
fn every_field_is_carried_through() {
    let settled = settled(TestEvent::new().json(&details()));
    for (field, value) in details().as_object().unwrap() {
        assert_eq!(&settled[field], value, "{field}");
    }
}

#[test]
fn a_total_over_the_limit_is_declined_and_one_at_the_limit_is_not() {
    let env = [("DECLINE_OVER_CENTS", "100000")];
    let declined = settle_with(env, with_total(100_001)).one();
    assert_eq!(declined.topic.as_deref(), Some("order_declined"));
    assert_eq!(payload(&declined)["payment_status"], "declined");
    assert_eq!(payload(&declined)["decline_reason"], "over_limit");
    assert_eq!(settle_with(env, with_total(100_000)).one().topic, None);
    assert_eq!(settle_with([], with_total(u64::MAX)).one().topic, None);
}

#[test]
fn a_declined_card_is_declined_and_says_why() {
    let declined = settle_with([], with_token("tok_declined")).one();
    assert_eq!(declined.topic.as_deref(), Some("order_declined"));
    assert_eq!(payload(&declined)["decline_reason"], "card_declined");
}

#[test]
fn an_unavailable_provider_is_tried_again_until_it_recovers() {
    let at = |attempt| settle_with([], with_token("tok_unavailable").attempt(attempt));
    assert!(at(1).retried().contains("attempt 1"));
    at(2).retried();
    assert_eq!(payload(&at(3).one())["payment_status"], "approved");
    let sooner = settle_with([("RECOVERS_AFTER", "2")], with_token("tok_unavailable").attempt(2));
    assert_eq!(payload(&sooner.one())["payment_status"], "approved");
}

#[test]
fn a_provider_that_never_recovers_asks_for_a_retry_each_time() {
    for attempt in [1, 3, u32::MAX] {
        settle_with([], with_token("tok_always_unavailable").attempt(attempt)).retried();
    }
}

#[test]
fn a_token_that_never_works_is_rejected() {
    assert!(settle_with([], with_token("tok_invalid")).rejected().starts_with("payment.token: "));
}

#[test]
fn the_customers_own_address_comes_before_the_derived_one() {
    let env = [("EMAIL_TEMPLATE", "{customer_id}@example.com")];
    let email = |event| payload(&settle_with(env, event).one())["customer"]["email"].clone();
    assert_eq!(email(TestEvent::new().json(&details())), "ada@example.org");
    assert_eq!(email(without_email()), "c-00042@example.com");
}

#[test]
fn an_order_without_an_address_is_rejected_before_it_is_paid() {
    assert!(settle_with([], without_email()).rejected().starts_with("customer.email: missing"));
    let mut unpayable = details();
    unpayable["customer"]["email"] = "".into();
    unpayable["payment"]["token"] = "tok_unavailable".into();
    assert!(
        settle_with([], TestEvent::new().json(&unpayable)).rejected().starts_with("customer.email: missing")
    );
}

#[test]
fn a_rerun_gives_the_same_transaction_id() {
    let id = |event: TestEvent| settled(event)["transaction_id"].as_str().unwrap().to_owned();
    let event = || TestEvent::new().json(&details()).at("order_details", 3, 7);
    assert_eq!(id(event()), id(event().attempt(2)));
    assert_eq!(id(event()).len(), "tx-".len() + 32);
}

#[test]
fn another_record_gives_another_transaction_id() {
    let id = |event: TestEvent| settled(event)["transaction_id"].to_string();
    let event = || TestEvent::new().json(&details());
    let ids = [
        id(event().at("order_details", 3, 7)),
        id(event().at("order_details", 3, 8)),
        id(event().at("order_details", 4, 7)),
        id(event().at("other", 3, 7)),
        id(with_total(1).at("order_details", 3, 7)),
    ];
    assert_eq!(std::collections::BTreeSet::from(ids.clone()).len(), ids.len());
}

#[test]
fn the_transaction_id_is_pinned() {
    // Ids must not change with a release: a replay over old events has to find what was published.
    let event = TestEvent::new().payload("{}").at("order_details", 3, 7).build();
    assert_eq!(super::transaction_id(&event), "tx-c80aeb1eba575bf98c42f0655d38f4ed");
}

#[test]
fn a_decode_error_names_the_path() {
    let mut details = details();
    details["payment"]["token"] = 5.into();
    let reason = settle_with([], TestEvent::new().json(&details)).rejected();
    assert!(reason.starts_with("payment.token: invalid type: integer `5`"), "{reason}");
    assert!(settle_with([], TestEvent::new().tombstone()).rejected().contains("no payload"));
}

#[test]
fn a_wrong_setting_names_the_variable_and_its_value() {
    let error = Config::new(&Env::from_iter([("DECLINE_OVER_CENTS", "1000 EUR")])).err().unwrap();
    assert!(error.to_string().starts_with(r#"environment variable DECLINE_OVER_CENTS is "1000 EUR": "#));
}
