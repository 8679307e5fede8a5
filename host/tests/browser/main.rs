//! The dashboard in a real Chromium, before a real host on Apache Kafka: what one sees and does there.
//!
//! Needs Chromium and its driver (Debian: chromium, chromium-driver); without them these tests fail and say so. How the
//! page looked at the end of them is in target/screenshots; `WASMILL_UPDATE=1 cargo test --test browser` puts the
//! documentation's pictures in their place, too.

#[path = "../common/mod.rs"]
mod common;

mod axe;
mod browser;
mod visit;

use std::fs;

use common::{built_component, built_guest, digest, rename_over, version};
use visit::{Visit, button, link, visit};

const HANDLER: &str = "order-formatter";
const TOPICS: [&str; 6] =
    ["orders", "order_details", "order_confirmed", "order_declined", "emails", "emails_sent"];

/// Nothing is still to come, and nothing is folded up.
const WHOLE: &str = "document.querySelectorAll('details').forEach((details) => { details.open = true; });
    return !/(loading|reading) …/.test(document.querySelector('main').textContent);";

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

#[test]
fn the_pipeline_is_drawn_with_all_its_handlers_and_topics() {
    visit("pipeline", |visit| {
        let drawn = |what: &str| {
            let all = visit.browser.run(&format!(
                "return [...document.querySelectorAll('.graph {what}')].map((each) => each.textContent)"
            ));
            let mut all: Vec<_> =
                all.as_array().unwrap().iter().map(|each| each.as_str().unwrap().to_string()).collect();
            all.sort();
            all
        };
        let mut expected = [&["POST /orders", "mail"], &TOPICS[..], &common::COMPONENTS[..]].concat();
        expected.sort_unstable();
        assert_eq!(drawn("title"), expected);
        // One from the resource, five to subscribers, five from them.
        assert_eq!(drawn(".edge").len(), 11);
        // No text leaves its box, and no box the drawing.
        let outside = visit.browser.run(
            "const rect = (element) => element.getBoundingClientRect();
             const within = (a, b) =>
               a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
             const fits = (box) => within(rect(box), rect(box.ownerSVGElement))
               && [...box.querySelectorAll('text')].every((text) => within(rect(text), rect(box.querySelector('rect'))));
             return [...document.querySelectorAll('.graph g')].filter((box) => !fits(box)).map((box) => box.textContent)",
        );
        assert_eq!(outside, serde_json::json!([]));

        // All of it is seen at once, and what is under way is.
        let wider = "const { scrollWidth, clientWidth } = document.querySelector('.graph').parentElement;
                     return scrollWidth - clientWidth";
        assert_eq!(visit.browser.run(wider), 0);
        let busy = "return document.querySelectorAll('.graph .edge.busy').length";
        visit.until("event on each edge", || {
            visit.order(2);
            visit.browser.run(busy) == 11
        });
        visit.screenshot("pipeline");
        visit.color_scheme("dark");
        visit.screenshot("dark");
    });
}

#[test]
fn an_order_placed_by_the_form_is_followed_to_its_email() {
    visit("order", |visit| {
        visit.click(&link("orders"));
        visit.click("//summary[.='optional: name, email']");
        visit.fill("email", "grace@example.com");
        visit.click(&button("Place it"));
        let id = placed(visit);
        arrives_in(visit, &id, "emails_sent");

        visit.click(&format!("//td{}", &link(&id)[1..]));
        for topic in ["orders", "order_details", "order_confirmed", "emails", "emails_sent"] {
            visit.click(&format!("//summary[.//strong='{topic}']"));
            // The record itself, whose id is in each payload.
            visit.read(&format!("{}//pre[contains(., '\"order_id\"') and contains(., '{id}')]", hop(topic)));
        }
        visit.read(&format!("{}//ins[contains(., '\"total_cents\": 2300')]", hop("order_details")));
        visit.read(&format!("{}//ins[contains(., '\"transaction_id\"')]", hop("order_confirmed")));
        let mail = visit.read(&format!("{}//section[@aria-label='E-mail']", hop("emails")));
        assert!(mail.contains("grace@example.com") && mail.contains("23.00 EUR"), "{mail}");
        let around_the_payment = "document.querySelectorAll('details').forEach((each) => {
              each.open = each.querySelector('strong').textContent === 'order_confirmed';
            });
            document.querySelector('.waterfall').scrollIntoView();";
        visit.browser.run(around_the_payment);
        visit.screenshot("trace");
    });
}

#[test]
fn a_version_is_swapped_in_and_rolled_back_before_one_s_eyes() {
    visit("swap", |visit| {
        visit.click(&link(HANDLER));
        let path = visit.pipeline.path().join("components/order-formatter.wasm");
        let first = fs::read(&path).unwrap();
        let second = version(&first, 2);
        runs(visit, &first);
        rename_over(&path, &second);
        runs(visit, &second);
        visit.click(&format!("//tr[contains(., '{}')]{}", &digest(&first)[..12], button("Roll back to it")));
        runs(visit, &first);
        visit.shows("until the component's file changes");

        rename_over(&path, b"#!/bin/sh");
        visit.shows("was refused");
        visit.shows("is not WebAssembly");
        runs(visit, &first);
        visit.shows("1 thing needs a look");
        let third = version(&first, 3);
        rename_over(&path, &third);
        runs(visit, &third);
        visit.shows("all is well");
    });
}

#[test]
fn what_fails_is_seen_with_its_reason_and_put_back() {
    visit("failures", |visit| {
        // An event that its handler refuses.
        visit.click(&link("orders"));
        visit.click("//summary[starts-with(., 'optional: order_id')]");
        visit.click("//summary[.='optional: token']");
        visit.fill("token", "tok_invalid");
        visit.click(&button("Place it"));
        let refused = placed(visit);
        arrives_in(visit, &refused, "transaction-processor.dlq");
        visit.go(&format!("/trace/orders/{refused}"));
        visit.click("//summary[.//strong='transaction-processor.dlq']");
        visit.shows("reject: ");
        visit.go("/handlers/transaction-processor");
        visit.read("//tr[td[1]='reject' and td[2]='1']");

        // A component that traps.
        let path = visit.pipeline.path().join("components/email-composer.wasm");
        let traps = fs::read(built_guest("stack-overflow")).unwrap();
        visit.go("/handlers/email-composer");
        rename_over(&path, &traps);
        runs(visit, &traps);
        let trapped = visit.order(1);
        visit.read("//tr[td[1]='trap' and td[2]='1']");
        visit.go("/resources/orders");
        arrives_in(visit, &trapped, "email-composer.dlq");
        visit.go("/");
        visit
            .read("//tr[th='email-composer']/td[count(//th[.='Dead letters']/preceding-sibling::th)][.='1']");

        // Its dead letter is seen, and put back when the good one is there again.
        let letters = "/dead-letters";
        visit.go(&format!("/trace/orders/{trapped}"));
        visit.click("//summary[.//strong='email-composer.dlq']");
        visit.click(&link("Put it back, or let go of it"));
        visit.read("//dt[.='Cause']/following-sibling::dd[1][.='trap']");
        visit.read(&format!("//pre[contains(., '{trapped}')]"));
        let letter = visit.read("//h1").replace("Dead letter ", "");
        suits_everybody(visit, &format!("{letters}/{letter}"), &format!("Dead letter {letter}"));
        visit.click(&link("Dead letters"));
        visit.click("//select[@id='of']/option[.='email-composer']");
        visit.click("//select[@id='cause']/option[.='trap']");
        visit.until("choice", || !visit.text().contains("transaction-processor.dlq"));
        visit.read("//tr[td[1]='email-composer' and td[2]='trap' and td[3]='1']");
        visit.read(&format!("//tr[td[1]='{letter}' and td[2]='{trapped}']"));
        let good = fs::read(built_component("email-composer")).unwrap();
        rename_over(&path, &good);
        visit.click(&button("Dry run"));
        visit.shows("1 would be put back");
        visit.go("/handlers/email-composer");
        runs(visit, &good);
        visit.go(&format!("{letters}/{letter}"));
        visit.click(&button("Put back"));
        visit.shows("1 put back");
        visit.read("//dt[.='Settled']/following-sibling::dd[1][starts-with(., 'redriven')]");
        visit.go("/resources/orders");
        arrives_in(visit, &trapped, "emails_sent");
        visit.go(&format!("/trace/orders/{trapped}"));
        visit.read("//summary[.//strong='order_confirmed'][contains(., 'put back')]");
        suits_everybody(visit, letters, "Dead letters");
    });
}

#[test]
fn what_became_of_pipeline_toml_is_seen_and_who_joins_is_drawn() {
    visit("configuration", |visit| {
        let path = visit.pipeline.path().join("pipeline.toml");
        let shipped = fs::read_to_string(&path).unwrap();
        visit.click(&link("Configuration"));
        visit.click("//summary[.='transaction-processor']");
        visit.read("//details[summary='transaction-processor']//dd[.='5 in all']");

        // A mistake is shown with its place, and what ran before goes on.
        rename_over(&path, shipped.replace("attempts = 5", "attemps = 6").as_bytes());
        visit.click(&button("Read it again"));
        visit.shows("The file as it is now was refused");
        visit.shows("pipeline.toml:");
        visit.shows("attemps");
        visit.read("//details[summary='transaction-processor']//dd[.='5 in all']");
        let complaints = visit.complaints();
        assert!(complaints.iter().all(|each| each.contains("422")), "{complaints:#?}");

        let another = "\n[handlers.another]\ncomponent = \"components/order-formatter.wasm\"\n\
                       subscribe = [\"orders\"]\npublish = [\"order_details\"]\n";
        let mended = shipped.replace("attempts = 5", "attempts = 6") + another;
        rename_over(&path, mended.as_bytes());
        // The host sees it by itself.
        visit.click("//summary[.='another']");
        visit.read("//details[summary='another']//dd[contains(., 'order_details')]");
        visit.click("//summary[.='transaction-processor']");
        visit.read("//details[summary='transaction-processor']//dd[.='6 in all']");

        // Each stands behind all that lead to it.
        visit.click(&link("Pipeline"));
        visit.read("//*[name()='svg']//*[name()='title'][.='another']");
        let left = |name: &str| {
            visit.browser.run(&format!(
                "const boxes = [...document.querySelectorAll('.graph g')];
                 const box = boxes.find((each) => each.querySelector('title').textContent === '{name}');
                 return Math.round(box.getBoundingClientRect().left)"
            ))
        };
        let (orders, details) = (left("orders").as_i64(), left("order_details").as_i64());
        let joined = left("another").as_i64();
        assert_eq!(joined, left(HANDLER).as_i64());
        assert!(orders < joined && joined < details, "{orders:?} {joined:?} {details:?}");
        assert_eq!(visit.browser.run("return document.querySelectorAll('.graph .edge').length"), 13);
    });
}

#[test]
fn the_page_goes_live_again_by_itself_when_the_host_is_back() {
    visit("restart", |visit| {
        visit.stop_host();
        visit.shows("no word from the host");
        visit.start_host();
        visit.shows("all is well");
        // One that hangs says nothing, and its connections stay.
        visit.signal_host("STOP");
        visit.shows("no word from the host");
        visit.signal_host("CONT");
        visit.shows("all is well");
        visit.click(&link("orders"));
        visit.click(&button("Place it"));
        let id = placed(visit);
        arrives_in(visit, &id, "emails_sent");
        let complaints = visit.complaints();
        assert!(complaints.iter().all(|each| each.contains("net::ERR_")), "{complaints:#?}");
    });
}

#[test]
fn an_order_is_placed_and_followed_by_keyboard_alone() {
    visit("keyboard", |visit| {
        tab_to(visit, "Skip to the content");
        tab_to(visit, "orders");
        visit.browser.press(ENTER);
        visit.read("//h1[.='orders']");
        tab_to(visit, "sku");
        // What was there is selected: typing replaces it.
        visit.browser.press("calzone");
        visit.browser.press(ENTER);
        let id = placed(visit);
        tab_to(visit, &id);
        visit.browser.press(ENTER);
        visit.read(&format!("//h1[.='{id}']"));
        visit.read("//summary[.//strong='orders']");
        tab_to(visit, "orders the request");
        visit.browser.press(ENTER);
        visit.shows("\"calzone\"");

        // The list lives, and the focus stays where it was.
        visit.go("/resources/orders");
        tab_to(visit, &id);
        let next = visit.order(1);
        arrives_in(visit, &next, "emails_sent");
        assert_eq!(visit.browser.focused(), id);
    });
}

#[test]
fn every_page_fits_a_phone_and_suits_readers_of_all_kinds() {
    visit("looks", |visit| {
        let id = visit.order(2);
        visit.click(&link("orders"));
        arrives_in(visit, &id, "emails_sent");
        let trace = format!("/trace/orders/{id}");
        let pages = [
            ("/", "Pipeline"),
            ("/resources/orders", "orders"),
            (&trace, &id),
            ("/handlers/order-formatter", HANDLER),
            ("/handlers/mail", "mail"),
            ("/parked", "Parked keys"),
            ("/config", "Configuration"),
            ("/nowhere", "There is no such page"),
        ];
        for (page, title) in pages {
            suits_everybody(visit, page, title);
        }
        visit.screen(390, 844, true);
        visit.go(&trace);
        visit.read("//summary[.//strong='emails_sent']");
        visit.screenshot("phone");
    });
}

/// The id of what the form has placed.
fn placed(visit: &Visit) -> String {
    visit.read("//main//*[@role='status'][contains(., 'Placed')]//a")
}

/// In the list of the newest.
fn arrives_in(visit: &Visit, id: &str, topic: &str) {
    visit.read(&format!("//tr[td[1]='{id}' and td[3]='{topic}']"));
}

fn hop(topic: &str) -> String {
    format!("//details[@open][summary//strong='{topic}']")
}

/// By what the page says, which nobody has loaded anew.
fn runs(visit: &Visit, component: &[u8]) {
    visit.read(&format!("//*[@id='digest'][.='{}']", &digest(component)[..12]));
}

/// The page, by day on a desk and by night on a phone.
fn suits_everybody(visit: &Visit, page: &str, title: &str) {
    visit.go(page);
    visit.read(&format!("//h1[.='{title}']"));
    visit.until("whole page", || visit.browser.run(WHOLE) == true);
    assert_eq!(axe::faults(&visit.browser), [""; 0], "{page} by day");
    visit.screen(390, 844, true);
    visit.color_scheme("dark");
    let width = visit.browser.run("return document.documentElement.scrollWidth");
    assert_eq!(width, 390, "{page} on a phone");
    let ground = visit.browser.run("return getComputedStyle(document.body).backgroundColor");
    assert_eq!(ground, "rgb(20, 22, 27)", "{page} by night");
    assert_eq!(axe::faults(&visit.browser), [""; 0], "{page} by night, on a phone");
    visit.screen(1280, 800, false);
    visit.color_scheme("light");
}

/// Presses Tab until that has the focus which is called so; all that has it on the way shows it.
fn tab_to(visit: &Visit, name: &str) {
    let mut passed = Vec::new();
    while !passed.last().is_some_and(|last: &String| last.starts_with(name)) {
        assert!(passed.len() < 80, "no {name:?} among {passed:?}");
        visit.browser.press(TAB);
        passed.push(visit.browser.focused());
        // Behind the last of them the focus leaves the page for once.
        let outline = "return document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle !== 'none'";
        assert_eq!(visit.browser.run(outline), true, "{passed:?}");
    }
}
