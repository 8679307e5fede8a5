//! Compiled code that is kept on disk: the same results, and never a byte that the host didn't write.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use tempfile::TempDir;
use wasmill::guest::{CacheError, CodeCache, ComponentFile, ComponentHandler, LoadError, Version};

use crate::common::built_guest;
use crate::{engine, handle_one, plan, texts};

fn compile(guest: &str, cache: &CodeCache) -> (Version, bool) {
    let file = ComponentFile::read(built_guest(guest)).unwrap();
    let (version, compiled) = Version::compile(engine(), &file, &plan(), cache).unwrap();
    (version, compiled.from_cache)
}

fn is_kept(guest: &str, cache: &CodeCache) -> bool {
    let (version, from_cache) = compile(guest, cache);
    let outcome = handle_one(&mut ComponentHandler::new(version, &plan()).unwrap(), "hello");
    assert_eq!(texts(&outcome), ["hello"]);
    from_cache
}

/// The files of code in there.
fn codes(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| !file.ends_with("key"));
    files
}

/// A folder with the code of `echo`, spoilt; then compiles it again, which must not load it, and once more.
fn never_loaded(what: &str, spoil: impl FnOnce(&Path)) {
    let folder = TempDir::new().unwrap();
    let cache = CodeCache::open(folder.path()).unwrap();
    assert!(!is_kept("echo", &cache));
    let [file] = &codes(folder.path())[..] else { panic!("one file") };
    spoil(file);
    assert!(!is_kept("echo", &cache), "{what} was loaded");
    assert!(is_kept("echo", &cache), "{what} is still there");
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

#[test]
fn code_that_was_kept_gives_the_same_results_and_takes_no_compiling() {
    let folder = TempDir::new().unwrap();
    let cache = CodeCache::open(folder.path()).unwrap();
    assert!(!is_kept("echo", &cache));
    assert!(!is_kept("fate", &cache));
    let reopened = CodeCache::open(folder.path()).unwrap();
    assert!(is_kept("echo", &reopened));
    assert!(is_kept("fate", &reopened));
    assert!(!is_kept("echo", &CodeCache::none()));
    assert_eq!(fs::metadata(folder.path().join("key")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn code_that_was_changed_cut_off_or_swapped_is_never_loaded() {
    for place in [0, 31, 32, 1000] {
        never_loaded("a changed byte", |file| change(file, |bytes| bytes[place] ^= 1));
    }
    never_loaded("a changed last byte", |file| change(file, |bytes| *bytes.last_mut().unwrap() ^= 1));
    for length in [0, 10, 32, 5000] {
        never_loaded("a cut file", |file| change(file, |bytes| bytes.truncate(length)));
    }
    never_loaded("one with more behind", |file| change(file, |bytes| bytes.push(0)));
    never_loaded("another component's", |file| {
        let folder = file.parent().unwrap();
        assert!(!is_kept("fate", &CodeCache::open(folder).unwrap()));
        let other = codes(folder).into_iter().find(|other| other != file).unwrap();
        fs::rename(other, file).unwrap();
    });
}

#[test]
fn code_of_another_key_is_never_loaded() {
    never_loaded("a foreign file", |file| {
        let elsewhere = TempDir::new().unwrap();
        assert!(!is_kept("echo", &CodeCache::open(elsewhere.path()).unwrap()));
        fs::copy(&codes(elsewhere.path())[0], file).unwrap();
    });
}

#[test]
fn code_behind_a_link_or_that_others_can_write_is_never_loaded() {
    never_loaded("a link", |file| {
        let moved = file.with_file_name("moved");
        fs::rename(file, &moved).unwrap();
        symlink(moved, file).unwrap();
    });
    for mode in [0o620, 0o602] {
        never_loaded("a file of others", |file| {
            fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
        });
    }
}

#[test]
fn a_folder_that_turns_public_is_no_longer_read() {
    let folder = TempDir::new().unwrap();
    let cache = CodeCache::open(folder.path()).unwrap();
    assert!(!is_kept("echo", &cache));
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    assert!(!is_kept("echo", &cache));
}

#[test]
fn a_folder_that_is_not_this_user_s_alone_is_refused_with_a_remedy() {
    let outside = TempDir::new().unwrap();
    let fresh = |name: &str| {
        let folder = outside.path().join(name);
        CodeCache::open(&folder).unwrap();
        folder
    };
    let refused = |folder: &Path| {
        let error = CodeCache::open(folder).err().expect("a refusal");
        assert!(error.help().is_some());
        match error {
            CacheError::Untrusted { reason, .. } => reason,
            CacheError::Unusable { source, .. } => source.to_string(),
        }
    };
    let link = outside.path().join("link");
    symlink(fresh("behind"), &link).unwrap();
    assert!(refused(&link).contains("symbolic link"));
    assert!(refused(&link.join("")).contains("symbolic link"));

    let public = fresh("public");
    fs::set_permissions(&public, Permissions::from_mode(0o770)).unwrap();
    assert!(refused(&public).contains("look at its mode"));

    let cut = fresh("cut");
    fs::write(cut.join("key"), "short").unwrap();
    assert!(refused(&cut).contains("key is cut off"));

    let told = fresh("told");
    fs::set_permissions(told.join("key"), Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&told).contains("key: others"));

    let file = outside.path().join("file");
    fs::write(&file, "").unwrap();
    refused(&file);
    assert_eq!(fs::metadata(fresh("new")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn compiled_code_is_no_component() {
    let folder = TempDir::new().unwrap();
    is_kept("echo", &CodeCache::open(folder.path()).unwrap());
    let [file] = &codes(folder.path())[..] else { panic!("one file") };
    for skipped in [0, 32] {
        let dropped = folder.path().join("dropped.wasm");
        fs::write(&dropped, &fs::read(file).unwrap()[skipped..]).unwrap();
        let error = crate::load(&dropped, &plan()).err().expect("a refusal");
        assert!(matches!(error, LoadError::NotWasm { .. }), "{error}");
    }
}
