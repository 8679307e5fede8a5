//! SASL OAUTHBEARER: the token comes from a file, which whoever rotates it (Kubernetes, a sidecar, cron)
//! writes anew.
//!
//! `"sasl.oauthbearer.config" = "file:/run/secrets/token"` names the file. It holds a JWT, which the broker
//! checks; here only its `exp` (when to read the file again) and `sub` (the principal) are read. No error
//! shows any of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::config::ClientConfig;
use serde::Deserialize;
use thiserror::Error;

use super::native;

/// The property that names the file.
pub(super) const PROPERTY: &str = "sasl.oauthbearer.config";

/// After a failure.
const AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub(super) enum TokenError {
    #[error("it must be `file:PATH`, a file that holds a JWT")]
    NoFile,
    #[error("can't read {path}: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("{path} holds no JWT with the claims `sub` and `exp`")]
    NoJwt { path: String },
    #[error("the token is refused: {0}")]
    Refused(String),
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since the epoch, possibly with a fraction (RFC 7519, section 2).
    exp: f64,
}

/// The token as it is now. `config` is the property's value.
pub(super) fn read(config: Option<&str>) -> Result<OAuthToken, TokenError> {
    let path = config.and_then(|config| config.strip_prefix("file:")).ok_or(TokenError::NoFile)?;
    let text =
        fs::read_to_string(path).map_err(|error| TokenError::Unreadable { path: path.to_string(), error })?;
    let token = text.trim();
    let Claims { sub, exp } = claims(token).ok_or_else(|| TokenError::NoJwt { path: path.to_string() })?;
    Ok(OAuthToken { token: token.to_string(), principal_name: sub, lifetime_ms: (exp * 1000.0) as i64 })
}

fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Whether clients of this configuration need a token.
pub(super) fn needed(config: &ClientConfig) -> bool {
    ["sasl.mechanism", "sasl.mechanisms"].iter().any(|name| config.get(name) == Some("OAUTHBEARER"))
}

/// For a client whose queue nobody polls by rdkafka, which is how all others ask for a token.
pub(super) struct Renewal {
    /// `None` where no token is needed.
    config: Option<String>,
    due: SystemTime,
}

impl Renewal {
    pub(super) fn new(config: &ClientConfig) -> Self {
        let config = needed(config).then(|| config.get(PROPERTY).unwrap_or_default().to_string());
        Self { config, due: UNIX_EPOCH }
    }

    /// Gives the client a new token when half of the last one's time is over.
    pub(super) fn renew<C: ClientContext>(&mut self, client: &Client<C>) -> Result<(), TokenError> {
        let now = SystemTime::now();
        let Some(config) = self.config.as_deref().filter(|_| now >= self.due) else { return Ok(()) };
        self.due = now + AGAIN;
        let token = read(Some(config))?;
        let end = UNIX_EPOCH + Duration::from_millis(token.lifetime_ms.max(0) as u64);
        native::set_token(client, &token).map_err(TokenError::Refused)?;
        self.due = now + end.duration_since(now).unwrap_or_default() / 2;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<OAuthToken, TokenError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(Some(&format!("file:{}", file.path().display())))
    }

    #[test]
    fn a_token_says_whose_it_is_and_how_long_it_lives() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"ada","exp":1790000000.5,"aud":"kafka"}"#);
        let token = read_text(&format!(" e30.{payload}.c2ln\n")).unwrap();
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("ada", 1_790_000_000_500));
        assert_eq!(token.token, format!("e30.{payload}.c2ln"));
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_shown() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"ada"}"#);
        for text in ["", "secret", "secret.secret.secret", &format!("e30.{payload}.c2ln"), "a.b.c.d"] {
            let Err(error) = read_text(text) else { panic!("{text} is a token") };
            assert!(matches!(error, TokenError::NoJwt { .. }), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(matches!(read(None), Err(TokenError::NoFile)));
        assert!(matches!(read(Some("principal=ada")), Err(TokenError::NoFile)));
        assert!(matches!(read(Some("file:/no/such/file")), Err(TokenError::Unreadable { .. })));
    }
}
