//! The mail sink: each event of its topics becomes one e-mail, at least once.
//!
//! A shard runs a [`MailSink`] like any other handler, so retries with backoff, dead letters and offsets
//! are the shard's; this room only says what became of each mail. A mail that was accepted and is sent
//! again, because the process died before its offset was committed, has the same Message-ID and the same
//! bytes, so that a mail server or a reader can tell.

mod folder;
mod message;
mod replies;
mod smtp;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use miette::Diagnostic;
use serde_json::json;
use thiserror::Error;

use crate::config::plan::{MailPlan, SinkPlan};
use crate::event::{Call, Event, Failure, FailureKind, Handler, LONG_BATCH, Outcome, Output};

use folder::Folder;
use message::Mail;
use smtp::Smtp;

/// What receipts and dead letters name where those of handlers name a component's digest.
pub const VERSION: &str = concat!("mail/", env!("CARGO_PKG_VERSION"));

/// Sends mails one after another, in the order of their events.
///
/// Blocking: it belongs on its shard's thread, outside of any async runtime. One call takes at most
/// [`LONG_BATCH`] and a send's timeout, and hardly more than the timeout while nothing gets through.
pub struct MailSink {
    group: String,
    receipts: Option<Arc<str>>,
    transport: Transport,
    /// Hears of each mail that was tried.
    tell: Box<dyn FnMut(&Delivery)>,
    /// Of the last batch.
    calls: Vec<Call>,
}

/// One try to deliver a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub fate: Fate,
    pub took: Duration,
    /// That were opened for it.
    pub connections: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Sent,
    /// Not now, for a reason of its own.
    Deferred,
    /// Not now, and no other one either: no server, no answer, no login.
    Blocked,
    /// Never.
    Refused,
}

enum Transport {
    Folder(Folder),
    Smtp(Box<Smtp>),
}

/// Why a sink can't start. What fails later is an event's [`Failure`].
#[derive(Debug, Error, Diagnostic)]
pub enum MailError {
    #[error("the mail folder {} can't be made: {source}", path.display())]
    #[diagnostic(help("give the sink's `smtp` a folder that this user may write to"))]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("TLS can't be set up: {0}")]
    Tls(lettre::transport::smtp::Error),
    #[error("the mail sender's event loop can't start: {0}")]
    Runtime(std::io::Error),
}

/// What became of a mail that was not accepted.
enum Undelivered {
    /// Not now, for a reason of its own: the next mail may go through.
    Later(String),
    /// Not now, and neither will the next one: no server, no answer, no login.
    Blocked(String),
    /// Never.
    Refused(String),
}

impl MailSink {
    pub fn new(plan: &SinkPlan, tell: impl FnMut(&Delivery) + 'static) -> Result<Self, MailError> {
        let transport = match &plan.mail {
            MailPlan::Folder(path) => Transport::Folder(Folder::new(path)?),
            MailPlan::Smtp(smtp) => Transport::Smtp(Box::new(Smtp::new(smtp, plan.timeout)?)),
        };
        let (group, receipts) = (plan.group.clone(), plan.receipts.clone());
        Ok(Self { group, receipts, transport, tell: Box::new(tell), calls: Vec::new() })
    }

    fn deliver(&mut self, event: &Event, blocked: &mut Option<String>) -> Outcome {
        let mail = Mail::read(event, &self.group)
            .map_err(|fault| Failure::new(FailureKind::Reject, fault.to_string()))?;
        if let Some(reason) = blocked {
            let message = format!("not tried, for an earlier mail of the batch met this: {reason}");
            return Err(Failure::new(FailureKind::Retry, message));
        }
        let started = Instant::now();
        let (sent, connections) = match &mut self.transport {
            Transport::Folder(folder) => (folder.send(&mail), 0),
            Transport::Smtp(smtp) => {
                let (before, began) = (smtp.connections(), SystemTime::now());
                let sent = smtp.send(&mail);
                self.calls.push(smtp.call(&event.position, began, &sent));
                (sent, smtp.connections() - before)
            }
        };
        let fate = match &sent {
            Ok(_) => Fate::Sent,
            Err(Undelivered::Later(_)) => Fate::Deferred,
            Err(Undelivered::Blocked(_)) => Fate::Blocked,
            Err(Undelivered::Refused(_)) => Fate::Refused,
        };
        (self.tell)(&Delivery { fate, took: started.elapsed(), connections });
        match sent {
            Ok(response) => Ok(self.receipt(event, &mail, &response)),
            Err(Undelivered::Later(reason)) => Err(Failure::new(FailureKind::Retry, reason)),
            Err(Undelivered::Refused(reason)) => Err(Failure::new(FailureKind::Reject, reason)),
            Err(Undelivered::Blocked(reason)) => {
                *blocked = Some(reason.clone());
                Err(Failure::new(FailureKind::Retry, reason))
            }
        }
    }

    fn receipt(&self, event: &Event, mail: &Mail, response: &str) -> Vec<Output> {
        let receipt = |topic: &Arc<str>| Output {
            topic: Some(topic.to_string()),
            key: event.key.clone(),
            payload: Some(json!({ "message_id": mail.id, "response": response }).to_string().into()),
            headers: Vec::new(),
        };
        self.receipts.iter().map(receipt).collect()
    }
}

impl Handler for MailSink {
    fn handle(&mut self, events: &[&Event], _attempts: &[u32]) -> Vec<Outcome> {
        self.calls.clear();
        let mut blocked = None;
        let until = Instant::now() + LONG_BATCH;
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            // While nothing gets through, the rest costs no time, and is to wait for its retry like the others.
            if !outcomes.is_empty() && blocked.is_none() && Instant::now() > until {
                break;
            }
            let outcome = self.deliver(event, &mut blocked);
            let later = outcome.as_ref().is_err_and(|failure| failure.kind == FailureKind::Retry);
            outcomes.push(outcome);
            // A later mail of its key would be sent before it, and then again behind it.
            if later && blocked.is_none() {
                break;
            }
        }
        outcomes
    }

    fn digest(&self) -> Arc<str> {
        VERSION.into()
    }

    fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    /// A mail that is out is out. A file is written again as it was.
    fn can_be_repeated(&self) -> bool {
        matches!(self.transport, Transport::Folder(_))
    }
}
