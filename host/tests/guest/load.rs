//! Files that are not a handler, each refused with its reason and a remedy.

use std::fs;

use miette::Diagnostic;
use tempfile::TempDir;
use wasmill::config::plan::{HandlerPlan, LimitsPlan};
use wasmill::guest::{ComponentHandler, LoadError, Mismatch, Version};

use crate::common::built_guest;
use crate::{engine, plan};

fn load(bytes: &[u8]) -> LoadError {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("handler.wasm");
    fs::write(&path, bytes).unwrap();
    refused(Version::load(engine(), &path))
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
    let error = refused(Version::load(engine(), &folder.path().join("none.wasm")));
    assert!(matches!(error, LoadError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("none.wasm"));
}

#[test]
fn a_folder_is_not_a_component() {
    let folder = TempDir::new().unwrap();
    let error = refused(Version::load(engine(), folder.path()));
    assert!(matches!(error, LoadError::Folder { .. }), "{error}");
}

#[test]
fn garbage_and_an_empty_file_are_not_webassembly() {
    for bytes in [&b""[..], b"\0asm", b"#!/bin/sh\necho hello\n", &[0xff; 4096]] {
        let error = load(bytes);
        assert!(matches!(error, LoadError::NotWasm { .. }), "{error}");
    }
}

#[test]
fn a_core_module_is_told_which_build_target_makes_components() {
    let error = load(b"\0asm\x01\0\0\0");
    assert!(matches!(error, LoadError::CoreModule { .. }), "{error}");
    assert!(error.help().unwrap().to_string().contains("wasm32-wasip2"));
}

#[test]
fn a_damaged_component_is_refused() {
    let whole = fs::read(built_guest("echo")).unwrap();
    let error = load(&whole[..whole.len() / 2]);
    assert!(matches!(error, LoadError::Invalid { .. }), "{error}");
}

#[test]
fn a_component_without_the_export_is_of_another_world() {
    let empty = load(b"\0asm\x0d\0\x01\0");
    assert_eq!(mismatches(empty), [Mismatch::MissingExport { exports: vec![] }]);
}

#[test]
fn a_component_of_another_world_hears_all_that_is_wrong_at_once() {
    let mismatches = mismatches(refused(Version::load(engine(), &built_guest("other-world"))));
    assert_eq!(mismatches[0], Mismatch::SurplusImports { imports: vec!["ask".into()] });
    assert!(matches!(mismatches[1], Mismatch::ExportType { .. }), "{}", mismatches[1]);
    assert!(mismatches[1].to_string().contains("expected `list`"), "{}", mismatches[1]);
    assert_eq!(mismatches.len(), 2);
}

#[test]
fn a_component_that_wants_the_network_is_refused_by_the_names_of_its_imports() {
    let error = refused(Version::load(engine(), &built_guest("sockets")));
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
    let version = Version::load(engine(), &built_guest("echo")).unwrap();
    let tiny = LimitsPlan { memory: 64 * 1024, ..plan().limits };
    let error = refused(ComponentHandler::new(version, &HandlerPlan { limits: tiny, ..plan() }));
    assert!(matches!(error, LoadError::MemoryCap { cap: 65536, .. }), "{error}");
}

#[test]
fn a_version_is_known_by_the_digest_of_its_file() {
    let folder = TempDir::new().unwrap();
    let copy = folder.path().join("copy.wasm");
    fs::copy(built_guest("echo"), &copy).unwrap();
    let original = Version::load(engine(), &built_guest("echo")).unwrap();
    let copied = Version::load(engine(), &copy).unwrap();
    let other = Version::load(engine(), &built_guest("fate")).unwrap();
    assert_eq!(original.digest(), copied.digest());
    assert_ne!(original.digest(), other.digest());
    assert_eq!(original.digest().len(), 64);
}

#[test]
fn a_function_that_a_granted_interface_lacks_is_named_beside_what_else_is_wrong() {
    let import = r#"(component (import "wasi:cli/stdout@0.2.0" (instance (export "get-stdin" (func)))))"#;
    let mismatches = mismatches(load(&wat::parse_str(import).unwrap()));
    let [Mismatch::ImportType { reason }, Mismatch::MissingExport { .. }] = &mismatches[..] else {
        panic!("{mismatches:?}")
    };
    assert!(reason.contains("wasi:cli/stdout") && reason.contains("get-stdin"), "{reason}");
}
