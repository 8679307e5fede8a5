//! order_confirmed, order_declined → emails: writes the e-mail that tells a customer what became of an
//! order. The mail sink sends what it finds in `to`, `from`, `subject`, `text` and `html`; the rest of the
//! record is for those who follow the order.
//!
//! Everything in an order comes from outside, so nothing of it is trusted: what goes into a mail header is
//! checked and what goes into HTML is escaped.

mod address;
mod body;
mod language;

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use wasmill_sdk::{Env, EnvError, Event, Failure, Outcome, Output};

use language::{Language, Notice};

wasmill_sdk::handler!(handle);

/// What pipeline.toml sets.
struct Config {
    /// `MAIL_FROM`.
    from: Sender,
}

impl Config {
    fn new(env: &Env) -> Result<Self, EnvError> {
        Ok(Self { from: env.get("MAIL_FROM")?.unwrap_or_default() })
    }
}

/// With or without a name: `Pizzeria <orders@example.com>`.
struct Sender(String);

impl Default for Sender {
    fn default() -> Self {
        Self("orders@example.com".into())
    }
}

impl FromStr for Sender {
    type Err = &'static str;

    fn from_str(sender: &str) -> Result<Self, Self::Err> {
        address::check_header(sender)?;
        // `Name <address>`, or the address alone.
        let address =
            sender.strip_suffix('>').and_then(|start| start.rsplit_once('<')).map_or(sender, |(_, it)| it);
        address::check_recipient(address)?;
        Ok(Self(sender.into()))
    }
}

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow)]
    order_id: Cow<'a, str>,
    #[serde(borrow)]
    transaction_id: Cow<'a, str>,
    payment_status: PaymentStatus,
    #[serde(borrow)]
    decline_reason: Option<Cow<'a, str>>,
    status: Status,
    #[serde(borrow)]
    customer: Customer<'a>,
    #[serde(borrow)]
    lines: Vec<Line<'a>>,
    #[serde(borrow)]
    currency: Cow<'a, str>,
    #[serde(borrow)]
    total: Cow<'a, str>,
    placed_at_us: Option<u64>,
    #[serde(borrow)]
    language: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PaymentStatus {
    Approved,
    Declined,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Created,
    Updated,
}

#[derive(Deserialize, Serialize)]
struct Customer<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    email: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    sku: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    quantity: u64,
    #[serde(borrow)]
    line_total: Cow<'a, str>,
}

#[derive(Serialize)]
struct Email<'a> {
    to: &'a str,
    from: &'a str,
    subject: String,
    text: String,
    html: String,
    language: &'a str,
    notice: Notice,
    order_id: &'a str,
    transaction_id: &'a str,
    customer: &'a Customer<'a>,
    currency: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    placed_at_us: Option<u64>,
}

fn handle(event: Event) -> Outcome {
    static CONFIG: LazyLock<Result<Config, EnvError>> = LazyLock::new(|| Config::new(&Env::of_process()));
    compose(&event, CONFIG.as_ref()?)
}

fn compose(event: &Event, config: &Config) -> Outcome {
    let order: Order<'_> = event.json()?;
    let notice = match (&order.payment_status, &order.status) {
        (PaymentStatus::Declined, Status::Created | Status::Updated) => Notice::Declined,
        (PaymentStatus::Approved, Status::Created) => Notice::Confirmed,
        (PaymentStatus::Approved, Status::Updated) => Notice::Updated,
    };
    let language = Language::of(order.language.as_deref());
    let reject = |path: &str, fault: &str| Failure::reject(format!("{path}: {fault}"));
    address::check_recipient(&order.customer.email).map_err(|fault| reject("customer.email", fault))?;
    // All of the subject that comes from outside.
    address::check_header(&order.order_id).map_err(|fault| reject("order_id", fault))?;
    let email = Email {
        to: &order.customer.email,
        from: &config.from.0,
        subject: language.subject(notice, &order.order_id),
        text: body::text(language, notice, &order),
        html: body::html(language, notice, &order),
        language: language.code,
        notice,
        order_id: &order.order_id,
        transaction_id: &order.transaction_id,
        customer: &order.customer,
        currency: &order.currency,
        placed_at_us: order.placed_at_us,
    };
    Ok(vec![Output::json(event, &email)?])
}

#[cfg(test)]
mod tests;
