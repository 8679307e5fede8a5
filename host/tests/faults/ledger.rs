//! What the topics show, read as it is committed, against what was placed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmill::event::headers::SOURCE;
use wasmill::event::{Event, Position};
use wasmill::log::kafka::Start;

use crate::common::orders::{cluster, number, text};

type Topic = (&'static str, fn(u64) -> bool);

/// What comes of each placed order, by topic: of which numbers of a key there is a record.
const TOPICS: [Topic; 6] = [
    ("order_details", |_| true),
    ("order_confirmed", |_| true),
    (EMAILS, |_| true),
    (RECEIPTS, |_| true),
    ("flaky_out", |number| !is_rejected(number)),
    ("flaky.dlq", is_rejected),
];
const EMAILS: &str = "emails";
/// Their payloads don't tell the number, but which record they are of.
const RECEIPTS: &str = "emails_sent";

/// As tests/guests/examples/flaky.rs has it.
fn is_rejected(number: u64) -> bool {
    number.is_multiple_of(20)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) out_of_order: u64,
}

impl Faults {
    pub(crate) fn since(&self, before: &Self) -> Self {
        let Self { lost, duplicated, out_of_order } = before;
        Self {
            lost: self.lost.saturating_sub(*lost),
            duplicated: self.duplicated - duplicated,
            out_of_order: self.out_of_order - out_of_order,
        }
    }

    pub(crate) fn add(&mut self, more: &Self) {
        let Self { lost, duplicated, out_of_order } = more;
        self.lost += lost;
        self.duplicated += duplicated;
        self.out_of_order += out_of_order;
    }
}

/// Follows the topics on a thread of its own until it is dropped.
pub(crate) struct Ledger {
    book: Arc<Mutex<Book>>,
    stop: Arc<AtomicBool>,
    reading: Option<JoinHandle<()>>,
}

/// Of one topic, by key, in the order of the topic.
type Numbers = BTreeMap<String, Vec<u64>>;

#[derive(Default)]
struct Book {
    topics: HashMap<String, Numbers>,
    /// Of the e-mails, by position.
    emails: HashMap<Position, u64>,
    /// Receipts that were read before what they are of.
    early: Vec<Event>,
}

impl Ledger {
    pub(crate) fn follow(brokers: &str) -> Self {
        let (book, stop) = (Arc::<Mutex<Book>>::default(), Arc::<AtomicBool>::default());
        let names: Vec<Arc<str>> = TOPICS.iter().map(|(name, _)| (*name).into()).collect();
        let mut tail = cluster(brokers).tail(&names, &Start::Beginning).unwrap();
        let reading = thread::spawn({
            let (book, stop) = (book.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    // While the broker is away there is nothing to read.
                    let events = tail.poll(1000, Duration::from_millis(20)).unwrap_or_default();
                    book.lock().unwrap().enter(events);
                }
            }
        });
        Self { book, stop, reading: Some(reading) }
    }

    /// Everything that is there now, read at once.
    pub(crate) fn read(brokers: &str) -> Self {
        let mut book = Book::default();
        for (topic, _) in TOPICS {
            crate::common::orders::read_each(brokers, topic, |event| book.enter(vec![event]));
        }
        Self { book: Arc::new(Mutex::new(book)), stop: Arc::default(), reading: None }
    }

    /// Whether the newest of these orders have come out of every topic.
    pub(crate) fn has(&self, placed: &BTreeMap<String, u64>) -> bool {
        self.missing(placed).is_none()
    }

    /// The first topic and key whose newest order isn't there.
    pub(crate) fn missing(&self, placed: &BTreeMap<String, u64>) -> Option<String> {
        let book = self.book.lock().unwrap();
        TOPICS.iter().find_map(|(topic, expected)| {
            let numbers = book.topics.get(*topic);
            placed.iter().find_map(|(key, &placed)| {
                let newest = (1..=placed).rev().find(|&number| expected(number))?;
                let seen = numbers.and_then(|numbers| numbers.get(key)?.last().copied()).unwrap_or(0);
                (seen < newest).then(|| format!("{topic}: {key} is at {seen} of {newest}"))
            })
        })
    }

    /// Where the first order of some key is lost, in each topic, for people.
    pub(crate) fn first_lost(&self, placed: &BTreeMap<String, u64>) -> String {
        let book = self.book.lock().unwrap();
        let none = Vec::new();
        let lost = TOPICS.iter().flat_map(|(topic, expected)| {
            let (book, none) = (&book, &none);
            placed.iter().filter_map(move |(key, &placed)| {
                let numbers = book.topics.get(*topic).and_then(|numbers| numbers.get(key)).unwrap_or(none);
                let lost: Vec<u64> =
                    (1..=placed).filter(|number| expected(*number) && !numbers.contains(number)).collect();
                let (first, last) = (lost.first()?, lost.last()?);
                Some(format!("\n          {topic}: {key} from {first} to {last}, {} of them", lost.len()))
            })
        });
        lost.take(40).collect()
    }

    /// Since the beginning.
    pub(crate) fn faults(&self, placed: &BTreeMap<String, u64>) -> Faults {
        let book = self.book.lock().unwrap();
        let none = Numbers::new();
        let mut faults = Faults::default();
        for (topic, expected) in TOPICS {
            let numbers = book.topics.get(topic).unwrap_or(&none);
            for (key, &placed) in placed {
                let of_key = numbers.get(key).map(Vec::as_slice).unwrap_or_default();
                let seen: HashSet<u64> = of_key.iter().copied().collect();
                let lost = (1..=placed).filter(|number| expected(*number) && !seen.contains(number));
                faults.lost += lost.count() as u64;
                // What should be in no such topic is one too many.
                let strange = seen.iter().filter(|&&number| !expected(number)).count();
                faults.duplicated += (of_key.len() - seen.len() + strange) as u64;
                faults.out_of_order += of_key.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
            }
        }
        faults
    }

    pub(crate) fn emails(&self) -> usize {
        self.book.lock().unwrap().emails.len()
    }
}

impl Book {
    fn enter(&mut self, events: Vec<Event>) {
        let early = std::mem::take(&mut self.early);
        for event in early.into_iter().chain(events) {
            let number = match &*event.position.topic {
                RECEIPTS => {
                    let of: Position = text(&event, SOURCE).parse().unwrap();
                    let Some(number) = self.emails.get(&of) else {
                        self.early.push(event);
                        continue;
                    };
                    *number
                }
                _ => number(&event),
            };
            let topic = event.position.topic.to_string();
            if topic == EMAILS {
                self.emails.insert(event.position, number);
            }
            let key = String::from_utf8(event.key.unwrap().to_vec()).unwrap();
            self.topics.entry(topic).or_default().entry(key).or_default().push(number);
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}
