//! A running host whose components and pipeline.toml change: what users do, and what they see.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use common::host::{self, Host, Pipeline, signal, until, wasmill};
use common::kafka::{Broker, free_port};
use common::{built_guest, digest, http, orders, rename_over, version, wait_for};
use serde_json::{Value, json};

const HANDLER: &str = "order-formatter";

fn start(pipeline: &Pipeline) -> Host {
    let mut host = Host::start(pipeline, "embedded", "one", &[]);
    host.ready();
    host
}

fn component(pipeline: &Pipeline, handler: &str) -> PathBuf {
    pipeline.path().join(format!("components/{handler}.wasm"))
}

fn status(host: &Host) -> Value {
    host.status().expect("an answer")
}

fn subscriber(host: &Host, name: &str) -> Value {
    host::subscriber(&status(host), name)
}

fn runs(host: &Host, handler: &str, bytes: &[u8]) {
    let wanted = digest(bytes);
    until(Duration::from_secs(20), || subscriber(host, handler)["digest"] == *wanted)
        .unwrap_or_else(|()| panic!("not swapped: {}\n{}", subscriber(host, handler), host.log()));
}

fn refused(host: &Host, handler: &str, words: &str) {
    let told = || subscriber(host, handler)["version"]["refused"].to_string();
    until(Duration::from_secs(20), || told().contains(words))
        .unwrap_or_else(|()| panic!("no {words:?} in {}\n{}", told(), host.log()));
}

fn swaps(host: &Host) -> u64 {
    subscriber(host, HANDLER)["version"]["swaps"].as_u64().unwrap()
}

/// Places an order and gives what GET shows of it when its e-mail is on its way.
fn order(host: &Host, quantity: u64) -> Value {
    let answer = http::post(&host.url("/orders"), &orders::order(quantity).to_string(), &[]).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    let id = answer.json()["order_id"].as_str().unwrap().to_string();
    let mut shown = Value::Null;
    until(Duration::from_secs(20), || {
        shown = http::get(&host.url(&format!("/orders/{id}"))).unwrap().json();
        shown["latest"]["emails"].is_object()
    })
    .unwrap_or_else(|()| panic!("stuck: {shown}\n{}", host.log()));
    shown
}

fn made_by(shown: &Value) -> &str {
    shown["latest"]["order_details"]["headers"]["wasmill-digest"].as_str().unwrap()
}

fn edit(pipeline: &Pipeline, change: impl FnOnce(String) -> String) {
    let file = pipeline.path().join("pipeline.toml");
    fs::write(&file, change(fs::read_to_string(&file).unwrap())).unwrap();
}

fn cli(pipeline: &Pipeline, host: &Host, args: &[&str]) -> (bool, String) {
    let ended =
        wasmill().args(args).current_dir(pipeline.path()).env("WASMILL_LISTEN", &host.address).output();
    let ended = ended.unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn a_file_in_the_place_of_another_runs_from_the_next_batch_however_it_got_there() {
    let pipeline = Pipeline::shipped(|text| text);
    let path = component(&pipeline, HANDLER);
    let first = fs::read(&path).unwrap();
    let host = start(&pipeline);
    assert_eq!(made_by(&order(&host, 1)), digest(&first));

    // Renamed over.
    let second = version(&first, 2);
    rename_over(&path, &second);
    runs(&host, HANDLER, &second);
    assert_eq!(made_by(&order(&host, 1)), digest(&second));

    // Copied over, slowly: nothing of it runs before it is whole.
    let third = version(&first, 3);
    let mut slow = fs::File::create(&path).unwrap();
    for piece in third.chunks(third.len() / 5) {
        slow.write_all(piece).unwrap();
        thread::sleep(Duration::from_millis(150));
    }
    drop(slow);
    runs(&host, HANDLER, &third);
    assert_eq!(swaps(&host), 2, "{}", host.log());
    assert!(!host.log().contains("refused"), "{}", host.log());

    // Behind two symbolic links, the first of which changes: as Kubernetes updates a ConfigMap.
    let folder = pipeline.path().join("components");
    let fourth = version(&first, 4);
    for (mount, bytes) in [("..one", &third), ("..two", &fourth)] {
        fs::create_dir(folder.join(mount)).unwrap();
        fs::write(folder.join(mount).join("order-formatter.wasm"), bytes).unwrap();
    }
    symlink("..one", folder.join("..data")).unwrap();
    symlink("..data/order-formatter.wasm", folder.join("link")).unwrap();
    fs::rename(folder.join("link"), &path).unwrap();
    symlink("..two", folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    runs(&host, HANDLER, &fourth);
    assert_eq!(made_by(&order(&host, 1)), digest(&fourth));

    // A link to another file, a backup, an editor's file beside it, a touch, an equal file: none of them is a change.
    fs::write(folder.join(".order-formatter.wasm.swp"), "x").unwrap();
    rename_over(&path, &fourth);
    assert!(std::process::Command::new("touch").arg(&path).status().unwrap().success());
    // The next real change comes after all of these.
    rename_over(&path, &first);
    runs(&host, HANDLER, &first);
    assert_eq!(swaps(&host), 4, "{}", host.log());

    let shown = subscriber(&host, HANDLER);
    assert_eq!(shown["version"]["previous"], digest(&fourth), "{shown}");
    let metrics = http::get(&host.url("/metrics")).unwrap().body;
    let info = format!("digest=\"{}\",previous=\"{}\"", digest(&first), digest(&fourth));
    assert!(metrics.contains(&info), "{metrics}");
    order(&host, 1);
    let offsets = || subscriber(&host, HANDLER)["version"]["first_offsets"].to_string();
    wait_for("first offset", || offsets().contains("orders/"));
    let log = host.log();
    assert!(log.contains(&format!("new=\"{}\"", &digest(&first)[..12])), "{log}");
    assert!(log.contains("runs from orders/"), "{log}");
    assert!(host.stop("TERM").0.success());
}

#[test]
fn a_file_that_can_t_be_used_changes_nothing_and_says_why() {
    let pipeline = Pipeline::shipped(|text| text);
    let path = component(&pipeline, HANDLER);
    let first = fs::read(&path).unwrap();
    let host = start(&pipeline);
    for (bytes, words) in [
        (first[..first.len() / 2].to_vec(), "can't be compiled"),
        (b"#!/bin/sh".to_vec(), "is not WebAssembly"),
        (b"\0asm\x01\0\0\0".to_vec(), "is a core WebAssembly module"),
        (fs::read(built_guest("other-world")).unwrap(), "of another world"),
        (fs::read(built_guest("sockets")).unwrap(), "wasi:sockets/"),
    ] {
        rename_over(&path, &bytes);
        refused(&host, HANDLER, words);
        assert_eq!(made_by(&order(&host, 1)), digest(&first));
    }
    fs::remove_file(&path).unwrap();
    refused(&host, HANDLER, "there is no component at");
    assert_eq!(made_by(&order(&host, 1)), digest(&first));

    // It is back, and nothing was ever swapped.
    rename_over(&path, &first);
    until(Duration::from_secs(20), || subscriber(&host, HANDLER)["version"]["refused"].is_null())
        .unwrap_or_else(|()| panic!("{}", host.log()));
    assert_eq!(swaps(&host), 0);
}

#[test]
fn what_pipeline_toml_grants_is_all_that_a_new_file_gets() {
    let pipeline = Pipeline::shipped(|text| text);
    let path = component(&pipeline, HANDLER);
    let first = fs::read(&path).unwrap();
    let host = start(&pipeline);
    let handler_with = |line: &str| {
        edit(&pipeline, |text| {
            let kept: Vec<&str> = text
                .lines()
                .filter(|line| !line.starts_with("allow") && !line.starts_with("sha256"))
                .collect();
            kept.join("\n")
                .replace("[handlers.order-formatter]", &format!("[handlers.order-formatter]\n{line}"))
        });
    };
    let config_error = || status(&host)["config"]["error"].to_string();

    // Too little for what runs: refused as a whole.
    handler_with("allow = []");
    wait_for("refusal", || config_error().contains("wasi:"));
    assert_eq!(made_by(&order(&host, 1)), digest(&first));

    // Pinned to what runs, then to what comes.
    handler_with(&format!("sha256 = \"{}\"", digest(&first)));
    wait_for("reload", || config_error() == "null");
    let second = version(&first, 2);
    rename_over(&path, &second);
    refused(&host, HANDLER, "sha256");
    handler_with(&format!("sha256 = \"{}\"", digest(&second)));
    runs(&host, HANDLER, &second);

    // The other way round: first the line, then the file.
    let third = version(&first, 3);
    handler_with(&format!("sha256 = \"{}\"", digest(&third)));
    wait_for("refusal", || config_error().contains("sha256"));
    rename_over(&path, &third);
    runs(&host, HANDLER, &third);
    wait_for("reload", || config_error() == "null");
    assert_eq!(made_by(&order(&host, 1)), digest(&third));
}

#[test]
fn a_rollback_holds_until_the_file_changes_over_a_restart_too() {
    let pipeline = Pipeline::shipped(|text| {
        text.replace("subscribe = [\"orders\"]", "subscribe = [\"orders\"]\nkeep = 3")
    });
    let path = component(&pipeline, HANDLER);
    let first = fs::read(&path).unwrap();
    let versions: Vec<Vec<u8>> = (1..=4).map(|number| version(&first, number)).collect();
    let mut host = start(&pipeline);
    for bytes in &versions {
        rename_over(&path, bytes);
        runs(&host, HANDLER, bytes);
    }
    // Of five, three are kept.
    let (ok, listed) = cli(&pipeline, &host, &["versions", HANDLER, "--json"]);
    assert!(ok, "{listed}");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let kept: Vec<&str> =
        listed["versions"].as_array().unwrap().iter().map(|v| v["digest"].as_str().unwrap()).collect();
    assert_eq!(kept, [3, 2, 1].map(|number| digest(&versions[number])));

    for number in [2, 1] {
        let (ok, said) = cli(&pipeline, &host, &["rollback", HANDLER]);
        assert!(ok && said.contains(&digest(&versions[number])[..12]), "{said}");
        runs(&host, HANDLER, &versions[number]);
        assert_eq!(made_by(&order(&host, 1)), digest(&versions[number]));
    }
    let (ok, said) = cli(&pipeline, &host, &["rollback", HANDLER]);
    assert!(!ok && said.contains("no version"), "{said}");
    let (ok, said) = cli(&pipeline, &host, &["rollback", HANDLER, "00000000"]);
    assert!(!ok && said.contains("wasmill versions"), "{said}");
    let (ok, said) = cli(&pipeline, &host, &["versions", "nobody"]);
    assert!(!ok && said.contains(HANDLER), "{said}");

    // Neither a touch nor a restart ends it.
    assert!(std::process::Command::new("touch").arg(&path).status().unwrap().success());
    assert!(host.stop("TERM").0.success());
    host = start(&pipeline);
    runs(&host, HANDLER, &versions[1]);
    assert!(host.log().contains("rolled back"), "{}", host.log());
    assert_eq!(made_by(&order(&host, 1)), digest(&versions[1]));

    // Another file does.
    let next = version(&first, 9);
    rename_over(&path, &next);
    runs(&host, HANDLER, &next);
    // And back to a version by its name.
    let (ok, said) = cli(&pipeline, &host, &["rollback", HANDLER, &digest(&versions[3])[..16]]);
    assert!(ok, "{said}");
    runs(&host, HANDLER, &versions[3]);

    // Fewer are kept from the reload on, but never less than what runs.
    let file = pipeline.path().join("pipeline.toml");
    let toml = fs::read_to_string(&file).unwrap();
    fs::write(&file, toml.replace("keep = 3", "keep = 1")).unwrap();
    wait_for("fewer versions", || {
        let (_, listed) = cli(&pipeline, &host, &["versions", HANDLER, "--json"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let kept = listed["versions"].as_array().unwrap();
        kept.len() == 1 && kept[0]["digest"] == digest(&versions[3])
    });
}

#[test]
fn a_subscriber_comes_changes_and_goes_while_the_others_go_on() {
    // Groups that change are a real broker's business.
    let kafka = Broker::start_empty();
    let pipeline = Pipeline::shipped(|text| text);
    let mut host = Host::start(&pipeline, &kafka.address, "one", &[]);
    host.ready();
    order(&host, 1);
    let audit = "\n[handlers.audit]\ncomponent = \"components/order-formatter.wasm\"\nsubscribe = [\"orders\"]\npublish = [\"audited\"]\n\n\
                 [http.resources.audits]\ntopic = \"audits\"\nkey = \"id\"\n";
    let shipped = fs::read_to_string(pipeline.path().join("pipeline.toml")).unwrap();

    let (ok, said) = {
        fs::write(pipeline.path().join("next.toml"), format!("{shipped}{audit}")).unwrap();
        cli(&pipeline, &host, &["check", "--config", "next.toml", "--diff"])
    };
    assert!(ok && said.contains("handlers.audit is new: it starts"), "{said}");
    assert!(subscriber(&host, "audit").is_null());

    edit(&pipeline, |text| text + audit);
    let events = || subscriber(&host, "audit")["events"].as_u64().unwrap_or(0);
    // From the beginning of its topic.
    until(Duration::from_secs(20), || events() == 1).unwrap_or_else(|()| panic!("{}", host.log()));
    let answer = http::post(&host.url("/audits"), "{\"a\": 1}", &[]).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);

    // More threads, then other topics.
    edit(&pipeline, |text| text.replace("publish = [\"audited\"]", "publish = [\"audited\"]\nshards = 2"));
    let shards = || subscriber(&host, "audit")["shards"].as_array().map_or(0, Vec::len);
    let has_its_share = || host.log().contains("partitions assigned client=\"audit/1 source\"");
    until(Duration::from_secs(20), || shards() == 2 && has_its_share())
        .unwrap_or_else(|()| panic!("{}", host.log()));
    edit(&pipeline, |text| text.replace("shards = 2\n", "").replace("[\"audited\"]", "[\"elsewhere\"]"));
    until(Duration::from_secs(20), || shards() == 1).unwrap_or_else(|()| panic!("{}", host.log()));
    order(&host, 1);
    until(Duration::from_secs(20), || events() >= 2).unwrap_or_else(|()| panic!("{}", host.log()));

    // And gone: drained, and nothing of it is left.
    edit(&pipeline, |_| shipped);
    until(Duration::from_secs(20), || subscriber(&host, "audit").is_null())
        .unwrap_or_else(|()| panic!("{}", host.log()));
    assert_eq!(http::post(&host.url("/audits"), "{}", &[]).unwrap().status, 404);
    order(&host, 1);

    // Who stayed the same was never touched.
    for untouched in ["order-formatter", "transaction-processor", "email-composer", "mail"] {
        let assigned = format!("partitions assigned client=\"{untouched}/0 source\"");
        assert_eq!(host.log().matches(&assigned).count(), 1, "{untouched}\n{}", host.log());
    }
}

#[test]
fn limits_env_and_schemas_change_without_leaving_a_group() {
    let pipeline = Pipeline::shipped(|text| text);
    let host = start(&pipeline);
    assert!(order(&host, 2)["latest"]["order_confirmed"].is_object());
    edit(&pipeline, |text| {
        text.replace("\"100000\"", "\"2000\"").replace("time = \"1 s\"", "time = \"2 s\"")
    });
    let reloads = |count: u64| {
        until(Duration::from_secs(20), || status(&host)["config"]["reloads"] == count)
            .unwrap_or_else(|()| panic!("{}\n{}", status(&host)["config"], host.log()));
    };
    reloads(1);
    assert!(order(&host, 2)["latest"]["order_declined"].is_object());

    let schema = pipeline.path().join("schemas/order.json");
    let lax = fs::read_to_string(&schema).unwrap();
    let mut strict: Value = serde_json::from_str(&lax).unwrap();
    strict["required"].as_array_mut().unwrap().push(json!("coupon"));
    fs::write(&schema, strict.to_string()).unwrap();
    reloads(2);
    let answer = http::post(&host.url("/orders"), "{\"currency\": \"EUR\"}", &[]).unwrap();
    assert!(answer.status == 422 && answer.body.contains("coupon"), "{}", answer.body);
    fs::write(&schema, lax).unwrap();
    reloads(3);

    // SIGHUP reads again what has not changed.
    signal(host.pid(), "HUP");
    reloads(4);
    assert_eq!(host.log().matches("partitions assigned").count(), 4, "{}", host.log());
}

#[test]
fn changes_while_no_broker_is_there_leave_nobody_waiting_for_ever() {
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let pipeline = Pipeline::shipped(|text| text);
    let mut host = Host::start(&pipeline, &format!("127.0.0.1:{port}"), "one", &[]);
    let reloads = |count: u64| {
        let reloads = || host.status().map(|status| status["config"]["reloads"].clone());
        until(Duration::from_secs(30), || reloads() == Some(count.into()))
            .unwrap_or_else(|()| panic!("not reload {count}\n{}", host.log()));
    };
    reloads(0);
    for count in 1..=3 {
        edit(&pipeline, |text| {
            text.replace(&format!("attempts = {}", 4 + count), &format!("attempts = {}", 5 + count))
        });
        reloads(count);
    }
    let _kafka = Broker::start_with(data.path(), port);
    host.ready();
    order(&host, 1);
}

#[test]
fn a_broken_pipeline_toml_changes_nothing_is_shown_and_can_be_mended() {
    let pipeline = Pipeline::shipped(|text| text);
    let host = start(&pipeline);
    fs::write(pipeline.path().join("secret"), "hunter2").unwrap();
    let config_error = || status(&host)["config"]["error"].to_string();
    let shipped = fs::read_to_string(pipeline.path().join("pipeline.toml")).unwrap();
    for (broken, words) in [
        (format!("{shipped}\n[handlers"), "not TOML"),
        (
            shipped.replace("subscribe = [\"orders\"]", "subscribes = [\"orders\"]"),
            "did you mean `subscribe`",
        ),
        (shipped.replace("name = \"food-ordering\"", "name = \"other\""), "can't change while the host runs"),
        (
            shipped.replace("[http]\n", "[kafka.properties]\n\"socket.keepalive.enable\" = true\n\n[http]\n"),
            "`kafka.properties` can't change",
        ),
        (shipped.replace("${WASMILL_LISTEN:-127.0.0.1:8080}", "192.0.2.1:1"), "can't listen on"),
        (
            format!(
                "{shipped}\n[handlers.late]\ncomponent = \"${{file:secret}}.wasm\"\nsubscribe = [\"orders\"]\n"
            ),
            "there is no component at ${file:secret}.wasm",
        ),
        (
            format!(
                "{shipped}\n[handlers.late]\ncomponent = \"components/late.wasm\"\nsubscribe = [\"orders\"]\n"
            ),
            "components/late.wasm",
        ),
    ] {
        edit(&pipeline, |_| broken);
        until(Duration::from_secs(20), || config_error().contains(words))
            .unwrap_or_else(|()| panic!("no {words:?} in {}\n{}", config_error(), host.log()));
        assert_eq!(http::get(&host.url("/readyz")).unwrap().status, 200);
        let (ok, said) = cli(&pipeline, &host, &["check", "--diff", "--url", &host.url("")]);
        assert!(!ok && said.contains(words), "{said}");
        let (ok, json) = cli(&pipeline, &host, &["check", "--diff", "--json", "--url", &host.url("")]);
        assert!(!ok && json.contains("\"ok\": false") && json.contains("\"errors\": ["), "{json}");
        assert!(![said, json, host.log(), config_error()].concat().contains("hunter2"), "{}", host.log());
        order(&host, 1);
    }
    // What the last one lacks gets there: no further edit is needed.
    rename_over(&component(&pipeline, "late"), &fs::read(component(&pipeline, HANDLER)).unwrap());
    wait_for("late handler", || subscriber(&host, "late")["events"].as_u64() > Some(0));
    assert_eq!(config_error(), "null");
    edit(&pipeline, |_| shipped);
    wait_for("mended file", || subscriber(&host, "late").is_null());
    let (ok, said) = cli(&pipeline, &host, &["check", "--diff"]);
    assert!(ok && said.contains("nothing would change"), "{said}");
}
