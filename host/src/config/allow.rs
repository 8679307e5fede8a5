//! What a handler's component may import: the `allow` of pipeline.toml.
//!
//! The list of what there is to allow stands here, because a plan is checked without the guest room; a test over
//! there holds its linker against it.

use std::collections::BTreeSet;

use super::structure;
use super::units::Fault;

/// The interfaces of WASI 0.2 that the host has, sorted.
pub const INTERFACES: [&str; 20] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// What to do instead of calling out.
pub const NO_NETWORK: &str =
    "handlers have no network: publish an event and let a sink or another service act on it";

/// Interfaces, all of them among [`INTERFACES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow(BTreeSet<&'static str>);

impl Allow {
    /// All that there is: none of it reaches out of the sandbox.
    pub fn all() -> Self {
        Self(INTERFACES.into())
    }

    pub fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// Whether the interface, named without its version, may be imported.
    pub fn contains(&self, interface: &str) -> bool {
        self.0.contains(interface)
    }

    /// Allows what an entry of the list names: an interface, or all those of a package.
    pub(super) fn add(&mut self, entry: &str) -> Result<(), Fault> {
        let is_named = |interface: &&str| *interface == entry || package(interface) == entry;
        let named: Vec<_> = INTERFACES.into_iter().filter(is_named).collect();
        if named.is_empty() {
            return Err(unknown(entry));
        }
        self.0.extend(named);
        Ok(())
    }

    /// As they have to be written: whole packages, and single interfaces.
    pub fn entries(&self) -> Vec<&'static str> {
        let mut entries: Vec<&str> = Vec::new();
        for interface in INTERFACES.into_iter().filter(|interface| self.contains(interface)) {
            let is_whole = siblings(interface).all(|sibling| self.contains(sibling));
            let entry = if is_whole { package(interface) } else { interface };
            if entries.last() != Some(&entry) {
                entries.push(entry);
            }
        }
        entries
    }

    /// `allow = […]` as it has to be written for these interfaces to be allowed as well.
    pub fn line_with<'a>(&self, more: impl IntoIterator<Item = &'a str>) -> String {
        let more: BTreeSet<&str> = more.into_iter().collect();
        let all = INTERFACES.into_iter().filter(|i| self.contains(i) || more.contains(i)).collect();
        format!("allow = {:?}", Self(all).entries())
    }
}

fn package(interface: &str) -> &str {
    interface.split_once('/').map_or(interface, |(package, _)| package)
}

fn siblings(interface: &str) -> impl Iterator<Item = &'static str> {
    let package = package(interface).to_string();
    INTERFACES.into_iter().filter(move |sibling| self::package(sibling) == package)
}

fn unknown(entry: &str) -> Fault {
    if ["wasi:sockets", "wasi:http"].contains(&package(entry).split('@').next().unwrap_or_default()) {
        return Fault::new("the host doesn't have this", NO_NETWORK);
    }
    if entry.contains('@') {
        let help = "leave it out: the host has those of WASI 0.2, whichever patch release a component names";
        return Fault::new("no version stands here", help);
    }
    let packages: BTreeSet<&str> = INTERFACES.into_iter().map(package).collect();
    let known = || packages.iter().copied().chain(INTERFACES);
    let names: Vec<&str> = known().collect();
    let there_is = format!("there is: {}", names.join(", "));
    let help = match structure::nearest(entry, known()) {
        Some(nearest) => format!("did you mean \"{nearest}\"? {there_is}"),
        None => there_is,
    };
    Fault::new("the host doesn't have this", help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(entries: &[&str]) -> Allow {
        let mut allow = Allow::none();
        for entry in entries {
            allow.add(entry).unwrap();
        }
        allow
    }

    #[test]
    fn a_package_stands_for_all_of_its_interfaces() {
        let random = ["wasi:random/insecure", "wasi:random/insecure-seed", "wasi:random/random"];
        assert_eq!(allow(&["wasi:random"]), allow(&random));
        assert!(!allow(&["wasi:random"]).contains("wasi:io/poll"));
        assert_eq!(
            allow(&["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random"]),
            Allow::all()
        );
    }

    #[test]
    fn the_line_to_write_names_whole_packages_and_single_interfaces() {
        let written = allow(&["wasi:io/poll", "wasi:io/error", "wasi:cli/exit"]);
        assert_eq!(
            written.line_with(["wasi:io/streams", "wasi:random/random"]),
            r#"allow = ["wasi:cli/exit", "wasi:io", "wasi:random/random"]"#
        );
        assert_eq!(Allow::none().line_with([]), "allow = []");
    }

    #[test]
    fn the_list_of_interfaces_is_sorted_and_names_each_once() {
        assert!(INTERFACES.is_sorted_by(|a, b| a < b));
    }
}
