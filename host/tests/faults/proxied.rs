//! A broker that is reached by a proxy, with one event in its topic `in`.

use std::fs;

use tempfile::TempDir;
use wasmill::config::plan::{TopicKind, TopicPlan};
use wasmill::log::kafka::Cluster;

use crate::common::kafka::{Broker, free_port};
use crate::common::orders::{cluster, publish};
use crate::mill::listeners;
use crate::proxy::Proxy;

pub(crate) struct Proxied {
    pub(crate) proxy: Proxy,
    /// Behind the proxy.
    pub(crate) cluster: Cluster,
    /// Past the proxy.
    pub(crate) direct: String,
    _broker: Broker,
    _folder: TempDir,
}

impl Proxied {
    pub(crate) fn start(partitions: i32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, behind) = (free_port(), free_port());
        let proxy = Proxy::to(behind);
        let properties = folder.path().join("properties");
        fs::write(&properties, listeners(port, behind, &proxy)).unwrap();
        let broker = Broker::start_with_properties(&folder.path().join("data"), port, &properties);
        let topic = TopicPlan { name: "in".into(), partitions, replication: 1, kind: TopicKind::Events };
        cluster(&broker.address).ensure_topics(&[topic]).unwrap();
        publish(&broker.address, "in", [("k".into(), "1".into())]);
        let cluster = cluster(&format!("127.0.0.1:{}", proxy.port));
        let direct = broker.address.clone();
        Self { proxy, cluster, direct, _broker: broker, _folder: folder }
    }
}
