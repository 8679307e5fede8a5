//! A page of the documentation, as the reader meets it: what is to be run, what it shows, what is to be written.
//!
//! How a block is meant stands behind its language, where readers of the rendered page don't see it:
//!
//! | block | means |
//! |---|---|
//! | `sh` | is run, and exits with 0 |
//! | `sh fails` | is run, and exits with something else |
//! | `sh eventually` | is run until it exits with 0 and shows what it should |
//! | `sh background` | runs in a terminal of its own, to the end of the page; its `output` says when it is up |
//! | `sh terminals` | each line but the last one does so; the last one is run until it works |
//! | `output` | what the `sh` before it shows; `…` stands for anything, alone in a line for any lines |
//! | `log` | what the terminals in the background go on to show |
//! | `LANGUAGE write FILE`, `LANGUAGE append FILE` | the reader writes the file so, or adds this to it |
//! | `diff FILE` | the reader changes the file so |
//!
//! `<!-- not run: REASON -->` stands over an `sh` that can't be run, and `<!-- ctrl-c: COMMAND -->` where the reader
//! ends what runs in another terminal. Blocks of other languages are only shown.

use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::common::root;

/// Languages of blocks that are only shown. No shell is among them: a command that nobody runs is a mistake.
const SHOWN: [&str; 6] = ["java", "json", "rust", "text", "toml", "yaml"];

pub(crate) struct Page {
    /// From the root of the repository.
    pub(crate) name: String,
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Works,
    Fails,
    Eventually,
    Background,
    Terminals,
}

#[derive(Debug)]
pub(crate) enum What {
    Run { how: How, output: Option<String> },
    NotRun { reason: String },
    Log,
    Write { file: String },
    Append { file: String },
    Change { file: String },
    CtrlC,
}

/// The line is for who looks for it; the text is the block's, or the command that ctrl-c ends.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) what: What,
    pub(crate) text: String,
}

/// README.md and everything in docs/.
pub(crate) fn pages() -> Vec<Page> {
    let mut files = vec![PathBuf::from("README.md")];
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).expect("a readable folder") {
            let entry = entry.expect("a readable folder");
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().map(|file| page(file)).collect()
}

pub(crate) fn page(file: &Path) -> Page {
    let text = std::fs::read_to_string(root().join(file)).expect("a readable page");
    Page { name: file.display().to_string(), text }
}

impl Page {
    /// With the byte where each begins.
    pub(crate) fn events(&self) -> impl Iterator<Item = (Event<'_>, usize)> {
        let parser = Parser::new_ext(&self.text, Options::ENABLE_TABLES);
        parser.into_offset_iter().map(|(event, range)| (event, range.start))
    }

    pub(crate) fn line(&self, at: usize) -> usize {
        1 + self.text[..at].matches('\n').count()
    }

    /// What the reader does, in order; or every block that can't be told what to do about.
    pub(crate) fn steps(&self) -> Result<Vec<Step>, Vec<String>> {
        let (mut steps, mut wrong): (Vec<Step>, Vec<String>) = (Vec::new(), Vec::new());
        let mut reason = None;
        let mut block: Option<(usize, String, String)> = None;
        for (event, at) in self.events() {
            match event {
                Event::Html(html) => match comment(&html) {
                    Some(("not run", why)) => reason = Some(why.to_string()),
                    Some(("ctrl-c", command)) => {
                        steps.push(Step { line: self.line(at), what: What::CtrlC, text: command.into() });
                    }
                    Some(_) | None => {}
                },
                Event::Start(Tag::CodeBlock(kind)) => {
                    let info = match kind {
                        CodeBlockKind::Fenced(info) => info.to_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    block = Some((self.line(at), info, String::new()));
                }
                Event::Text(text) => {
                    if let Some((_, _, whole)) = &mut block {
                        whole.push_str(&text);
                    }
                }
                Event::End(TagEnd::CodeBlock) => {
                    let (line, info, text) = block.take().expect("a block that began");
                    if let Err(problem) = add(&mut steps, line, &info, text, reason.take()) {
                        wrong.push(format!("{}:{line}: {problem}", self.name));
                    }
                }
                _ => {}
            }
        }
        let silent = |step: &&Step| matches!(step.what, What::Run { how: How::Background, output: None });
        let unsaid = |step: &Step| format!("{}:{}: no output says when this is up", self.name, step.line);
        wrong.extend(steps.iter().filter(silent).map(unsaid));
        if wrong.is_empty() { Ok(steps) } else { Err(wrong) }
    }
}

/// `<!-- NAME: TEXT -->`
fn comment(html: &str) -> Option<(&str, &str)> {
    let inside = html.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    let (name, text) = inside.split_once(':')?;
    Some((name.trim(), text.trim()))
}

fn add(
    steps: &mut Vec<Step>,
    line: usize,
    info: &str,
    text: String,
    reason: Option<String>,
) -> Result<(), String> {
    let words: Vec<_> = info.split_whitespace().collect();
    let run = |how| What::Run { how, output: None };
    let what = match (&words[..], reason) {
        (["sh"], Some(reason)) => What::NotRun { reason },
        (_, Some(reason)) => return Err(format!("no command that could be left out for: {reason}")),
        (["sh"], None) => run(How::Works),
        (["sh", "fails"], None) => run(How::Fails),
        (["sh", "eventually"], None) => run(How::Eventually),
        (["sh", "background"], None) => run(How::Background),
        (["sh", "terminals"], None) => run(How::Terminals),
        (["output"], None) => match steps.last_mut().map(|step| &mut step.what) {
            Some(What::Run { output: output @ None, .. }) => {
                *output = Some(text);
                return Ok(());
            }
            _ => return Err("no command before this output".into()),
        },
        (["log"], None) => What::Log,
        (["diff", file], None) => What::Change { file: (*file).into() },
        ([_, "write", file], None) => What::Write { file: (*file).into() },
        ([_, "append", file], None) => What::Append { file: (*file).into() },
        ([language], None) if SHOWN.contains(language) => return Ok(()),
        _ => return Err(format!("nobody knows what to do about a block of {info:?}")),
    };
    steps.push(Step { line, what, text });
    Ok(())
}
