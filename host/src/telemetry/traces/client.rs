//! The exporter's way to the collector: the HTTP client and the TLS that are linked in anyway.
//!
//! Not the one that opentelemetry-http brings, which would bring HTTP/2 as well.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response};
use hyper_tls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use native_tls::{Certificate, TlsConnector};
use opentelemetry_http::{HttpClient, HttpError};

use super::settings::Settings;
use crate::file;

/// Bytes of an answer, at most. It has little to say.
const MAX_ANSWER: usize = 64 * 1024;

/// Bytes of a file of certificates, at most.
const MAX_CERTIFICATE: u64 = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Client {
    client: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let mut tls = TlsConnector::builder();
        if let Some(path) = &settings.certificate {
            let unusable = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let pem = file::read(path, MAX_CERTIFICATE).map_err(|error| unusable(&error))?;
            for certificate in Certificate::stack_from_pem(&pem).map_err(|error| unusable(&error))? {
                tls.add_root_certificate(certificate);
            }
        }
        let tls = tls.build().map_err(|error| format!("TLS can't be set up: {error}"))?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        let client =
            legacy::Client::builder(TokioExecutor::new()).build(HttpsConnector::from((http, tls.into())));
        Ok(Self { client, timeout: settings.timeout })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answered = async {
            let (head, body) = self.client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        tokio::time::timeout(self.timeout, answered).await?
    }
}
