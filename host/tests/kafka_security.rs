//! Every way to log in that the README names, to a real Apache Kafka: SASL PLAIN, SCRAM and OAUTHBEARER, and TLS;
//! and that who is turned away learns why.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{DEADLINE, kafka, wait_for};
use wasmill::config::plan::{Brokers, KafkaPlan, Secret, TopicKind, TopicPlan};
use wasmill::event::Record;
use wasmill::log::kafka::{Cluster, ConnectError, Start};
use wasmill::log::{Commit, Committer as _, Progress, Publish, Source as _};

/// So often, a connection must show that its token is still good (KIP-368).
const REAUTHENTICATION: Duration = Duration::from_secs(3);

#[test]
fn records_go_round_by_sasl_plain_and_a_wrong_password_is_told() {
    let broker = secured();
    let login = |password| {
        [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "ada"),
            ("sasl.password", password),
        ]
    };
    goes_round(&broker.sasl, &login("secret"));
    is_told(&broker.sasl, &login("wrong"), "authentication failed");
}

#[test]
fn records_go_round_by_scram_and_a_wrong_password_is_told() {
    let broker = secured();
    let login = |password| {
        [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "ada"),
            ("sasl.password", password),
        ]
    };
    goes_round(&broker.sasl, &login("secret"));
    is_told(&broker.sasl, &login("wrong"), "authentication failed");
}

#[test]
fn records_go_round_by_tls_and_a_certificate_that_nobody_vouches_for_is_told() {
    let broker = secured();
    let login = [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "ada"),
        ("sasl.password", "secret"),
    ];
    let ca = broker.folder.path().join("ca.pem");
    let ca = ca.to_str().expect("a path in UTF-8");
    goes_round(&broker.tls, &[&login[..], &[("ssl.ca.location", ca)]].concat());
    is_told(&broker.tls, &login, "certificate verify failed");
}

#[test]
fn records_go_round_by_oauthbearer_with_a_token_that_its_file_renews() {
    let broker = secured();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let config = format!("file:{}", file.path().display());
    let login = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.config", &*config),
    ];
    write_token(file.path(), Duration::from_secs(600));
    let cluster = goes_round(&broker.sasl, &login);

    // A client asks for a new token before the old one ends. The broker ends a session with its token, so that
    // whoever is answered when the old token is good no more has logged in by a new one.
    write_token(file.path(), Duration::from_secs(5));
    let old = tempfile::NamedTempFile::new().expect("a file");
    fs::copy(file.path(), old.path()).expect("a file");
    let prober = cluster.prober().expect("a prober");
    prober.ping(DEADLINE).expect("an answer");
    write_token(file.path(), Duration::from_secs(600));
    let config = format!("file:{}", old.path().display());
    let by_the_old_one = [login[0], login[1], ("sasl.oauthbearer.config", &*config)];
    wait_for("the old token's end", || {
        // A connection that is lost meanwhile is made anew.
        let _ = prober.ping(DEADLINE);
        let newcomer =
            cluster_of(&broker.sasl, &by_the_old_one).expect("a token").prober().expect("a prober");
        newcomer.ping(Duration::from_secs(2)).is_err_and(|reason| reason.contains("unexpired token"))
    });
    prober.ping(DEADLINE).expect("an answer");

    fs::write(file.path(), "no token").expect("a file");
    match cluster_of(&broker.sasl, &login) {
        Err(ConnectError::Property { name, reason }) => {
            assert_eq!(name, "sasl.oauthbearer.config");
            assert!(reason.contains("holds no JWT"), "{reason}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("no token is a token"),
    }
}

// ---

struct Secured {
    sasl: String,
    tls: String,
    folder: tempfile::TempDir,
    _broker: kafka::Broker,
}

/// One broker for all tests: `ada` may log in by each mechanism.
fn secured() -> &'static Secured {
    static SHARED: OnceLock<Secured> = OnceLock::new();
    SHARED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        make_certificate(folder.path());
        let [port, sasl, tls] = [(); 3].map(|()| kafka::free_port());
        let controller = kafka::controller_port(port);
        let keystore = folder.path().join("server.pem");
        let login = "required user_ada=\"secret\";";
        let plain = format!("org.apache.kafka.common.security.plain.PlainLoginModule {login}");
        let properties = format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},\
             SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl},TLS://localhost:{tls}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SASL_SSL\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER\n\
             listener.name.sasl.plain.sasl.jaas.config={plain}\n\
             listener.name.sasl.scram-sha-512.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             listener.name.sasl.oauthbearer.sasl.jaas.config=\
             org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"broker\";\n\
             listener.name.sasl.oauthbearer.connections.max.reauth.ms={}\n\
             listener.name.tls.sasl.enabled.mechanisms=PLAIN\n\
             listener.name.tls.plain.sasl.jaas.config={plain}\n\
             listener.name.tls.ssl.keystore.type=PEM\n\
             listener.name.tls.ssl.keystore.location={}\n",
            REAUTHENTICATION.as_millis(),
            keystore.display()
        );
        let file = folder.path().join("properties");
        fs::write(&file, properties).expect("a file");
        let broker = kafka::Broker::start_secured(port, &file, "ada:secret");
        Secured {
            sasl: format!("127.0.0.1:{sasl}"),
            tls: format!("localhost:{tls}"),
            folder,
            _broker: broker,
        }
    })
}

/// `server.pem`, the broker's key and certificate, and `ca.pem`, by which clients know it.
fn make_certificate(folder: &Path) {
    let made = Command::new("openssl")
        .current_dir(folder)
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "ca.pem"])
        .output()
        .expect("openssl is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name| fs::read_to_string(folder.join(name)).expect("a file");
    fs::write(folder.join("server.pem"), read("key.pem") + &read("ca.pem")).expect("a file");
}

/// A JWT without a signature, which the broker's unsecured validator takes.
fn write_token(path: &Path, life: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let part = |json: String| URL_SAFE_NO_PAD.encode(json);
    let claims = format!(r#"{{"sub":"ada","iat":{now},"exp":{}}}"#, now + life.as_secs());
    let token = format!("{}.{}.", part(r#"{"alg":"none"}"#.into()), part(claims));
    fs::write(path, token).expect("a file");
}

fn cluster_of(address: &str, properties: &[(&str, &str)]) -> Result<Cluster, ConnectError> {
    let mut properties: BTreeMap<_, _> =
        properties.iter().map(|(k, v)| ((*k).to_string(), Secret::new(*v))).collect();
    properties.insert("broker.address.family".into(), Secret::new("v4"));
    let brokers = Brokers::Addresses(address.into());
    Cluster::connect(&KafkaPlan { brokers, properties, instance: "one".into() }, "p")
}

/// Through every kind of client that there is.
fn goes_round(address: &str, properties: &[(&str, &str)]) -> Cluster {
    let cluster = cluster_of(address, properties).expect("a cluster");
    cluster.prober().expect("a prober").ping(DEADLINE).expect("an answer");
    let id = uuid::Uuid::now_v7().simple().to_string();
    let [input, output] = ["in", "out"].map(|name| Arc::<str>::from(format!("{name}-{id}")));
    let plan = [&input, &output].map(|name| TopicPlan {
        name: name.clone(),
        partitions: 1,
        replication: 1,
        kind: TopicKind::Events,
    });
    assert_eq!(cluster.ensure_topics(&plan).expect("topics").len(), 2);

    let record = |topic: &Arc<str>| Record {
        topic: topic.clone(),
        key: None,
        payload: Some("1".into()),
        headers: vec![],
    };
    let publisher = cluster.publisher(DEADLINE).expect("a publisher");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(publisher.publish(record(&input), DEADLINE)).expect("an acknowledgement");

    let mut committer = cluster.committer(&id, 0).expect("a committer");
    let mut source = cluster.source(&id, &id, 0, std::slice::from_ref(&input)).expect("a source");
    let mut progress = BTreeMap::new();
    wait_for("the event", || {
        for event in source.poll(10, Duration::from_millis(100)).expect("a poll").events {
            let offset = event.position.offset + 1;
            let done = Progress { offset, metadata: String::new() };
            progress.insert(event.position.topic_partition(), done);
        }
        !progress.is_empty()
    });
    let commit = Commit { publish: vec![record(&output)], progress };
    committer.commit(&commit, &source.membership()).expect("a commit");

    let mut tail = cluster.tail(std::slice::from_ref(&output), &Start::Beginning).expect("a tail");
    wait_for("the output", || !tail.poll(10, Duration::from_millis(100)).expect("a poll").is_empty());
    cluster
}

/// By every kind of client, within seconds.
fn is_told(address: &str, properties: &[(&str, &str)], reason: &str) {
    let cluster = cluster_of(address, properties).expect("nothing is contacted yet");
    let says = |what: &str, started: Instant, error: String| {
        assert!(error.to_lowercase().contains(reason), "{what}: {error}");
        assert!(!error.contains("wrong") && !error.contains("secret"), "{what}: {error}");
        assert!(started.elapsed() < Duration::from_secs(10), "{what}: {:?}", started.elapsed());
    };
    let started = Instant::now();
    let answer = cluster.prober().expect("a prober").ping(Duration::from_secs(2));
    says("prober", started, answer.expect_err("turned away"));

    let started = Instant::now();
    let topic = TopicPlan { name: "topic".into(), partitions: 1, replication: 1, kind: TopicKind::Events };
    says("topics", started, cluster.ensure_topics(&[topic]).expect_err("turned away").to_string());

    let started = Instant::now();
    says("committer", started, cluster.committer("h", 0).err().expect("turned away").to_string());

    let started = Instant::now();
    let mut source = cluster.source("g", "h", 0, &["topic".into()]).expect("a source");
    let mut told = None;
    wait_for("an error", || {
        told = source.poll(1, Duration::from_millis(100)).err();
        told.is_some()
    });
    says("source", started, told.expect("an error").to_string());

    let started = Instant::now();
    let publisher = cluster.publisher(Duration::from_secs(2)).expect("a publisher");
    let record = Record { topic: "topic".into(), key: None, payload: None, headers: vec![] };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let answer = runtime.block_on(publisher.publish(record, Duration::from_secs(2)));
    says("publisher", started, answer.expect_err("turned away").to_string());
}
