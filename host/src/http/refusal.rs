//! A write that was sound and yet not accepted, as its client sees it: whether anything was published, and what
//! to do now.

use axum::http::StatusCode;

use super::ingress::SubmitError;
use super::problem::Problem;
use crate::log::PublishError;

const NOTHING_BY_THIS: &str =
    "This request published nothing. What an earlier one with the same Idempotency-Key did stands.";

/// What the broker said goes to the log, not to the client: it may name hosts and users.
pub(super) fn refusal(error: SubmitError) -> Problem {
    match &error {
        SubmitError::Publish(PublishError::Overloaded)
        | SubmitError::KeyTaken
        | SubmitError::Rebuilding
        | SubmitError::UnderWay
        | SubmitError::Away => {
            tracing::debug!(%error, "a request was not accepted");
        }
        SubmitError::Publish(PublishError::Unavailable(_)) => {
            tracing::warn!(%error, "it is not known whether a request's record was written");
        }
        SubmitError::Publish(PublishError::TooLarge(_) | PublishError::Refused(_))
        | SubmitError::Unclaimed(_) => {
            tracing::warn!(%error, "a request was not accepted")
        }
    }
    match error {
        SubmitError::Publish(PublishError::Unavailable(_)) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unknown-outcome",
            "The broker did not acknowledge in time",
        )
        .detail(
            "The record may have been written or not. Repeating the request with the same Idempotency-Key and \
             body is safe; without one, or with another, it may have its effect twice.",
        )
        .retry_after(5),
        SubmitError::Publish(PublishError::TooLarge(_)) => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "record-too-large", "The broker takes no record this large")
                .detail("Nothing was published.")
        }
        SubmitError::Publish(PublishError::Overloaded) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too much is on its way to the broker")
                .detail("Nothing was published.")
                .retry_after(1)
        }
        SubmitError::Publish(PublishError::Refused(_)) => {
            Problem::new(StatusCode::BAD_GATEWAY, "refused", "The broker refused the record")
                .detail("Nothing was published. The host's log says why.")
        }
        SubmitError::KeyTaken => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "This Idempotency-Key belongs to another request",
        )
        .detail("Its first request had another method, id or body. Take a new key for a new request."),
        SubmitError::Away => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "broker-away", "The broker can't be reached")
                .detail(NOTHING_BY_THIS)
                .retry_after(5)
        }
        SubmitError::Unclaimed(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-claimed",
            "The broker did not answer in time",
        )
        .detail(NOTHING_BY_THIS)
        .retry_after(5),
        SubmitError::UnderWay => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "under-way",
            "Another request with this Idempotency-Key may be under way",
        )
        .detail("This request published nothing. A repetition finds out what became of the other one.")
        .retry_after(5),
        SubmitError::Rebuilding => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "rebuilding",
            "Idempotency keys are still being read back from the topics",
        )
        .detail(NOTHING_BY_THIS)
        .retry_after(2),
    }
}
