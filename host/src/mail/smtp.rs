//! Sends over SMTP, on one connection that is kept from mail to mail.
//!
//! lettre speaks the protocol; what is decided here is the fate of a failure and who may see the
//! credentials. A fault of the server or of our configuration (no answer, no login, a bad certificate) is
//! never held against the mail: only a permanent reply to the mail itself refuses it.

use std::cell::Cell;
use std::error::Error as _;
use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use tokio::net::TcpStream;
use tokio::runtime::{self, Runtime};

use crate::config::plan::{SmtpEncryption, SmtpPlan};
use crate::event::{Call, Position};

use super::message::Mail;
use super::replies::Replies;
use super::{MailError, Undelivered};

pub(super) struct Smtp {
    plan: SmtpPlan,
    tls: TlsParameters,
    /// For one send in all: look-up, connect, TLS, login, and the server's last answer.
    timeout: Duration,
    connection: Option<AsyncSmtpConnection>,
    /// That were opened so far.
    connections: Cell<u64>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Smtp {
    /// Contacts nobody yet: a server that is down must not keep the host from starting.
    pub(super) fn new(plan: &SmtpPlan, timeout: Duration) -> Result<Self, MailError> {
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(MailError::Runtime)?;
        Ok(Self {
            plan: plan.clone(),
            tls: tls_parameters(plan)?,
            timeout,
            connection: None,
            connections: Cell::new(0),
            runtime: Some(runtime),
        })
    }

    /// How many it has opened so far and been greeted on, whatever the server let it do on them.
    pub(super) fn connections(&self) -> u64 {
        self.connections.get()
    }

    /// The answer is the server's last reply. After any failure the next mail gets a new connection.
    pub(super) fn send(&mut self, mail: &Mail) -> Result<String, Undelivered> {
        let Some(runtime) = &self.runtime else {
            return Err(Undelivered::Blocked("the sender is being closed".into()));
        };
        let kept = self.connection.take();
        // lettre's own timeout covers the connect alone. When ours is over, the connection goes with
        // the future: nobody can know what the server makes of it.
        let sent = runtime.block_on(async {
            tokio::time::timeout(self.timeout, async {
                let mut connection = self.connected(kept).await?;
                let bytes = mail.message.formatted();
                let reply = connection.send(mail.message.envelope(), &bytes).await.map_err(fate)?;
                Ok((connection, reply))
            })
            .await
        });

        let (connection, reply) = sent.unwrap_or_else(|_elapsed| {
            let timeout = humantime::format_duration(self.timeout);
            Err(Undelivered::Blocked(format!("{} did not answer within {timeout}", self.server())))
        })?;
        self.connection = Some(connection);
        Ok(format!("{} {}", reply.code(), reply.message().collect::<Vec<_>>().join(" ")))
    }

    /// What a send was, for traces.
    pub(super) fn call(
        &self,
        event: &Position,
        began: SystemTime,
        sent: &Result<String, Undelivered>,
    ) -> Call {
        let error = match sent {
            Ok(_) => None,
            Err(Undelivered::Later(_)) => Some("put-off"),
            Err(Undelivered::Blocked(_)) => Some("blocked"),
            Err(Undelivered::Refused(_)) => Some("refused"),
        };
        let (server, port) = (self.plan.host.as_str().into(), self.plan.port);
        Call { event: event.clone(), protocol: "smtp", server, port, began, ended: SystemTime::now(), error }
    }

    async fn connected(&self, kept: Option<AsyncSmtpConnection>) -> Result<AsyncSmtpConnection, Undelivered> {
        if let Some(mut connection) = kept {
            // Servers hang up on idle clients: better to find out before the mail is on its way.
            if connection.test_connected().await {
                return Ok(connection);
            }
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Undelivered> {
        let server = (self.plan.host.as_str(), self.plan.port);
        let name = ClientId::default();
        let clear = Arc::new(AtomicBool::new(true));
        let mut connection = match self.plan.encryption {
            // lettre connects by itself here, and gives no way to set TCP_NODELAY or to bound a reply. At least
            // the server has shown a certificate that we trust.
            SmtpEncryption::Tls => {
                AsyncSmtpConnection::connect_tokio1(server, None, &name, Some(self.tls.clone()), None)
                    .await
                    .map_err(|error| self.no_tls(&error))?
            }
            SmtpEncryption::StartTls | SmtpEncryption::Opportunistic => {
                let stream = TcpStream::connect(server).await.map_err(|error| self.no_connection(&error))?;
                // lettre writes a mail and its final dot apart: the dot would wait for the server's
                // delayed acknowledgement, 40 ms for each mail.
                stream.set_nodelay(true).map_err(|error| self.no_connection(&error))?;
                AsyncSmtpConnection::connect_with_transport(
                    Box::new(Replies::new(stream, clear.clone())),
                    &name,
                )
                .await
                .map_err(|error| self.no_connection(&error))?
            }
        };

        self.connections.set(self.connections.get() + 1);

        match (self.plan.encryption, connection.can_starttls()) {
            (SmtpEncryption::StartTls | SmtpEncryption::Opportunistic, true) => {
                clear.store(false, Ordering::Relaxed);
                connection.starttls(self.tls.clone(), &name).await.map_err(|error| self.no_tls(&error))?
            }
            (SmtpEncryption::StartTls, false) => {
                return Err(Undelivered::Blocked(format!(
                    "{} offers no STARTTLS, which the sink's `smtp` requires (use smtps:// if it speaks TLS \
                     from the first byte)",
                    self.server()
                )));
            }
            (SmtpEncryption::Opportunistic, false) | (SmtpEncryption::Tls, _) => {}
        }
        self.login(&mut connection).await?;
        Ok(connection)
    }

    async fn login(&self, connection: &mut AsyncSmtpConnection) -> Result<(), Undelivered> {
        let Some((user, password)) = &self.plan.credentials else { return Ok(()) };
        if !connection.is_encrypted() && !self.plan.is_local() {
            return Err(Undelivered::Blocked(format!(
                "{} offers no TLS and credentials are not sent in clear text: use smtps://, or a server with \
                 STARTTLS",
                self.server()
            )));
        }
        if connection.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
            let without = if connection.is_encrypted() { "" } else { " without TLS" };
            return Err(Undelivered::Blocked(format!(
                "{} offers no login{without}, at least none by PLAIN or LOGIN (if it wants none, take the user \
                 name and password out of the sink)",
                self.server()
            )));
        }
        let credentials = Credentials::new(user.clone(), password.expose().to_string());
        match connection.auth(DEFAULT_MECHANISMS, &credentials).await {
            Ok(_welcome) => Ok(()),
            Err(error) => Err(Undelivered::Blocked(format!(
                "{} does not let us log in: {error} (check the user name and password of the sink's `smtp`)",
                self.server()
            ))),
        }
    }

    fn no_connection(&self, error: &dyn Display) -> Undelivered {
        Undelivered::Blocked(format!("no connection to {}: {error}", self.server()))
    }

    fn no_tls(&self, error: &Error) -> Undelivered {
        Undelivered::Blocked(format!(
            "no TLS connection to {}: {error} (if its certificate is of a CA of its own, name that in `ca_file`)",
            self.server()
        ))
    }

    fn server(&self) -> String {
        format!("the mail server {}:{}", self.plan.host, self.plan.port)
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if let Some(mut connection) = self.connection.take() {
            // RFC 5321 wants a QUIT; the process does not wait for the answer longer than this.
            let goodbye = async { tokio::time::timeout(Duration::from_secs(1), connection.quit()).await };
            let _either_way = runtime.block_on(goodbye);
        }
        // A look-up that hangs in the resolver would hold up an ordinary drop.
        runtime.shutdown_background();
    }
}

/// The fate of a mail whose transmission failed.
fn fate(error: Error) -> Undelivered {
    match error.status().map(u16::from) {
        // The server is about to hang up: nothing to do with this mail.
        Some(421) => Undelivered::Blocked(format!("the mail server closes the connection: {error}")),
        // RFC 4954: it wants a login, or a better one. No fault of the mail, and ours to mend.
        Some(530 | 534 | 535 | 538) => Undelivered::Blocked(format!(
            "the mail server wants a login: {error} (check the user name and password of the sink's `smtp`)"
        )),
        Some(_) if error.is_permanent() => Undelivered::Refused(format!("the mail server refuses: {error}")),
        Some(_) => Undelivered::Later(format!("the mail server puts off: {error}")),
        // lettre's "client" errors in a send are about what the server can't carry: addresses beyond
        // ASCII without SMTPUTF8.
        None if error.is_client() => Undelivered::Refused(format!("the mail can't be sent: {error}")),
        // Of TLS only lettre sees the text. To try again would send it again, and again.
        None if is_unreadable(&error) => Undelivered::Refused(
            "the mail server's reply is not UTF-8: nobody knows whether it has taken the mail".into(),
        ),
        None => Undelivered::Blocked(format!("the connection to the mail server broke: {error}")),
    }
}

/// What `AsyncBufReadExt::read_line` says of a line that is no text.
fn is_unreadable(error: &Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| {
        source.kind() == io::ErrorKind::InvalidData && source.to_string().contains("valid UTF-8")
    })
}

/// Whoever takes plain text when TLS isn't offered gains nothing from refusing an unknown certificate, and
/// many a local relay has one. With credentials to protect, or a CA given, certificates are checked.
fn tls_parameters(plan: &SmtpPlan) -> Result<TlsParameters, MailError> {
    let unverified = match plan.encryption {
        SmtpEncryption::Opportunistic => plan.credentials.is_none() && plan.ca.certificates.is_empty(),
        SmtpEncryption::StartTls | SmtpEncryption::Tls => false,
    };
    let mut tls = TlsParameters::builder(plan.host.clone())
        .dangerous_accept_invalid_certs(unverified)
        .dangerous_accept_invalid_hostnames(unverified);
    for certificate in &plan.ca.certificates {
        tls = tls.add_root_certificate(certificate.clone());
    }
    tls.build().map_err(MailError::Tls)
}
