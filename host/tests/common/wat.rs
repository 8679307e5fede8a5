//! Guests that no toolchain makes, as text: each file of tests/guests/wat is the core module of a component.

use std::fs;
use std::path::PathBuf;

use super::root;

/// The world of wit/handler.wit around the module.
const WORLD: [&str; 2] = [
    r#"(component
  (import "wasmill:handler/types@0.1.0" (instance $types
    (type $header-record (record (field "name" string) (field "value" (list u8))))
    (export "header" (type $header (eq $header-record)))
    (type $event-record (record
      (field "topic" string)
      (field "partition" u32)
      (field "offset" u64)
      (field "timestamp-ms" (option s64))
      (field "key" (option (list u8)))
      (field "payload" (option (list u8)))
      (field "headers" (list $header))
      (field "attempt" u32)))
    (export "event" (type (eq $event-record)))
    (type $output-record (record
      (field "topic" (option string))
      (field "key" (option (list u8)))
      (field "payload" (option (list u8)))
      (field "headers" (list $header))))
    (export "output" (type (eq $output-record)))
    (type $failure-variant (variant (case "retry" string) (case "reject" string)))
    (export "failure" (type (eq $failure-variant)))))
  (alias export $types "event" (type $event))
  (alias export $types "output" (type $output))
  (alias export $types "failure" (type $failure))
"#,
    r#"
  (core instance $instance (instantiate $guest))
  (func $handle
    (param "events" (list $event))
    (result (list (result (list $output) (error $failure))))
    (canon lift (core func $instance "handle")
      (memory $instance "memory")
      (realloc (func $instance "realloc"))))
  (export "handle" (func $handle)))"#,
];

/// The component of that name, if there is one.
pub(crate) fn written_guest(name: &str) -> Option<PathBuf> {
    let module = root().join("host/tests/guests/wat").join(name).with_extension("wat");
    let module = fs::read_to_string(module).ok()?;
    let component = wat::parse_str(WORLD.join(&module)).expect("a component");
    let folder = root().join("target/guests/wat");
    fs::create_dir_all(&folder).expect("a folder");
    // Renamed, because other tests may be reading it.
    let file = folder.join(name).with_extension("wasm");
    let new = tempfile::NamedTempFile::new_in(&folder).expect("a file");
    fs::write(&new, component).expect("a file");
    new.persist(&file).expect("a file");
    Some(file)
}
