//! order_details → order_confirmed or order_declined: takes a simulated payment, and adds what the
//! confirmation needs: a transaction id and the customer's e-mail address.
//!
//! It holds no state and calls no one, so a re-run of an event gives the same answer, id included.

mod payment;

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use wasmill_sdk::{Env, EnvError, Event, Failure, Outcome, Output};

use payment::{Decision, DeclineReason, Gateway};

wasmill_sdk::handler!(handle);

const DECLINED_TOPIC: &str = "order_declined";

/// What pipeline.toml sets. Amounts are in the minor unit of the order's currency.
struct Config {
    gateway: Gateway,
    /// `EMAIL_TEMPLATE`, such as `{customer_id}@example.com`: the address of a customer who gave none.
    email_template: Option<String>,
}

impl Config {
    fn new(env: &Env) -> Result<Self, EnvError> {
        Ok(Self {
            gateway: Gateway {
                decline_over_cents: env.get("DECLINE_OVER_CENTS")?,
                recovers_after: env.get("RECOVERS_AFTER")?.unwrap_or(3),
            },
            email_template: env.get("EMAIL_TEMPLATE")?,
        })
    }
}

/// What this hop reads; the rest is passed on as it stands.
#[derive(Deserialize)]
struct OrderDetails<'a> {
    #[serde(borrow)]
    customer: Customer<'a>,
    total_cents: u64,
    #[serde(borrow)]
    payment: Option<Payment<'a>>,
    #[serde(borrow)]
    order_id: &'a RawValue,
    #[serde(borrow)]
    status: &'a RawValue,
    #[serde(borrow)]
    items: &'a RawValue,
    #[serde(borrow)]
    lines: &'a RawValue,
    #[serde(borrow)]
    currency: &'a RawValue,
    #[serde(borrow)]
    total: &'a RawValue,
    #[serde(borrow)]
    placed_at_us: Option<&'a RawValue>,
    #[serde(borrow)]
    language: Option<&'a RawValue>,
}

#[derive(Deserialize, Serialize)]
struct Customer<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    email: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Serialize)]
struct Payment<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    token: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Settled<'a> {
    order_id: &'a RawValue,
    transaction_id: String,
    payment_status: PaymentStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    decline_reason: Option<DeclineReason>,
    status: &'a RawValue,
    customer: Customer<'a>,
    items: &'a RawValue,
    lines: &'a RawValue,
    currency: &'a RawValue,
    total_cents: u64,
    total: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    placed_at_us: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<Payment<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum PaymentStatus {
    Approved,
    Declined,
}

fn handle(event: Event) -> Outcome {
    static CONFIG: LazyLock<Result<Config, EnvError>> = LazyLock::new(|| Config::new(&Env::of_process()));
    settle(&event, CONFIG.as_ref()?)
}

fn settle(event: &Event, config: &Config) -> Outcome {
    let order: OrderDetails<'_> = event.json()?;
    // Before the payment: nobody pays for an order that can't be confirmed.
    let email = email(&order.customer, config)?;
    let token = order.payment.as_ref().and_then(|payment| payment.token.as_deref());
    let decision = config.gateway.charge(token, order.total_cents, event.attempt)?;
    let (payment_status, decline_reason) = match decision {
        Decision::Approved => (PaymentStatus::Approved, None),
        Decision::Declined(reason) => (PaymentStatus::Declined, Some(reason)),
    };
    let settled = Settled {
        order_id: order.order_id,
        transaction_id: transaction_id(event),
        payment_status,
        decline_reason,
        status: order.status,
        customer: Customer { email: Some(email), ..order.customer },
        items: order.items,
        lines: order.lines,
        currency: order.currency,
        total_cents: order.total_cents,
        total: order.total,
        placed_at_us: order.placed_at_us,
        payment: order.payment,
        language: order.language,
    };
    let output = Output::json(event, &settled)?;
    Ok(vec![match decision {
        Decision::Approved => output,
        Decision::Declined(_) => output.topic(DECLINED_TOPIC),
    }])
}

fn email<'a>(customer: &Customer<'a>, config: &Config) -> Result<Cow<'a, str>, Failure> {
    if let Some(email) = customer.email.as_ref().filter(|email| !email.is_empty()) {
        return Ok(email.clone());
    }
    let Some(template) = &config.email_template else {
        let reason =
            "customer.email: missing, and EMAIL_TEMPLATE is not set to derive it from the customer's id";
        return Err(Failure::reject(reason));
    };
    Ok(template.replace("{customer_id}", &customer.id).into())
}

/// The same for every run over the same record, and another one for any other record: an order that is
/// updated is charged anew.
fn transaction_id(event: &Event) -> String {
    let mut hash = Sha256::new();
    hash.update(&event.topic);
    // A topic's name has no NUL, and what follows has a fixed width: no two records give the same bytes.
    hash.update([0]);
    hash.update(event.partition.to_be_bytes());
    hash.update(event.offset.to_be_bytes());
    // Positions start again when a topic is made anew; what stands there is then another order.
    hash.update(event.payload.as_deref().unwrap_or_default());
    let digest = hash.finalize();
    let id = u128::from_be_bytes(std::array::from_fn(|byte| digest[byte]));
    format!("tx-{id:032x}")
}

#[cfg(test)]
mod tests;
