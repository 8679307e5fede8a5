//! What docs/promises.md says that tests show, tests do show: each one that it names is there.

use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, HeadingLevel, Tag, TagEnd};

use crate::common::root;
use crate::links::way;
use crate::page::page;

const PAGE: &str = "docs/promises.md";

#[test]
fn each_promise_names_tests_and_they_are_there() {
    let page = page(Path::new(PAGE));
    // Where the tests are that are named next, and how many were named under each heading.
    let mut file: Option<PathBuf> = None;
    let mut promises: Vec<(String, usize)> = Vec::new();
    let (mut heading, mut missing) = (None, Vec::new());
    for (event, at) in page.events() {
        match event {
            Event::Start(Tag::Heading { level: HeadingLevel::H2, .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(HeadingLevel::H2)) => {
                promises.push((heading.take().expect("a heading that began"), 0));
            }
            Event::Text(text) if heading.is_some() => heading = heading.map(|heading| heading + &text),
            Event::Start(Tag::Link { dest_url, .. }) => {
                file = Some(way(PAGE, &dest_url)).filter(|file| file.extension().is_some_and(|e| e == "rs"));
            }
            Event::End(TagEnd::Paragraph | TagEnd::Item) => file = None,
            Event::Code(name) if is_test(&name) => {
                if let Some(file) = &file {
                    let text = fs::read_to_string(root().join(file)).unwrap_or_default();
                    if !text.contains(&format!("fn {name}(")) {
                        missing.push(format!("{PAGE}:{}: {name} in {}", page.line(at), file.display()));
                    }
                    if let Some((_, named)) = promises.last_mut() {
                        *named += 1;
                    }
                }
            }
            _ => {}
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    let unshown: Vec<_> = promises.iter().filter(|(_, named)| *named == 0).collect();
    assert!(promises.len() >= 10 && unshown.is_empty(), "nothing shows {unshown:?}");
}

fn is_test(name: &str) -> bool {
    name.matches('_').count() > 2 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
