//! A broker behind a proxy, the hosts that share a pipeline on it, and customers who place orders all the while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use std::{fs, thread};

use tempfile::TempDir;

use crate::MOST;
use crate::common::built_guest;
use crate::common::host::{Host, Pipeline, until};
use crate::common::http;
use crate::common::kafka::{Broker, controller_port, free_port};
use crate::common::orders::Customers;
use crate::ledger::Ledger;
use crate::preload::Preload;
use crate::proxy::Proxy;

/// How long anything is waited for before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Beside the pipeline that ships: a handler whose events park their keys and become dead letters.
const FLAKY: &str = r#"
[handlers.flaky]
component = "flaky.wasm"
subscribe = ["orders"]
publish = ["flaky_out"]
retry = { attempts = 50, backoff = "50ms..300ms" }
"#;

pub(crate) struct Mill {
    pub(crate) proxy: Proxy,
    pub(crate) preload: Preload,
    pub(crate) ledger: Ledger,
    /// Not there between two of its lives.
    pub(crate) broker: Option<Broker>,
    /// By instance.
    hosts: BTreeMap<&'static str, Host>,
    customers: Customers,
    pipeline: Pipeline,
    /// Past the proxy, for who places orders and who reads.
    direct: String,
    port: u16,
    folder: TempDir,
}

impl Mill {
    pub(crate) fn start(per_second: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, behind) = (free_port(), free_port());
        let proxy = Proxy::to(behind);
        fs::write(folder.path().join("properties"), listeners(port, behind, &proxy)).unwrap();
        let pipeline = Pipeline::shipped(|text| text + FLAKY);
        pipeline.put("flaky.wasm", &fs::read(built_guest("flaky")).unwrap());

        let broker = start_broker(&folder, port);
        let direct = broker.address.clone();
        let preload = Preload::compiled(folder.path());
        let mut hosts = BTreeMap::new();
        for instance in ["one", "two"] {
            hosts.insert(instance, start_host(&pipeline, &proxy, &preload, instance));
        }
        hosts.values_mut().for_each(Host::ready);
        let ledger = Ledger::follow(&direct);
        let customers = Customers::start(&direct, per_second);
        let broker = Some(broker);
        Self { proxy, preload, ledger, broker, hosts, customers, pipeline, direct, port, folder }
    }

    pub(crate) fn host(&self, instance: &str) -> &Host {
        &self.hosts[instance]
    }

    pub(crate) fn start_host(&mut self, instance: &'static str) {
        let host = start_host(&self.pipeline, &self.proxy, &self.preload, instance);
        self.hosts.insert(instance, host);
    }

    pub(crate) fn kill_host(&mut self, instance: &str) {
        self.hosts.remove(instance).unwrap().sigkill();
    }

    /// By SIGTERM: how long it takes to leave.
    pub(crate) fn stop_host(&mut self, instance: &str) -> Duration {
        let (_, took) = self.hosts.remove(instance).unwrap().stop("TERM");
        took
    }

    pub(crate) fn tell_logs(&self) {
        for (name, host) in &self.hosts {
            println!("{name}:\n{}", host.log());
        }
    }

    pub(crate) fn start_broker(&mut self) {
        self.broker = Some(start_broker(&self.folder, self.port));
    }

    /// How many orders of each key were placed until now.
    pub(crate) fn placed(&self) -> BTreeMap<String, u64> {
        self.customers.placed()
    }

    /// How long it takes until what is placed from now on comes out at every end: by the orders of the next second,
    /// and all before them.
    pub(crate) fn recovers(&self) -> Duration {
        let started = Instant::now();
        let before: BTreeMap<_, _> =
            self.hosts.iter().map(|(name, host)| (*name, host.log().len())).collect();
        thread::sleep(Duration::from_secs(1));
        self.waits_for(&self.placed());
        let took = started.elapsed();
        if took > MOST {
            for (name, host) in &self.hosts {
                println!("{name}, since then:\n{}", &host.log()[before[name]..]);
            }
        }
        took
    }

    fn waits_for(&self, placed: &BTreeMap<String, u64>) {
        until(PATIENCE, || self.ledger.has(placed)).unwrap_or_else(|()| {
            for (name, host) in &self.hosts {
                let parked = http::get(&host.url("/admin/parked")).map(|answer| answer.body);
                println!("{name}:\n{}\n{:#}\n{parked:?}", host.log(), host.status().unwrap_or_default());
            }
            let (follows, whole) = (self.ledger.missing(placed), Ledger::read(&self.direct).missing(placed));
            panic!("missing after {PATIENCE:?}: {follows:?}; to who reads from the beginning: {whole:?}");
        });
    }

    /// Both hosts run again and nothing is under way of what was placed before this.
    pub(crate) fn settles(&mut self) -> BTreeMap<String, u64> {
        for instance in ["one", "two"] {
            if !self.hosts.contains_key(instance) {
                self.start_host(instance);
            }
        }
        self.hosts.values_mut().for_each(Host::ready);
        let placed = self.placed();
        self.waits_for(&placed);
        placed
    }

    /// Ends all of it, once everything is through; gives what was placed, the whole of the topics, and the e-mails.
    pub(crate) fn ends(self) -> (BTreeMap<String, u64>, Ledger, usize) {
        let Self { customers, ledger, hosts, pipeline, direct, broker, .. } = self;
        let placed = customers.stop();
        until(PATIENCE, || ledger.has(&placed)).unwrap_or_else(|()| panic!("{:?}", ledger.missing(&placed)));
        for (instance, host) in hosts {
            let (status, took) = host.stop("TERM");
            assert!(
                status.success() && took < Duration::from_secs(15),
                "{instance}: {status} after {took:?}"
            );
        }
        let whole = Ledger::read(&direct);
        drop(broker);
        (placed, whole, pipeline.eml_files().len())
    }
}

/// Of a broker at `port`, and at `behind` for who comes by the proxy: a listener has the address that clients are told.
pub(crate) fn listeners(port: u16, behind: u16, proxy: &Proxy) -> String {
    let (controller, proxied) = (controller_port(port), proxy.port);
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxied}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
    )
}

fn start_broker(folder: &TempDir, port: u16) -> Broker {
    let (data, properties) = (folder.path().join("data"), folder.path().join("properties"));
    Broker::start_with_properties(&data, port, &properties)
}

fn start_host(pipeline: &Pipeline, proxy: &Proxy, preload: &Preload, instance: &str) -> Host {
    Host::start(pipeline, &format!("127.0.0.1:{}", proxy.port), instance, &preload.env())
}
