//! Somebody at the dashboard: a host, a browser that shows its page, and what one sees and does there.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::common::host::{Host, Pipeline, until};
use crate::common::{DEADLINE, http, kafka, orders, root};

pub(crate) struct Visit {
    pub(crate) browser: Browser,
    pub(crate) pipeline: Pipeline,
    host: Option<Host>,
    address: String,
    /// Visits to one pipeline of one Kafka, so one after another.
    _turn: MutexGuard<'static, ()>,
}

/// Somebody who opens the dashboard, looks at it without loading it anew, and leaves it as it should be left: it has
/// complained of nothing and asked nobody else for anything.
pub(crate) fn visit(name: &str, stay: impl FnOnce(&mut Visit)) {
    let mut visit = Visit::begin();
    let stayed = catch_unwind(AssertUnwindSafe(|| {
        visit.browser.open(&format!("http://{}/", visit.address));
        visit.browser.run("window.loaded = 'once'");
        visit.shows("all is well");
        stay(&mut visit);
        assert_eq!(visit.browser.run("return window.loaded"), "once");
        assert_eq!(visit.complaints(), [""; 0]);
        visit.asked_nobody_else();
        visit.stop_host();
    }));
    if let Err(failure) = stayed {
        visit.tell(name);
        resume_unwind(failure);
    }
}

impl Visit {
    fn begin() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let browser = Browser::start();
        let pipeline = Pipeline::shipped(|text| text);
        let address = format!("127.0.0.1:{}", kafka::free_port());
        let mut visit = Self { browser, pipeline, host: None, address, _turn: turn };
        visit.start_host();
        visit.screen(1280, 800, false);
        visit
    }

    /// At the address where the page expects it.
    pub(crate) fn start_host(&mut self) {
        let host = Host::start(&self.pipeline, kafka::broker(), "one", &[("WASMILL_LISTEN", &self.address)]);
        self.host.insert(host).ready();
    }

    pub(crate) fn signal_host(&self, name: &str) {
        self.host.as_ref().expect("a host that runs").signal(name);
    }

    pub(crate) fn stop_host(&mut self) {
        let (status, _) = self.host.take().expect("a host that runs").stop("TERM");
        assert!(status.success(), "{status}");
    }

    pub(crate) fn screen(&self, width: u32, height: u32, mobile: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.browser.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// `dark` or `light`, as the system of the user has it.
    pub(crate) fn color_scheme(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.browser.devtools("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// By a link of the page or by an address that somebody has kept.
    pub(crate) fn go(&self, to: &str) {
        self.browser.run(&format!("location.hash = {}", json!(to)));
    }

    /// Waits until the page shows this text.
    pub(crate) fn shows(&self, text: &str) {
        self.until(&format!("{text:?} on the page"), || self.text().contains(text));
    }

    /// All text that one can see.
    pub(crate) fn text(&self) -> String {
        self.browser.run("return document.body.innerText").as_str().expect("text").into()
    }

    /// Waits for the element, clicks it as soon as one can.
    pub(crate) fn click(&self, xpath: &str) {
        let why = Cell::new(String::new());
        let click = || self.browser.find(xpath).and_then(|element| self.browser.click(&element));
        self.until(&format!("click on {xpath}"), || click().map_err(|error| why.set(error)).is_ok());
    }

    /// Fills in the field with this label.
    pub(crate) fn fill(&self, label: &str, text: &str) {
        let fill = || self.browser.find(&field(label)).and_then(|found| self.browser.fill(&found, text));
        self.until(&format!("field {label:?}"), || fill().is_ok());
    }

    /// Waits for the element, and reads what one can see of it.
    pub(crate) fn read(&self, xpath: &str) -> String {
        let mut text = None;
        self.until(xpath, || {
            // It may go again in between: the page lives.
            text = self.browser.find(xpath).and_then(|element| self.browser.text(&element)).ok();
            text.is_some()
        });
        text.and_then(|text| Some(text.as_str()?.to_string())).expect("text")
    }

    /// Asks the page until it says so.
    pub(crate) fn until(&self, what: &str, condition: impl FnMut() -> bool) {
        until(DEADLINE, condition).unwrap_or_else(|()| panic!("no {what}"));
    }

    /// Places an order past the page, and gives its id.
    pub(crate) fn order(&self, quantity: u64) -> String {
        let url = format!("http://{}/orders", self.address);
        let answer = http::post(&url, &orders::order(quantity).to_string(), &[]).expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()["order_id"].as_str().expect("an id").into()
    }

    /// What the browser's console has said since it was last asked.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.browser.log("browser");
        entries.iter().map(|entry| entry["message"].as_str().expect("text").into()).collect()
    }

    fn asked_nobody_else(&self) {
        let own = format!("http://{}/", self.address);
        let mut count = 0;
        for entry in self.browser.log("performance") {
            let entry: Value = serde_json::from_str(entry["message"].as_str().expect("text")).unwrap();
            if entry["message"]["method"] == "Network.requestWillBeSent" {
                let url = entry["message"]["params"]["request"]["url"].as_str().expect("an address");
                assert!(url.starts_with(&own), "asked for {url}");
                count += 1;
            }
        }
        assert!(count > 10, "{count} requests: the log is not what it was");
    }

    /// What there is to see, and what the host says.
    fn tell(&self, name: &str) {
        let file = format!("target/screenshots/failed-{name}.png");
        self.browser.screenshot(&root().join(&file));
        eprintln!("{file} shows this:\n{}\n{:#?}", self.text(), self.complaints());
        eprintln!("{}", self.host.as_ref().map(Host::log).unwrap_or_default());
    }

    /// Into target/screenshots, and with `WASMILL_UPDATE` into the documentation as well.
    pub(crate) fn screenshot(&self, name: &str) {
        let mut folders = vec!["target/screenshots"];
        if std::env::var_os("WASMILL_UPDATE").is_some() {
            folders.push("docs/screenshots");
        }
        for folder in folders {
            self.browser.screenshot(&root().join(folder).join(name).with_extension("png"));
        }
    }
}

pub(crate) fn link(name: &str) -> String {
    format!("//a[normalize-space()='{name}']")
}

pub(crate) fn button(name: &str) -> String {
    format!("//button[normalize-space()='{name}']")
}

/// By its label, as a reader of the screen knows it.
pub(crate) fn field(label: &str) -> String {
    format!("//input[@id=//label[normalize-space()='{label}']/@for]")
}
