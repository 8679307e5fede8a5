//! A real Chromium, driven as a user drives it: W3C WebDriver, and of Chromium's own protocol what that lacks.
//!
//! By hand, since a command is no more than a POST of JSON. The crates that know them all bring an asynchronous HTTP
//! client or the whole of Chromium's protocol, and up to a minute of compiling.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::common::http;

/// Chromedriver, which ends with this script, and that with its standard input: with the test process, however that dies.
const DRIVER: &str = "chromedriver --port=0 & exec >/dev/null; cat; kill $!";
const READY: &str = "was started successfully on port ";
const MISSING: &str =
    "no Chromium, or no driver of it: install both (Debian: apt install chromium chromium-driver)";

pub(crate) struct Browser {
    driver: Child,
    /// The session's address.
    session: String,
}

/// What the driver answered: a value, or why there is none.
pub(crate) type Answer = Result<Value, String>;

pub(crate) struct Element(String);

impl Browser {
    pub(crate) fn start() -> Self {
        let mut driver = Command::new("sh")
            .args(["-c", DRIVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let port = BufReader::new(driver.stdout.take().expect("a pipe"))
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once(READY)?.1.trim_end_matches('.').to_string()))
            .expect(MISSING);
        let mut browser = Self { driver, session: format!("http://127.0.0.1:{port}/session") };
        let made = browser.post("", json!({"capabilities": {"alwaysMatch": capabilities()}}));
        let made = made.unwrap_or_else(|why| panic!("{MISSING}\n{why}"));
        browser.session = format!("{}/{}", browser.session, made["sessionId"].as_str().unwrap());
        browser
    }

    pub(crate) fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url })).unwrap();
    }

    /// The first element that an XPath leads to.
    pub(crate) fn find(&self, xpath: &str) -> Result<Element, String> {
        self.post("/element", json!({"using": "xpath", "value": xpath})).map(|found| reference(&found))
    }

    pub(crate) fn text(&self, element: &Element) -> Answer {
        self.get(&format!("/element/{}/text", element.0))
    }

    /// What a reader of the screen calls the element that has the focus.
    pub(crate) fn focused(&self) -> String {
        let active = reference(&self.get("/element/active").unwrap());
        let label = self.get(&format!("/element/{}/computedlabel", active.0)).unwrap();
        label.as_str().expect("text").into()
    }

    /// As a mouse does it: an error if anything lies above it, or if it has gone.
    pub(crate) fn click(&self, element: &Element) -> Answer {
        self.post(&format!("/element/{}/click", element.0), json!({}))
    }

    /// In the place of what the field holds.
    pub(crate) fn fill(&self, Element(id): &Element, text: &str) -> Answer {
        self.post(&format!("/element/{id}/clear"), json!({}))?;
        self.post(&format!("/element/{id}/value"), json!({ "text": text }))
    }

    /// Keys, one after another, to whatever has the focus.
    pub(crate) fn press(&self, keys: &str) {
        let stroke = |key: char| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key}));
        let strokes: Vec<Value> = keys.chars().flat_map(stroke).collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": strokes});
        self.post("/actions", json!({ "actions": [keyboard] })).unwrap();
    }

    /// What a function with this body returns, or what its promise brings.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []})).unwrap()
    }

    /// A command of Chromium's own protocol.
    pub(crate) fn devtools(&self, command: &str, parameters: Value) {
        self.post("/goog/cdp/execute", json!({"cmd": command, "params": parameters})).unwrap();
    }

    /// The entries of this log since it was last asked for.
    pub(crate) fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.post("/se/log", json!({ "type": kind })).unwrap();
        entries.as_array().expect("entries").clone()
    }

    pub(crate) fn screenshot(&self, file: &Path) {
        let png = self.get("/screenshot").unwrap();
        fs::create_dir_all(file.parent().expect("a folder")).unwrap();
        fs::write(file, BASE64_STANDARD.decode(png.as_str().expect("base64")).unwrap()).unwrap();
    }

    fn get(&self, path: &str) -> Answer {
        answer(http::get(&format!("{}{path}", self.session)))
    }

    fn post(&self, path: &str, body: Value) -> Answer {
        answer(http::post(&format!("{}{path}", self.session), &body.to_string(), &[]))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closes the browser, if it is still there.
        let _ = http::delete(&self.session);
        drop(self.driver.stdin.take());
        let _ = self.driver.wait();
    }
}

fn capabilities() -> Value {
    // At the end of a pipe, Chromium ends with its driver, however that ends.
    let mut args =
        vec!["--headless", "--remote-debugging-pipe", "--disable-dev-shm-usage", "--hide-scrollbars"];
    // For root, as in many a container, Chromium has no sandbox.
    if rustix::process::geteuid().is_root() {
        args.push("--no-sandbox");
    }
    json!({
        "goog:chromeOptions": {"args": args},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    })
}

/// The only value of an object: its name is what marks an element.
fn reference(found: &Value) -> Element {
    let id = found.as_object().and_then(|found| found.values().next()?.as_str());
    Element(id.expect("an element").into())
}

fn answer(answer: Option<http::Answer>) -> Answer {
    let answer = answer.ok_or("the browser's driver is gone")?;
    let mut body = answer.json();
    match answer.status {
        200 => Ok(body["value"].take()),
        _ => Err(body["value"]["message"].as_str().unwrap_or(&answer.body).to_string()),
    }
}
