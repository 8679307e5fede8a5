//! schemas/pipeline.schema.json, which editors complete pipeline.toml from, is what the types say.

use std::path::Path;

#[test]
fn the_committed_schema_is_the_one_of_the_types() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/pipeline.schema.json");
    let actual = format!("{:#}\n", wasmill::config::schema());
    if std::env::var_os("WASMILL_UPDATE").is_some() {
        std::fs::write(&file, &actual).expect("a writable schema");
    }
    let committed = std::fs::read_to_string(&file).expect("schemas/pipeline.schema.json is committed");
    assert!(
        committed == actual,
        "schemas/pipeline.schema.json is not what host/src/config/raw.rs says. Make it anew:\n\
         WASMILL_UPDATE=1 cargo test --release -p wasmill --test config_schema"
    );
}
