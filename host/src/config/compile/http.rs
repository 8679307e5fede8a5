//! Compiles `[http]`: the listener, and the resources with their schemas and views.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::super::plan::{HttpPlan, ResourcePlan};
use super::super::topology::Use;
use super::super::units::Fault;
use super::super::{raw, units};
use super::{Compiler, DeadLetters, or, unreadable};
use crate::schema::{BadSchema, Schema};

/// Paths that the HTTP side has or keeps for itself.
const RESERVED: [&str; 7] = ["admin", "dashboard", "healthz", "metrics", "openapi", "readyz", "status"];

impl Compiler<'_, '_> {
    pub(super) fn http(&mut self, http: raw::Http, dead_letters: &DeadLetters) -> HttpPlan {
        let listen = http.listen.parse().map_err(|_| {
            let help = "write it as \"127.0.0.1:8080\", or \"0.0.0.0:8080\" for every interface";
            Fault::new("not an IP address and port", help)
        });
        let body_limit = units::size(&http.body_limit, 1, 64 << 20);
        let timeout = |text: &str| units::duration(text, Duration::from_millis(10), Duration::from_secs(600));
        let (header_timeout, body_timeout) = (timeout(&http.header_timeout), timeout(&http.body_timeout));
        let claims: Arc<str> = format!("wasmill.{}.claims", self.pipeline).into();
        if !http.resources.is_empty() {
            self.topology.add(&claims, Use::Claims);
        }
        let document = &mut *self.document;
        HttpPlan {
            claims,
            listen: or(document, &["http", "listen"], listen, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            body_limit: or(document, &["http", "body_limit"], body_limit, 0),
            header_timeout: or(document, &["http", "header_timeout"], header_timeout, Duration::ZERO),
            body_timeout: or(document, &["http", "body_timeout"], body_timeout, Duration::ZERO),
            resources: http
                .resources
                .into_iter()
                .map(|(name, resource)| self.resource(name, resource, dead_letters))
                .collect(),
        }
    }

    fn resource(
        &mut self,
        name: String,
        resource: raw::Resource,
        dead_letters: &DeadLetters,
    ) -> ResourcePlan {
        let at = |key: &'static str| ["http", "resources", &name, key];
        self.check_name(&["http", "resources", &name]);
        if RESERVED.contains(&name.as_str()) {
            let message = format!("/{name} is kept for Wasmill itself");
            let help = "give the resource another name".to_string();
            self.document.error_at_key(&["http", "resources", &name], message, Some(help));
        }
        if resource.key.is_empty() {
            let help = "name the property of a body that is its id".to_string();
            self.document.error_at_value(&at("key"), "the property has no name".into(), Some(help));
        }
        let topic = self.topology.mention(self.document, &at("topic"), &resource.topic, Use::Published);
        let view = match resource.view {
            Some(view) => self.topology.mention_all(self.document, &at("view"), &view, Use::Read),
            None => vec![self.topology.mention(self.document, &at("topic"), &resource.topic, Use::Read)],
        };
        let schema = resource.schema.and_then(|file| match self.schema(&file) {
            Ok(schema) => Some(Arc::new(schema)),
            Err((message, help)) => {
                self.document.error_at_value(&at("schema"), message, Some(help.into()));
                None
            }
        });
        let mut after = Vec::new();
        for (subscribe, dead_letter) in dead_letters {
            let reads_it = subscribe.iter().any(|topic| view.contains(topic));
            if reads_it && !view.contains(dead_letter) && !after.contains(*dead_letter) {
                after.push((*dead_letter).clone());
            }
        }
        ResourcePlan {
            topic,
            key: resource.key,
            schema,
            view,
            dead_letters: after,
            view_keys: resource.view_keys,
            name,
        }
    }
    fn schema(&mut self, file: &str) -> Result<Schema, (String, &'static str)> {
        const WANTED: &str = "`schema` wants the file of a JSON Schema; without it any object is taken";
        let text = self.document.read(self.root.join(file)).map_err(|error| (unreadable(error), WANTED))?;
        let schema = serde_json::from_str(&text)
            .map_err(|error| (format!("the file is not JSON: {error}"), WANTED))?;
        match Schema::compile(schema) {
            Ok(schema) => Ok(schema),
            Err(bad @ BadSchema::Elsewhere(_)) => {
                Err((format!("the file can't be used: {bad}"), bad.remedy()))
            }
            Err(bad @ BadSchema::Unfit(_)) => {
                Err((format!("the file is not a JSON Schema: {bad}"), bad.remedy()))
            }
        }
    }
}
