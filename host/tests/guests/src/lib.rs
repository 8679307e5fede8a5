//! What every guest here starts with: the bindings of wit/handler.wit, and a batch that is handled event by
//! event. It doesn't use the guest crate of components/sdk, so that it can break what that crate holds.

/// Made by wit-bindgen.
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "handler",
        pub_export_macro: true,
        default_bindings_module: "guests::bindings",
    });
}

pub use bindings::wasmill::handler::types::{Event, Failure, Header, Output};

/// What a guest makes of one event.
pub type Answer = Result<Vec<Output>, Failure>;

/// Exports `handle`, made from a `fn(Vec<Event>) -> Vec<Answer>`.
#[macro_export]
macro_rules! batch_handler {
    ($handle:path) => {
        struct Component;

        impl $crate::bindings::Guest for Component {
            fn handle(events: Vec<$crate::Event>) -> Vec<$crate::Answer> {
                $handle(events)
            }
        }

        $crate::bindings::export!(Component with_types_in $crate::bindings);
    };
}

/// Exports `handle`, made from a `fn(Event) -> Answer`.
#[macro_export]
macro_rules! event_handler {
    ($handle:path) => {
        fn each(events: Vec<$crate::Event>) -> Vec<$crate::Answer> {
            events.into_iter().map($handle).collect()
        }

        $crate::batch_handler!(each);
    };
}

/// The event itself, published to the default topic.
pub fn same(event: Event) -> Output {
    Output { topic: None, key: event.key, payload: event.payload, headers: event.headers }
}

/// A line of text, published to the default topic.
pub fn text(text: impl Into<String>) -> Output {
    Output { topic: None, key: None, payload: Some(text.into().into_bytes()), headers: Vec::new() }
}

/// The event's payload as text; "" for a tombstone.
pub fn payload(event: &Event) -> &str {
    std::str::from_utf8(event.payload.as_deref().unwrap_or_default()).unwrap_or("not text")
}
