//! Kafka, by librdkafka. The only room that names rdkafka.
