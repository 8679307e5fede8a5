//! librdkafka's MockCluster, inside this process: for trying things out, in memory, at least once.
//!
//! Made through the native interface because rdkafka's wrapper can't shorten the 3 s that its groups
//! otherwise wait for a second member, which is most of the time from `just up` to the first e-mail.

use std::ffi::{CStr, CString};

use rdkafka::bindings as native;
use rdkafka::client::Client;
use rdkafka::config::ClientConfig;
use rdkafka::error::{IsError, RDKafkaErrorCode};
use rdkafka::types::{RDKafkaMockCluster, RDKafkaType};

use super::context::Plain;

pub(super) struct Embedded {
    cluster: *mut RDKafkaMockCluster,
    /// Owns the cluster's threads; dropped after it.
    _client: Client<Plain>,
}

// SAFETY: librdkafka's mock functions lock the cluster or hand their work to its own thread.
unsafe impl Send for Embedded {}
// SAFETY: as above.
unsafe impl Sync for Embedded {}

impl Embedded {
    pub(super) fn start() -> Result<Self, String> {
        let config = ClientConfig::new();
        let native_config = config.create_native_config().map_err(|e| e.to_string())?;
        let context = Plain::new("embedded broker");
        let client = Client::new(&config, native_config, RDKafkaType::RD_KAFKA_PRODUCER, context)
            .map_err(|e| e.to_string())?;
        // SAFETY: the client lives as long as the cluster; null is checked.
        let cluster = unsafe { native::rd_kafka_mock_cluster_new(client.native_ptr(), 1) };
        if cluster.is_null() {
            return Err("librdkafka could not start its mock cluster".into());
        }
        // SAFETY: the cluster lives.
        unsafe { native::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 100) };
        Ok(Self { cluster, _client: client })
    }

    pub(super) fn bootstrap(&self) -> String {
        // SAFETY: the string belongs to the living cluster and does not change.
        unsafe { CStr::from_ptr(native::rd_kafka_mock_cluster_bootstraps(self.cluster)) }
            .to_string_lossy()
            .into_owned()
    }

    /// Whether the topic is new.
    pub(super) fn create_topic(&self, name: &str, partitions: i32) -> Result<bool, String> {
        let topic = CString::new(name).map_err(|e| e.to_string())?;
        // SAFETY: the cluster lives; the name is copied.
        let answer =
            unsafe { native::rd_kafka_mock_topic_create(self.cluster, topic.as_ptr(), partitions, 1) };
        if !answer.is_error() {
            return Ok(true);
        }
        match RDKafkaErrorCode::from(answer) {
            RDKafkaErrorCode::TopicAlreadyExists => Ok(false),
            code => Err(code.to_string()),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_mock_cluster_new, destroyed once, before its client.
        unsafe { native::rd_kafka_mock_cluster_destroy(self.cluster) };
    }
}
