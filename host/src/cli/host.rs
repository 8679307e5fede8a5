//! The running host, as the verbs that look at it or command it from outside see it: over HTTP.

mod commands;

pub(super) use commands::{command, of_handler};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::CONTENT_TYPE;
use hyper::http::request;
use hyper::http::uri::Scheme;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use miette::{IntoDiagnostic, Report, WrapErr, miette};
use serde::Deserialize;

use crate::config::plan::{Brokers, KafkaPlan, Plan, Secret};
use crate::log::kafka::Cluster;
use crate::text::{chain, one_line};

/// For one request, from connecting to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Status {
    pipeline: String,
    broker: Running,
    #[serde(default)]
    subscribers: Vec<Subscriber>,
}

#[derive(Deserialize)]
struct Subscriber {
    name: String,
    /// Of a handler: the sha-256 of the component that it runs.
    #[serde(default)]
    digest: String,
}

#[derive(Deserialize)]
pub(super) struct Running {
    brokers: String,
    embedded: bool,
}

pub(super) struct Host {
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
    /// For commands alone.
    token: Option<Secret>,
}

impl Host {
    /// By default where the plan says that it listens.
    pub(super) fn new(url: Option<&str>, plan: &Plan) -> miette::Result<Self> {
        let url = match (url, &plan.http) {
            (Some(url), _) => url.into(),
            (None, Some(http)) => format!("http://{}", reachable(http.listen)),
            (None, None) => {
                return Err(miette!(
                    help = "say where the host listens with --url, or add [http] to pipeline.toml",
                    "the pipeline has no [http]"
                ));
            }
        };
        Ok(Self { url, client: client(), token: None })
    }

    pub(super) async fn post(&self, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), String> {
        self.send(self.request(Method::POST, path), body, TIMEOUT).await
    }

    /// What the host says about itself; an error when it runs another pipeline than this one.
    pub(super) async fn running(&self, plan: &Plan) -> miette::Result<Running> {
        let asked = self.send(self.request(Method::GET, "status"), Bytes::new(), TIMEOUT).await;
        let (status, body) = asked.map_err(|reason| self.no_answer(&reason))?;
        let report: Status =
            serde_json::from_slice(&body).into_diagnostic().wrap_err_with(|| self.not_a_host(status))?;
        if report.pipeline != plan.name {
            return Err(miette!(
                help = "say where this pipeline's host listens with --url, or name the other pipeline's file with --config",
                "the host at {} runs the pipeline `{}`, not `{}`",
                self.url,
                one_line(&report.pipeline),
                plan.name
            ));
        }
        Ok(report.broker)
    }

    /// The digest of the component that the handler runs; none when the host has no such handler (yet).
    pub(super) async fn digest(&self, handler: &str) -> Result<Option<String>, String> {
        let (_, body) = self.send(self.request(Method::GET, "status"), Bytes::new(), TIMEOUT).await?;
        let report: Status = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let subscriber = report.subscribers.into_iter().find(|subscriber| subscriber.name == handler);
        Ok(subscriber.map(|subscriber| subscriber.digest))
    }

    fn no_answer(&self, reason: &str) -> Report {
        miette!(
            help = "start it with `wasmill run`, or say where it listens with --url",
            "no host answers at {}: {reason}",
            self.url
        )
    }

    fn not_a_host(&self, status: StatusCode) -> String {
        format!("{} answered {status}, and not as a host does: what listens there?", self.url)
    }

    fn request(&self, method: Method, path: &str) -> request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.url))
            .header(CONTENT_TYPE, "application/json")
    }

    async fn send(
        &self,
        request: request::Builder,
        body: Bytes,
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), String> {
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let answer = async {
            let response = self.client.request(request).await.map_err(|error| chain(&error))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| chain(&error))?;
            Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(timeout, answer)
            .await
            .unwrap_or_else(|_elapsed| Err(format!("no answer within {} s", timeout.as_secs())))
    }
}

impl Running {
    /// The plan's brokers, or, where the plan has the embedded one, those that the host has.
    pub(super) fn cluster(self, plan: &Plan) -> miette::Result<Cluster> {
        let kafka = match &plan.kafka.brokers {
            Brokers::Addresses(_) => plan.kafka.clone(),
            Brokers::Embedded if self.embedded => return Ok(Cluster::attach(&self.brokers, true)),
            Brokers::Embedded => {
                KafkaPlan { brokers: Brokers::Addresses(self.brokers), ..plan.kafka.clone() }
            }
        };
        Cluster::connect(&kafka, &plan.name).into_diagnostic()
    }
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// For `--url`: plain HTTP is all that a host speaks.
pub(super) fn url(text: &str) -> Result<String, String> {
    let given = text.trim_end_matches('/');
    match given.parse::<Uri>() {
        Ok(uri) if uri.scheme() == Some(&Scheme::HTTP) && uri.host().is_some() => Ok(given.into()),
        Ok(_) | Err(_) => {
            let address = given.rsplit("://").next().unwrap_or(given);
            Err(format!("give http://{address}"))
        }
    }
}

/// Where to connect to reach what listens on `listen`.
fn reachable(listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listen.port())
    } else {
        listen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_its_scheme_is_told_what_to_give() {
        assert_eq!(url("http://127.0.0.1:8080/"), Ok("http://127.0.0.1:8080".into()));
        for wrong in ["127.0.0.1:8080", "https://127.0.0.1:8080/"] {
            assert_eq!(url(wrong), Err("give http://127.0.0.1:8080".into()));
        }
        assert_eq!(url("localhost"), Err("give http://localhost".into()));
    }
}
