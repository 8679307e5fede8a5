//! The documentation, tried. Every command of README.md and docs/ is run as it stands there, in a clone of its own,
//! and shows what the page says, but for those over which a comment says why not; links lead somewhere; what is named
//! exists; and docs/reference is what the program says of itself (after a change:
//! `WASMILL_UPDATE=1 cargo test --release -p wasmill --test docs reference`).
//!
//! `page.rs` says how a page tells what is to be done. A block that nobody knows what to do about fails. One page:
//! `WASMILL_PAGE=tutorial cargo test --release -p wasmill --test docs -- --nocapture every_command`.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;

mod desk;
mod links;
mod named;
mod page;
mod promises;
mod reference;
mod shown;

use std::fs;
use std::sync::Mutex;
use std::time::Instant;

use desk::Desk;
use page::{How, Page, Step, What, pages};

/// Pages that are tried at one time: they mostly wait, for groups to form and builds of each other to end.
const HANDS: usize = 3;

#[test]
fn every_command_of_every_page_runs_and_shows_what_the_page_says() {
    let only = std::env::var("WASMILL_PAGE").unwrap_or_default();
    let pages: Vec<Page> = pages().into_iter().filter(|page| page.name.contains(&only)).collect();
    // The longest ones first.
    let mut todo: Vec<&Page> = pages.iter().collect();
    todo.sort_by_key(|page| page.text.matches("\n```sh").count());
    let (todo, failed) = (Mutex::new(todo), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                while let Some(page) = { todo.lock().unwrap().pop() } {
                    match page.steps() {
                        Ok(steps) => failed.lock().unwrap().extend(tried(page, &steps).err()),
                        Err(wrong) => failed.lock().unwrap().extend(wrong),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// The whole page, or its first command that doesn't do as it says.
fn tried(page: &Page, steps: &[Step]) -> Result<(), String> {
    let begun = Instant::now();
    let is_run = |step: &&Step| matches!(step.what, What::Run { .. });
    let mut desk = steps.iter().find(is_run).map(|_| {
        // A guide is for those who have built everything before.
        Desk::new(&page.name, page.name.starts_with("docs/how-to/"))
    });
    for Step { line, what, text } in steps {
        let place = format!("{}:{line}", page.name);
        match (&mut desk, what) {
            (_, What::NotRun { reason }) => println!("{place}: not run: {reason}"),
            (Some(desk), what) => {
                let text = desk.with_ports(text);
                act(desk, what, &text)
                    .map_err(|problem| format!("{place}: {text}\n{problem}\n{}", desk.logs()))?;
            }
            (None, _) => return Err(format!("{place}: nothing is run on this page")),
        }
    }
    let run = steps.iter().filter(is_run).count();
    println!("{}: {run} blocks run, {:.0?}", page.name, begun.elapsed());
    Ok(())
}

fn act(desk: &mut Desk, what: &What, text: &str) -> Result<(), String> {
    match what {
        What::Run { how, output } => {
            let output = output.as_ref().map(|output| desk.with_ports(output));
            let fits = |shown: &str| output.as_ref().map_or(Ok(()), |output| shown::fits(shown, output));
            match how {
                How::Works => fits(&desk.run(text)?),
                How::Fails => match desk.attempt(text)? {
                    (true, shown) => Err(format!("it works:\n{shown}")),
                    (false, shown) => fits(&shown),
                },
                How::Eventually => desk.eventually(text, fits),
                How::Background => {
                    let output = output.as_deref().unwrap_or_default();
                    desk.begin(text, |shown| shown::fits_in_order(shown, output))
                }
                How::Terminals => {
                    let (lines, last) = text.trim_end().rsplit_once('\n').unwrap_or(("", text));
                    lines.lines().try_for_each(|line| desk.begin(line, |_| Ok(())))?;
                    desk.eventually(last, fits)
                }
            }
        }
        What::NotRun { .. } => Ok(()),
        What::Log => desk.log_shows(text),
        What::CtrlC => desk.ctrl_c(text),
        What::Write { file } => put(desk, file, text.into()),
        What::Append { file } => {
            let before = fs::read_to_string(desk.file(file)).map_err(|error| format!("{file}: {error}"))?;
            put(desk, file, format!("{before}\n{text}"))
        }
        What::Change { file } => {
            let before = fs::read_to_string(desk.file(file)).map_err(|error| format!("{file}: {error}"))?;
            let side = |other: char| -> String {
                let lines = text.lines().filter(|line| !line.starts_with(other));
                lines.map(|line| format!("{}\n", line.get(1..).unwrap_or_default())).collect()
            };
            let (old, new) = (side('+'), side('-'));
            match before.matches(&old).count() {
                1 => put(desk, file, before.replace(&old, &new)),
                n => Err(format!("what is to be changed is {n} times in {file}")),
            }
        }
    }
}

fn put(desk: &Desk, file: &str, text: String) -> Result<(), String> {
    fs::write(desk.file(file), text).map_err(|error| format!("{file}: {error}"))
}
