//! The smallest HTTP client that tests need: one request, one connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// `None` when nobody answers.
pub(crate) fn get(url: &str) -> Option<Answer> {
    request("GET", url, "", &[])
}

pub(crate) fn post(url: &str, body: &str, headers: &[(&str, &str)]) -> Option<Answer> {
    request("POST", url, body, headers)
}

pub(crate) fn put(url: &str, body: &str) -> Option<Answer> {
    request("PUT", url, body, &[])
}

pub(crate) fn delete(url: &str) -> Option<Answer> {
    request("DELETE", url, "", &[])
}

pub(crate) fn request(method: &str, url: &str, body: &str, headers: &[(&str, &str)]) -> Option<Answer> {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let extra: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n{extra}\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    // A server may refuse a large body before it has read it all.
    let _ = stream.write_all(body.as_bytes());
    let (mut stream, mut head, mut body) = (BufReader::new(stream), String::new(), Vec::new());
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.trim_end().to_string();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // Some servers say "close" and don't: chromedriver.
    let _ = stream.take(told_length(&head).unwrap_or(u64::MAX)).read_to_end(&mut body);
    let mut body = String::from_utf8(body).ok()?;
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunk(&body)?;
    }
    Some(Answer { status, head, body })
}

fn told_length(head: &str) -> Option<u64> {
    let named = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok();
    head.lines().find_map(named)
}

fn unchunk(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(rest.get(..size)?);
        body = rest.get(size + 2..)?;
    }
}
