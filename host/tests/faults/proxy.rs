//! What stands between the hosts and the broker: it passes Kafka's frames on, and can lose, delay or cut them.
//!
//! It knows of the protocol only what it takes to tell which request an answer belongs to: each frame is a length and
//! a body; a request's begins with its API key, version and correlation id, an answer's with that id.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// API keys (kafka.apache.org/protocol).
const METADATA: i16 = 3;
pub(crate) const FIND_COORDINATOR: i16 = 10;
pub(crate) const ADD_OFFSETS_TO_TXN: i16 = 25;
pub(crate) const END_TXN: i16 = 26;
pub(crate) const TXN_OFFSET_COMMIT: i16 = 28;

/// What becomes of the broker's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Each comes up to so much later.
    Slow(Duration),
    /// Every other answer to such a request is lost; the request was carried out. Its connection goes with every
    /// second one that is lost, and with the others it stays, so that the client waits in vain.
    Losing(i16),
    /// All answers to such a request are lost, and no connection is cut.
    Without(i16),
    /// Requests go out at so many bytes a second, of each connection.
    Narrow(u32),
    /// The cluster's brokers are left out of all answers to what the cluster is; these count as lost.
    Nobody,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    broker: u16,
    weather: Mutex<Weather>,
    connections: Mutex<HashMap<u64, [TcpStream; 2]>>,
    /// Answers that `Losing` had in hand.
    met: AtomicU64,
    lost: AtomicU64,
    late: AtomicU64,
    stop: AtomicBool,
}

impl Proxy {
    /// To what listens on this port of loopback, or will.
    pub(crate) fn to(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            broker,
            weather: Mutex::new(Weather::Fair),
            connections: Mutex::default(),
            met: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            late: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        Self { port, shared, accepting: Some(accepting) }
    }

    pub(crate) fn weather(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap() = weather;
    }

    /// Cuts every connection that there is, and gives how many.
    pub(crate) fn cut(&self) -> usize {
        let connections = self.shared.connections.lock().unwrap();
        connections.values().flatten().for_each(hang_up);
        connections.len()
    }

    /// Answers that came late until now.
    pub(crate) fn late(&self) -> u64 {
        self.shared.late.load(Ordering::Relaxed)
    }

    /// Answers that were lost until now.
    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes who accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Ends when it is told to, and waits for the threads of all connections.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    thread::scope(|scope| {
        for (id, client) in (0..).zip(listener.incoming()) {
            if shared.stop.load(Ordering::Relaxed) {
                break;
            }
            // A client whose broker is away is hung up on.
            let (Ok(client), Ok(broker)) = (client, TcpStream::connect(("127.0.0.1", shared.broker))) else {
                continue;
            };
            client.set_nodelay(true).unwrap();
            broker.set_nodelay(true).unwrap();
            let copies = [client.try_clone().unwrap(), broker.try_clone().unwrap()];
            shared.connections.lock().unwrap().insert(id, copies);
            let asked = Arc::new(Mutex::new(HashMap::new()));
            let (from_client, to_client) = (client.try_clone().unwrap(), client);
            let (from_broker, to_broker) = (broker.try_clone().unwrap(), broker);
            scope.spawn({
                let asked = asked.clone();
                move || requests(from_client, to_broker, &asked, &shared.weather)
            });
            scope.spawn(move || {
                let _ = answers(from_broker, &to_client, &asked, shared);
                hang_up(&to_client);
                shared.connections.lock().unwrap().remove(&id);
            });
        }
        shared.connections.lock().unwrap().values().flatten().for_each(hang_up);
    });
}

/// By correlation id.
type Asked = Mutex<HashMap<[u8; 4], i16>>;

fn requests(mut client: TcpStream, mut broker: TcpStream, asked: &Asked, weather: &Mutex<Weather>) {
    while let Ok(frame) = frame(&mut client) {
        let api = i16::from_be_bytes([frame[4], frame[5]]);
        let id = [frame[8], frame[9], frame[10], frame[11]];
        asked.lock().unwrap().insert(id, api);
        let weather = *weather.lock().unwrap();
        if let Weather::Narrow(bytes) = weather {
            thread::sleep(Duration::from_secs_f64(frame.len() as f64 / f64::from(bytes)));
        }
        if broker.write_all(&frame).is_err() {
            break;
        }
    }
    hang_up(&client);
    hang_up(&broker);
}

fn answers(mut broker: TcpStream, mut client: &TcpStream, asked: &Asked, shared: &Shared) -> io::Result<()> {
    loop {
        let frame = frame(&mut broker)?;
        let id = [frame[4], frame[5], frame[6], frame[7]];
        let api = asked.lock().unwrap().remove(&id);
        let weather = *shared.weather.lock().unwrap();
        match weather {
            Weather::Losing(losing) if api == Some(losing) => {
                let met = shared.met.fetch_add(1, Ordering::Relaxed);
                if met.is_multiple_of(2) {
                    shared.lost.fetch_add(1, Ordering::Relaxed);
                    if met.is_multiple_of(4) {
                        return Ok(());
                    }
                    continue;
                }
            }
            Weather::Without(losing) if api == Some(losing) => {
                shared.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Weather::Slow(most) => {
                // As irregular as it need be.
                shared.late.fetch_add(1, Ordering::Relaxed);
                let share = u32::from(id[3].wrapping_mul(37)) + 1;
                thread::sleep(most * share / 256);
            }
            Weather::Nobody if api == Some(METADATA) => {
                shared.lost.fetch_add(1, Ordering::Relaxed);
                client.write_all(&without_brokers(&frame))?;
                continue;
            }
            Weather::Fair
            | Weather::Losing(_)
            | Weather::Without(_)
            | Weather::Narrow(_)
            | Weather::Nobody => {}
        }
        client.write_all(&frame)?;
    }
}

/// Of a Metadata answer of version 9 or later: its length, the correlation id, no tags, the throttle time, the brokers.
fn without_brokers(frame: &[u8]) -> Vec<u8> {
    let brokers = 4 + 4 + 1 + 4;
    let mut rest = brokers + 1;
    for _ in 1..frame[brokers] {
        // A text's length is told with one added.
        let (node, host) = (4, usize::from(frame[rest + 4]));
        let (port, tags) = (4, 1);
        let rack = usize::from(frame[rest + node + host + port]).max(1);
        rest += node + host + port + rack + tags;
    }
    let body = [&frame[4..brokers], &[1], &frame[rest..]].concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// With its length. Every request's is 14 bytes long at least, every answer's 8.
fn frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

fn hang_up(stream: &TcpStream) {
    // It may be gone already.
    let _ = stream.shutdown(Shutdown::Both);
}
