//! Wants the network, which the world doesn't have.

use std::io::Write;
use std::net::TcpStream;

use guests::{Answer, Event, text};

fn connect(_: Event) -> Answer {
    let sent = TcpStream::connect("127.0.0.1:9").and_then(|mut stream| stream.write_all(b"secret"));
    Ok(vec![text(format!("sent {}", sent.is_ok()))])
}

guests::event_handler!(connect);
