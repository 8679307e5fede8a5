//! Files that are not a handler, each refused with its reason and a remedy.

use std::fs;
use std::path::Path;

use miette::Diagnostic;
use tempfile::TempDir;
use wasmill::config::plan::{Allow, HandlerPlan, LimitsPlan};
use wasmill::config::{self, Overrides};
use wasmill::guest::{ComponentFile, ComponentHandler, LoadError, Mismatch};

use crate::common::built_guest;
use crate::{load, plan};

fn load_bytes(bytes: &[u8]) -> LoadError {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("handler.wasm");
    fs::write(&path, bytes).unwrap();
    refused(load(&path, &plan()))
}

fn refused<T>(result: Result<T, LoadError>) -> LoadError {
    let error = result.err().expect("a refusal");
    assert!(error.help().is_some(), "no remedy for: {error}");
    error
}

fn mismatches(error: LoadError) -> Vec<Mismatch> {
    match error {
        LoadError::OtherWorld { mismatches, .. } => mismatches,
        other => panic!("{other}"),
    }
}

#[test]
fn a_missing_file_is_named() {
    let folder = TempDir::new().unwrap();
    let error = refused(load(&folder.path().join("none.wasm"), &plan()));
    assert!(matches!(error, LoadError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("none.wasm"));
}

#[test]
fn a_folder_is_not_a_component() {
    let folder = TempDir::new().unwrap();
    let error = refused(load(folder.path(), &plan()));
    assert!(matches!(error, LoadError::Folder { .. }), "{error}");
}

#[test]
fn garbage_and_an_empty_file_are_not_webassembly() {
    for bytes in [&b""[..], b"\0asm", b"#!/bin/sh\necho hello\n", &[0xff; 4096]] {
        let error = load_bytes(bytes);
        assert!(matches!(error, LoadError::NotWasm { .. }), "{error}");
    }
}

#[test]
fn a_core_module_is_told_which_build_target_makes_components() {
    let error = load_bytes(b"\0asm\x01\0\0\0");
    assert!(matches!(error, LoadError::CoreModule { .. }), "{error}");
    assert!(error.help().unwrap().to_string().contains("wasm32-wasip2"));
}

#[test]
fn a_damaged_component_is_refused() {
    let whole = fs::read(built_guest("echo")).unwrap();
    let error = load_bytes(&whole[..whole.len() / 2]);
    assert!(matches!(error, LoadError::Invalid { .. }), "{error}");
}

#[test]
fn a_component_without_the_export_is_of_another_world() {
    let empty = load_bytes(b"\0asm\x0d\0\x01\0");
    assert_eq!(mismatches(empty), [Mismatch::MissingExport { exports: vec![] }]);
}

#[test]
fn a_component_of_another_world_hears_all_that_is_wrong_at_once() {
    let mismatches = mismatches(refused(load(&built_guest("other-world"), &plan())));
    assert_eq!(mismatches[0], Mismatch::SurplusImports { imports: vec!["ask".into()] });
    assert!(matches!(mismatches[1], Mismatch::ExportType { .. }), "{}", mismatches[1]);
    assert!(mismatches[1].to_string().contains("expected `list`"), "{}", mismatches[1]);
    assert_eq!(mismatches.len(), 2);
}

#[test]
fn a_component_that_wants_the_network_is_refused_by_the_names_of_its_imports() {
    let error = refused(load(&built_guest("sockets"), &plan()));
    assert!(error.to_string().contains("`wasi:sockets/tcp@0.2"), "{error}");
    assert!(error.help().unwrap().to_string().contains("no network"));
    match mismatches(error).as_slice() {
        [Mismatch::SurplusImports { imports }] => {
            assert!(imports.iter().all(|import| import.starts_with("wasi:sockets/")), "{imports:?}");
        }
        others => panic!("{others:?}"),
    }
}

#[test]
fn a_memory_cap_below_what_the_component_starts_with_is_refused_before_any_event() {
    let limits = LimitsPlan { memory: 64 * 1024, ..plan().limits };
    let tiny = HandlerPlan { limits, ..plan() };
    let version = load(&built_guest("echo"), &plan()).unwrap();
    for error in [refused(load(&built_guest("echo"), &tiny)), refused(ComponentHandler::new(version, &tiny))]
    {
        assert!(matches!(error, LoadError::MemoryCap { cap: 65536, .. }), "{error}");
    }
}

#[test]
fn a_version_is_known_by_the_digest_of_its_file() {
    let folder = TempDir::new().unwrap();
    let copy = folder.path().join("copy.wasm");
    fs::copy(built_guest("echo"), &copy).unwrap();
    let original = load(&built_guest("echo"), &plan()).unwrap();
    let copied = load(&copy, &plan()).unwrap();
    let other = load(&built_guest("fate"), &plan()).unwrap();
    assert_eq!(original.digest(), copied.digest());
    assert_ne!(original.digest(), other.digest());
    assert_eq!(original.digest().len(), 64);
}

#[test]
fn a_function_that_a_granted_interface_lacks_is_named_beside_what_else_is_wrong() {
    let import = r#"(component (import "wasi:cli/stdout@0.2.0" (instance (export "get-stdin" (func)))))"#;
    let mismatches = mismatches(load_bytes(&wat::parse_str(import).unwrap()));
    let [Mismatch::ImportType { reason }, Mismatch::MissingExport { .. }] = &mismatches[..] else {
        panic!("{mismatches:?}")
    };
    assert!(reason.contains("wasi:cli/stdout") && reason.contains("get-stdin"), "{reason}");
}

#[test]
fn a_file_beyond_the_bound_or_of_another_kind_is_refused_unread() {
    let folder = TempDir::new().unwrap();
    let huge = folder.path().join("huge.wasm");
    fs::File::create(&huge).unwrap().set_len(64 * 1024 * 1024 + 1).unwrap();
    let error = refused(load(&huge, &plan()));
    assert!(matches!(error, LoadError::TooLarge { .. }), "{error}");
    assert!(error.to_string().contains("larger than 64.0 MiB"), "{error}");
    let error = refused(load(Path::new("/dev/zero"), &plan()));
    assert!(matches!(error, LoadError::Unreadable { .. }), "{error}");
}

#[test]
fn a_pinned_handler_takes_its_own_file_and_no_other() {
    let digest = ComponentFile::read(built_guest("echo")).unwrap().digest;
    let pinned = HandlerPlan { sha256: Some(digest.clone()), ..plan() };
    assert_eq!(load(&built_guest("echo"), &pinned).unwrap().digest(), &digest);
    let error = refused(load(&built_guest("fate"), &pinned));
    assert!(matches!(error, LoadError::Pinned { .. }), "{error}");
    assert!(error.help().unwrap().to_string().contains(&*digest), "{error}");
}

#[test]
fn a_component_that_imports_more_than_its_handler_allows_is_told_the_line_to_write() {
    let granted = |allow: &[&str]| {
        let list: Vec<_> = allow.iter().map(|entry| format!("'{entry}'")).collect();
        let text = format!(
            "kafka.brokers = 'embedded'\n[handlers.tested]\ncomponent = 'c'\nsubscribe = ['in']\nallow = [{}]",
            list.join(", ")
        );
        let loaded = config::parse(text, Path::new("pipeline.toml"), &|_| None, &Overrides::default());
        HandlerPlan { allow: loaded.unwrap().plan.handlers.remove(0).allow, ..plan() }
    };
    let bytes = wat::parse_str(
        r#"(component
            (import "wasi:cli/exit@0.2.3" (instance (export "exit" (func (param "status" (result))))))
            (import "wasi:random/random@0.2.3" (instance (export "get-random-u64" (func (result u64)))))
        )"#,
    )
    .unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("handler.wasm");
    fs::write(&path, bytes).unwrap();

    let error = refused(load(&path, &granted(&["wasi:cli/exit", "wasi:io"])));
    assert!(
        error.to_string().contains("imports `wasi:random/random@0.2.3`, which `allow` of `tested`"),
        "{error}"
    );
    let help = error.help().unwrap().to_string();
    let line = r#"under [handlers.tested]: allow = ["wasi:cli/exit", "wasi:io", "wasi:random/random"]"#;
    assert!(help.contains(line), "{help}");
    // What the line gives is enough: the export alone is missing then, as it was before.
    let enough = mismatches(refused(load(&path, &granted(&["wasi:cli/exit", "wasi:random/random"]))));
    assert!(matches!(enough[..], [Mismatch::MissingExport { .. }]), "{enough:?}");
    assert!(matches!(mismatches(error)[..], [Mismatch::NotAllowed { .. }, Mismatch::MissingExport { .. }]));
}

#[test]
fn a_handler_that_allows_nothing_hears_all_that_its_component_imports() {
    let nothing = HandlerPlan { allow: Allow::none(), ..plan() };
    let error = refused(load(&built_guest("echo"), &nothing));
    let [Mismatch::NotAllowed { imports, line, .. }] = &mismatches(error)[..] else { panic!("not allowed") };
    assert!(imports.iter().all(|import| import.starts_with("wasi:")), "{imports:?}");
    assert!(line.starts_with("allow = [\"wasi:"), "{line}");
}
