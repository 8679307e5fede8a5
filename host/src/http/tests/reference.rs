//! docs/reference/metrics.md is made of the table of /metrics, and what deployments name is in it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::http::metrics::{FAMILIES, Family};

fn at_root(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

fn reference() -> String {
    let mut text = String::from(
        "<!-- Made from host/src/http/metrics/families.rs: \
         WASMILL_UPDATE=1 cargo test --release --locked -p wasmill --lib reference -->\n\
         # Metrics\n\n\
         `GET /metrics`, in Prometheus's text format 0.0.4. Counters are since the process started. A host\n\
         tells of its own shards: sum over the hosts of a pipeline.\n\n\
         The series of one scrape are bounded by pipeline.toml and the partitions of its topics: `subscriber`\n\
         is a handler or a sink, `topic` one that it reads, `resource` one that pipeline.toml has, or had\n\
         since the process started; `kind`, `result`, `method` and `status` have few values. Of the versions\n\
         of a handler, only the running one is shown. Over time, each swap begins new series: one of\n\
         `wasmill_version_info`, and one a partition of `wasmill_version_first_offset`.\n\n\
         Histograms have the buckets 1, 2 and 5 times the powers of ten, from 1 to 10⁸; of seconds, from\n\
         1 µs to 100 s.\n\n\
         `deploy/alerts.yaml` has alerts, `deploy/grafana` a dashboard.\n\n\
         | name | type | labels | unit | what |\n|---|---|---|---|---|\n",
    );
    for family in FAMILIES {
        let Family { name, labels, help, .. } = family;
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, unit) = (family.kind(), family.unit().unwrap_or_default());
        writeln!(text, "| `{name}` | {} | {} | {unit} | {help} |", kind.as_str(), labels.join(", ")).unwrap();
    }
    text
}

#[test]
fn the_committed_reference_is_the_one_of_the_table() {
    let file = at_root("docs/reference/metrics.md");
    if std::env::var_os("WASMILL_UPDATE").is_some() {
        assert!(std::env::var_os("CI").is_none(), "WASMILL_UPDATE in CI: nothing would be compared");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, reference()).unwrap();
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    assert!(committed == reference(), "make docs/reference/metrics.md anew, by the command at its top");
}

#[test]
fn whatever_the_dashboard_and_the_alerts_ask_for_is_told() {
    let mut told = BTreeSet::new();
    for family in FAMILIES {
        match family.kind().as_str() {
            "histogram" => {
                told.extend(["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", family.name)))
            }
            _ => _ = told.insert(family.name.to_string()),
        }
    }
    for file in ["deploy/grafana/dashboards/wasmill.json", "deploy/alerts.yaml", "deploy/alerts-test.yaml"] {
        let text = std::fs::read_to_string(at_root(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named =
            words.filter(|word| ["wasmill_", "process_"].iter().any(|prefix| word.starts_with(prefix)));
        let named: BTreeSet<&str> = named.collect();
        assert!(named.len() > 10, "{file}: only {named:?}");
        let unknown: Vec<_> = named.iter().filter(|name| !told.contains(**name)).collect();
        assert!(unknown.is_empty(), "{file}: the host tells nothing of {unknown:?}");
    }
}
