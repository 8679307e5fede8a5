//! Links lead to files and headings that are there.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Tag, TagEnd};

use crate::common::root;
use crate::page::{Page, page, pages};

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let mut pages = pages();
    pages.extend(["ARCHITECTURE.md", "deploy/README.md"].map(|file| page(Path::new(file))));
    let headings: BTreeMap<PathBuf, Vec<String>> =
        pages.iter().map(|page| (PathBuf::from(&page.name), anchors(page))).collect();
    let mut broken = Vec::new();
    let mut followed = 0;
    for page in &pages {
        for (event, at) in page.events() {
            let Event::Start(Tag::Link { dest_url: link, .. } | Tag::Image { dest_url: link, .. }) = event
            else {
                continue;
            };
            if link.contains("://") {
                continue;
            }
            followed += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let to = if file.is_empty() { PathBuf::from(&page.name) } else { way(&page.name, file) };
            let heading = |headings: &Vec<String>| headings.iter().any(|heading| heading == anchor);
            if !root().join(&to).exists() || !(anchor.is_empty() || headings.get(&to).is_some_and(heading)) {
                broken.push(format!("{}:{}: {link}", page.name, page.line(at)));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(followed > 20, "only {followed} links");
}

/// Whoever looks for a page finds it: from README.md, by links alone.
#[test]
fn every_page_can_be_reached_from_the_readme() {
    let pages = pages();
    let mut reached = vec![PathBuf::from("README.md")];
    let mut next = 0;
    while let Some(name) = reached.get(next).cloned() {
        next += 1;
        for page in pages.iter().filter(|page| Path::new(&page.name) == name) {
            for (event, _) in page.events() {
                if let Event::Start(Tag::Link { dest_url, .. }) = event {
                    let to = way(&page.name, dest_url.split('#').next().unwrap_or_default());
                    if !reached.contains(&to) {
                        reached.push(to);
                    }
                }
            }
        }
    }
    let lost: Vec<_> = pages.iter().filter(|page| !reached.contains(&PathBuf::from(&page.name))).collect();
    let names: Vec<_> = lost.iter().map(|page| &page.name).collect();
    assert!(names.is_empty(), "{names:?}");
}

/// From a page to a file, both from the root.
pub(crate) fn way(page: &str, file: &str) -> PathBuf {
    let mut way = PathBuf::new();
    for part in Path::new(page).with_file_name(file).components() {
        match part {
            Component::ParentDir => drop(way.pop()),
            part => way.push(part),
        }
    }
    way
}

/// As GitHub and others make them of headings.
fn anchors(page: &Page) -> Vec<String> {
    let (mut anchors, mut heading) = (Vec::new(), None);
    for (event, _) in page.events() {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let heading = heading.take().expect("a heading that began").to_lowercase();
                let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
                anchors.push(kept.collect::<String>().replace(' ', "-"));
            }
            _ => {}
        }
    }
    anchors
}
