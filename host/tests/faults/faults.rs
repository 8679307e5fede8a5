//! What fails, and how one sees that it is over.

use std::thread;
use std::time::{Duration, Instant};

use crate::mill::Mill;
use crate::proxy::{ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT, Weather};

pub(crate) struct Episode {
    /// From the end of the fault, or from its beginning where others are to take over, until everything came out that
    /// had been placed, and what was placed in the second after it.
    pub(crate) recovery: Duration,
    /// What a host took that was told to stop amid the fault.
    pub(crate) shutdown: Option<Duration>,
}

pub(crate) type Fault = (&'static str, fn(&mut Mill) -> Episode);

pub(crate) const FAULTS: [Fault; 14] = [
    ("host killed, started again at once", killed_and_started),
    ("host killed, its peer takes over", killed),
    ("host stopped for longer than its session", stopped_for_long),
    ("broker stopped in good order", broker_stopped),
    ("broker killed", broker_killed),
    ("broker that answers nothing", black_hole),
    ("connections cut, again and again", connections_cut),
    ("answers late by up to 300 ms", answers_late),
    ("answers to EndTxn lost", |mill| answers_lost(mill, END_TXN)),
    ("answers to AddOffsetsToTxn lost", |mill| answers_lost(mill, ADD_OFFSETS_TO_TXN)),
    ("answers to TxnOffsetCommit lost", |mill| answers_lost(mill, TXN_OFFSET_COMMIT)),
    ("three hosts come and go", hosts_come_and_go),
    ("disk full under the mail folder", disk_full),
    ("clock jumps by hours, there and back", clock_jumps),
];

/// A static member's (`session.timeout.ms` is 10 s), and some.
const LONGER_THAN_A_SESSION: Duration = Duration::from_secs(13);

fn killed_and_started(mill: &mut Mill) -> Episode {
    mill.kill_host("one");
    mill.start_host("one");
    let recovery = mill.recovers();
    // In the midst of its start.
    mill.kill_host("one");
    mill.start_host("one");
    Episode { recovery, shutdown: Some(mill.stop_host("one")) }
}

fn killed(mill: &mut Mill) -> Episode {
    mill.kill_host("one");
    let recovery = mill.recovers();
    Episode { recovery, shutdown: Some(mill.stop_host("two")) }
}

/// What it did before the stop it may try to finish after it: it must be fenced.
fn stopped_for_long(mill: &mut Mill) -> Episode {
    mill.host("one").signal("STOP");
    let since = Instant::now();
    let recovery = mill.recovers();
    thread::sleep(LONGER_THAN_A_SESSION.saturating_sub(since.elapsed()));
    mill.host("one").signal("CONT");
    mill.recovers();
    Episode { recovery, shutdown: Some(mill.stop_host("one")) }
}

fn broker_stopped(mill: &mut Mill) -> Episode {
    mill.broker.take().unwrap().stop();
    broker_comes_back(mill)
}

fn broker_killed(mill: &mut Mill) -> Episode {
    mill.broker.take().unwrap().kill();
    broker_comes_back(mill)
}

fn broker_comes_back(mill: &mut Mill) -> Episode {
    let shutdown = mill.stop_host("two");
    mill.start_broker();
    mill.start_host("two");
    Episode { recovery: mill.recovers(), shutdown: Some(shutdown) }
}

fn black_hole(mill: &mut Mill) -> Episode {
    mill.broker.as_ref().unwrap().signal("STOP");
    let since = Instant::now();
    let shutdown = mill.stop_host("two");
    thread::sleep(LONGER_THAN_A_SESSION.saturating_sub(since.elapsed()));
    mill.broker.as_ref().unwrap().signal("CONT");
    Episode { recovery: mill.recovers(), shutdown: Some(shutdown) }
}

fn connections_cut(mill: &mut Mill) -> Episode {
    let mut cut = 0;
    for _ in 0..15 {
        cut += mill.proxy.cut();
        thread::sleep(Duration::from_millis(300));
    }
    assert!(cut > 15, "{cut} connections were cut, which shows nothing");
    let shutdown = mill.stop_host("two");
    Episode { recovery: mill.recovers(), shutdown: Some(shutdown) }
}

fn answers_late(mill: &mut Mill) -> Episode {
    mill.proxy.weather(Weather::Slow(Duration::from_millis(300)));
    thread::sleep(Duration::from_secs(6));
    let shutdown = mill.stop_host("two");
    mill.proxy.weather(Weather::Fair);
    assert!(mill.proxy.late() > 100, "{} answers were late, which shows nothing", mill.proxy.late());
    Episode { recovery: mill.recovers(), shutdown: Some(shutdown) }
}

fn answers_lost(mill: &mut Mill, to: i16) -> Episode {
    let before = mill.proxy.lost();
    mill.proxy.weather(Weather::Losing(to));
    thread::sleep(Duration::from_secs(8));
    let shutdown = mill.stop_host("two");
    mill.proxy.weather(Weather::Fair);
    let lost = mill.proxy.lost() - before;
    assert!(lost > 2, "{lost} answers were lost, which shows nothing");
    Episode { recovery: mill.recovers(), shutdown: Some(shutdown) }
}

/// Each comes while another one is still at it.
fn hosts_come_and_go(mill: &mut Mill) -> Episode {
    let mut longest = Duration::ZERO;
    for round in 0..4 {
        mill.start_host("three");
        thread::sleep(Duration::from_millis(1000 + 700 * round));
        longest = longest.max(mill.stop_host("two"));
        mill.start_host("two");
        thread::sleep(Duration::from_millis(2500 - 600 * round));
        longest = longest.max(mill.stop_host("three"));
    }
    Episode { recovery: mill.recovers(), shutdown: Some(longest) }
}

fn disk_full(mill: &mut Mill) -> Episode {
    mill.preload.disk_full(true);
    thread::sleep(Duration::from_secs(6));
    let shutdown = mill.stop_host("two");
    mill.preload.disk_full(false);
    assert!(mill.preload.done()[0] > 0, "the disk was not full");
    Episode { recovery: mill.recovers(), shutdown: Some(shutdown) }
}

/// Apache Kafka refuses records from more than an hour ahead (`message.timestamp.after.max.ms`).
fn clock_jumps(mill: &mut Mill) -> Episode {
    for hours in [-3, 0, 3] {
        mill.preload.clock_ahead(hours * 3600);
        thread::sleep(Duration::from_secs(3));
    }
    let shutdown = mill.stop_host("two");
    mill.preload.clock_ahead(0);
    assert!(mill.preload.done()[1] > 0, "the clock did not jump");
    Episode { recovery: mill.recovers(), shutdown: Some(shutdown) }
}
