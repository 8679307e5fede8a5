//! Verbs and options that pages name exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use pulldown_cmark::{Event, Tag, TagEnd};

use crate::common::root;
use crate::page::{page, pages};
use crate::reference::{Help, helps};

#[test]
fn every_verb_and_option_that_a_page_names_exists() {
    let helps = helps();
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Help { command, text } in &helps {
        known.insert(command.join(" "), options(text));
    }
    // What else the pages start.
    let scripts = ["kafka/start", "justfile"].map(|file| fs::read_to_string(root().join(file)).unwrap());
    let of_scripts: BTreeSet<String> = scripts.iter().flat_map(|text| options(text)).collect();
    let all: BTreeSet<&String> = known.values().flatten().chain(&of_scripts).collect();

    let mut pages = pages();
    pages.extend(["ARCHITECTURE.md", "deploy/README.md"].map(|file| page(Path::new(file))));
    let (mut wrong, mut named) = (Vec::new(), 0);
    for page in &pages {
        let mut in_block = false;
        for (event, at) in page.events() {
            let (code, alone) = match event {
                Event::Start(Tag::CodeBlock(_)) => {
                    in_block = true;
                    continue;
                }
                Event::End(TagEnd::CodeBlock) => {
                    in_block = false;
                    continue;
                }
                Event::Text(text) if in_block => (text, false),
                Event::Code(text) => (text, true),
                _ => continue,
            };
            let mut complain = |what: &str| wrong.push(format!("{}:{}: {what}", page.name, page.line(at)));
            // Elsewhere it may be another program's.
            if alone
                && code.starts_with("--")
                && page.name != "deploy/README.md"
                && !options(&code).iter().all(|option| all.contains(option))
            {
                complain(&code);
            }
            for call in code.replace("\\\n", " ").split(['\n', '|', ';', '`', '#', '(', ')']).flat_map(calls)
            {
                named += 1;
                match known.get(&call.command) {
                    None => complain(&format!("no verb of wasmill: {}", call.command)),
                    Some(known) => {
                        for option in call.options.difference(known) {
                            complain(&format!("wasmill {} has no {option}", call.command));
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(named > 50, "only {named} commands");
}

struct Call {
    /// The verb, with its own one if it has any.
    command: String,
    options: BTreeSet<String>,
}

/// `wasmill VERB …` in a line of a script or of help.
fn calls(line: &str) -> Option<Call> {
    let (_, rest) = line.rsplit_once("wasmill ").filter(|(before, _)| {
        before.is_empty() || before.ends_with([' ', '"']) || before.ends_with("target/release/")
    })?;
    let is_verb = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase());
    let mut words = rest.split_whitespace();
    let verb = words.next().filter(is_verb)?;
    let second = words.next().filter(|_| verb == "dlq").filter(is_verb);
    let command = [Some(verb), second].into_iter().flatten().collect::<Vec<_>>().join(" ");
    Some(Call { command, options: options(rest) })
}

/// Every `--option` in a text.
fn options(text: &str) -> BTreeSet<String> {
    let named = |word: &str| {
        let word = word.strip_prefix("--")?;
        let end = word.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(word.len());
        (end > 0).then(|| format!("--{}", &word[..end]))
    };
    text.split(|c: char| c.is_whitespace() || "[(\"'`,".contains(c)).filter_map(named).collect()
}
