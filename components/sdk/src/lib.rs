//! Write a Wasmill handler as one Rust function.
//!
//! A handler is a WebAssembly component that gets Kafka events and answers with the records to publish.
//! This crate hides the batch, the bindings and the JSON around one function from an [`Event`] to an
//! [`Outcome`]:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use wasmill_sdk::{Event, Failure, Output};
//!
//! #[derive(Deserialize)]
//! struct Reading { sensor: String, celsius: f64 }
//! #[derive(Serialize)]
//! struct Alarm { sensor: String, text: String }
//!
//! wasmill_sdk::handler!(handle);
//!
//! fn handle(event: Event) -> Result<Vec<Output>, Failure> {
//!     let reading: Reading = event.json()?;
//!     if reading.celsius < 80.0 {
//!         return Ok(vec![]);
//!     }
//!     let text = format!("{} °C is too hot", reading.celsius);
//!     Ok(vec![Output::json(&event, &Alarm { sensor: reading.sensor, text })?])
//! }
//!
//! // A handler's tests are plain `cargo test`: see `wasmill_sdk::testing`.
//! use wasmill_sdk::testing::{OutcomeExt, TestEvent, payload};
//!
//! let hot = TestEvent::new().key("boiler").payload(r#"{"sensor": "boiler", "celsius": 93.5}"#);
//! assert_eq!(payload(&handle(hot.build()).one())["text"], "93.5 °C is too hot");
//!
//! let broken = TestEvent::new().payload(r#"{"sensor": "boiler", "celsius": "hot"}"#);
//! assert!(handle(broken.build()).rejected().starts_with("celsius: invalid type"));
//! ```
//!
//! Its `Cargo.toml` says `crate-type = ["cdylib"]`, and
//! `cargo build --release --target wasm32-wasip2` makes the component.
//!
//! What to know:
//!
//! - **Order.** [`Output::json`] keeps the event's key, and so the order of the events of one key.
//! - **Failures.** [`Failure::retry`] is for what may work later, [`Failure::reject`] for what never will:
//!   that event becomes a dead letter. A decode error is a `reject` that names the JSON path.
//! - **Memory.** Each batch runs in a fresh instance: a `static` holds for one batch, no longer. The SDK brings the
//!   allocator; a handler with one of its own takes it with `default-features = false`.
//! - **Configuration** is the environment, which pipeline.toml sets: see [`Env`].
//! - **Output to people.** stdout and stderr become log lines of the host. A panic's message goes there
//!   too, and makes the event a dead letter.

mod env;
mod event;
mod failure;
#[cfg(all(feature = "allocator", target_family = "wasm", not(target_feature = "atomics")))]
mod memory;
mod output;
pub mod testing;

pub use bindings::wasmill::handler::types::{Event, Failure, Header, Output};
pub use env::{Env, EnvError};

/// What became of one event: the records to publish for it, perhaps none, or why it was not handled.
pub type Outcome = Result<Vec<Output>, Failure>;

/// Makes the crate a component whose handler is the given function from [`Event`] to [`Outcome`].
///
/// On other targets than WebAssembly it only checks the function's type, so that tests link anywhere.
#[macro_export]
macro_rules! handler {
    ($handle:path) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;

            impl $crate::bindings::Guest for Component {
                fn handle(events: Vec<$crate::Event>) -> Vec<$crate::Outcome> {
                    $crate::handle_batch(events, $handle)
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);
        };
        #[cfg(not(target_family = "wasm"))]
        const _: fn($crate::Event) -> $crate::Outcome = $handle;
    };
}

/// One outcome for each event, in order: the contract of `handle` in handler.wit.
#[doc(hidden)]
pub fn handle_batch(events: Vec<Event>, handle: impl FnMut(Event) -> Outcome) -> Vec<Outcome> {
    events.into_iter().map(handle).collect()
}

/// What `wit-bindgen` makes of handler.wit; public because [`handler!`] expands to it.
#[doc(hidden)]
#[allow(unsafe_op_in_unsafe_fn, unreachable_pub, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "handler",
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "wasmill_sdk::bindings",
    });
}
