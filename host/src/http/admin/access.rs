//! Who may command the host: whoever has the token; without one, whoever sits at this machine.
//!
//! "At this machine" is more than the peer's address. A web page that is open in a browser here can send requests
//! here, under a name of its own that resolves to loopback (DNS rebinding) or as a form (CSRF): what gives these away
//! is refused. A reverse proxy here makes everyone's requests local. Only one that says so, by a header or by the Host
//! that it was asked for, is noticed; many say nothing by default (nginx's `proxy_pass`), and then only the token
//! protects the host, or a proxy that doesn't pass /admin on. The token too is what parts this machine's users.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Admin, TOKEN_VARIABLE};
use crate::config::plan::Secret;
use crate::http::problem::Problem;
use crate::http::request::check_content_type;
use crate::text::cut;

/// What proxies add to what they pass on.
const OF_PROXIES: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// Between two lines of the log about refusals, at least.
const QUIET: Duration = Duration::from_secs(60);
/// Bytes of a refused request's path that are logged, at most.
const PATH: usize = 200;

/// Lets requests through that may command the host.
pub(super) async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
    let may = admit(admin.token.as_ref(), peer, request.uri(), request.headers());
    if let Err(denied) = may {
        if let Some(untold) = admin.denials.tell(Instant::now()) {
            let path = cut(request.uri().path(), PATH);
            tracing::warn!(?peer, path, untold, "an admin request was refused: {denied}");
        }
        return denied.into_response();
    }
    // A form of a web page can't have this type.
    if request.method() == Method::POST
        && let Err(problem) = check_content_type(request.headers())
    {
        return problem.close().into_response();
    }
    next.run(request).await
}

/// How often refusals are told of: whoever reaches the port can cause as many as they like.
#[derive(Default)]
pub(super) struct Denials(Mutex<Told>);

#[derive(Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

impl Denials {
    /// Counts one more. It is to be told if none was for a while, with how many were not told since.
    fn tell(&self, now: Instant) -> Option<u64> {
        // Nothing panics while it holds the lock.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.last.is_some_and(|last| now.saturating_duration_since(last) < QUIET) {
            told.untold += 1;
            return None;
        }
        told.last = Some(now);
        Some(std::mem::take(&mut told.untold))
    }
}

/// Why a request may not command the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum Denied {
    #[error("it carries no token")]
    NoToken,
    #[error("its token is another one")]
    WrongToken,
    #[error("it comes from another machine, and no token is set")]
    Remote,
    #[error("it came through a proxy, and no token is set")]
    Proxied,
    #[error("its Host is no name of this machine's loopback, and no token is set")]
    Host,
    #[error("it comes from a web page of another origin, and no token is set")]
    Origin,
}

fn admit(token: Option<&Secret>, peer: Option<IpAddr>, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
    if let Some(token) = token {
        let given = only(headers, header::AUTHORIZATION).and_then(bearer);
        // An empty one is none, whatever the host's own is.
        let given = given.filter(|given| !given.is_empty()).ok_or(Denied::NoToken)?;
        return if same(given, token.expose()) { Ok(()) } else { Err(Denied::WrongToken) };
    }
    if !peer.is_some_and(|ip| ip.to_canonical().is_loopback()) {
        return Err(Denied::Remote);
    }
    if OF_PROXIES.iter().any(|name| headers.contains_key(*name)) {
        return Err(Denied::Proxied);
    }
    let host = only(headers, header::HOST).filter(|host| is_loopback(host)).ok_or(Denied::Host)?;
    if uri.authority().is_some_and(|authority| !is_loopback(authority.as_str())) {
        return Err(Denied::Host);
    }
    let own = format!("http://{host}");
    match (headers.contains_key(header::ORIGIN), only(headers, header::ORIGIN)) {
        (false, _) => Ok(()),
        (true, Some(origin)) if origin.eq_ignore_ascii_case(&own) => Ok(()),
        (true, _) => Err(Denied::Origin),
    }
}

/// The value of a header that stands there once, as text.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        (_, _) => None,
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// In a time that tells nothing of the token, nor of its length.
fn same(given: &str, token: &str) -> bool {
    let (given, token) = (Sha256::digest(given), Sha256::digest(token));
    given.iter().zip(&token).fold(0, |differs, (a, b)| black_box(differs | (a ^ b))) == 0
}

/// `host` or `host:port`.
fn is_loopback(host: &str) -> bool {
    // With nothing before the name: `127.0.0.1:80@elsewhere` is elsewhere.
    let authority = host.parse::<Authority>().ok().filter(|_| !host.contains('@'));
    authority.is_some_and(|authority| {
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    })
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let remedy = match self {
            Self::NoToken | Self::WrongToken => {
                let problem =
                    Problem::new(StatusCode::UNAUTHORIZED, "token", "The admin API wants its token")
                        .detail(format!(
                            "Send what the host's {TOKEN_VARIABLE} holds, as `Authorization: Bearer TOKEN`."
                        ))
                        .close();
                return ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response();
            }
            Self::Remote | Self::Proxied => String::new(),
            Self::Host => "Ask http://localhost or http://127.0.0.1, with the host's port. ".into(),
            Self::Origin => "Ask from a page of this host, or from no page at all. ".into(),
        };
        Problem::new(StatusCode::FORBIDDEN, "admin", "This request may not command the host")
            .detail(format!(
                "Refused: {self}. {remedy}To command the host from elsewhere, start it with {TOKEN_VARIABLE} set, \
                 and send that as `Authorization: Bearer TOKEN`."
            ))
            .close()
            .into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "127.0.0.1";

    fn asked(token: Option<&str>, peer: &str, headers: &[(&'static str, &str)]) -> Result<(), Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let token = token.map(Secret::new);
        admit(token.as_ref(), Some(peer.parse().unwrap()), &Uri::from_static("/admin/reload"), &map)
    }

    #[test]
    fn without_a_token_whoever_sits_at_this_machine_may() {
        for peer in [HERE, "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            for host in ["localhost", "LocalHost:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]"] {
                assert_eq!(asked(None, peer, &[("host", host)]), Ok(()), "{peer} {host}");
            }
        }
        let own_page = [("host", "localhost:8080"), ("origin", "http://localhost:8080")];
        assert_eq!(asked(None, HERE, &own_page), Ok(()));
    }

    #[test]
    fn without_a_token_another_machine_may_not() {
        for peer in ["192.168.1.7", "10.0.0.1", "::ffff:192.168.1.7", "2001:db8::1", "0.0.0.0"] {
            assert_eq!(asked(None, peer, &[("host", "localhost")]), Err(Denied::Remote), "{peer}");
        }
        let nowhere = admit(None, None, &Uri::from_static("/"), &HeaderMap::new());
        assert_eq!(nowhere, Err(Denied::Remote));
    }

    #[test]
    fn without_a_token_what_a_proxy_passes_on_may_not() {
        for name in OF_PROXIES {
            assert_eq!(asked(None, HERE, &[("host", "localhost"), (name, HERE)]), Err(Denied::Proxied));
        }
    }

    #[test]
    fn without_a_token_a_name_that_was_rebound_to_loopback_may_not() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "127.0.0.1:80@evil.example",
            "192.168.1.7",
            "",
        ] {
            assert_eq!(asked(None, HERE, &[("host", host)]), Err(Denied::Host), "{host}");
        }
        assert_eq!(asked(None, HERE, &[]), Err(Denied::Host));
        assert_eq!(asked(None, HERE, &[("host", "localhost"), ("host", "evil")]), Err(Denied::Host));
        let headers = HeaderMap::from_iter([(header::HOST, "localhost".parse().unwrap())]);
        let absolute = Uri::from_static("http://evil.example/admin/reload");
        assert_eq!(admit(None, HERE.parse().ok(), &absolute, &headers), Err(Denied::Host));
    }

    #[test]
    fn without_a_token_a_page_of_another_origin_may_not() {
        for origin in ["http://evil.example", "null", "http://localhost", "https://localhost:8080"] {
            let headers = [("host", "localhost:8080"), ("origin", origin)];
            assert_eq!(asked(None, HERE, &headers), Err(Denied::Origin), "{origin}");
        }
    }

    #[test]
    fn with_a_token_it_alone_decides() {
        let with = |authorization| [("authorization", authorization), ("host", "host.example")];
        for authorization in ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret"] {
            assert_eq!(asked(Some("s3cret"), "192.168.1.7", &with(authorization)), Ok(()));
        }
        for wrong in ["Bearer S3cret", "Bearer s3cret2", "Bearer s3cre", "Bearer s3cret s3cret"] {
            assert_eq!(asked(Some("s3cret"), HERE, &with(wrong)), Err(Denied::WrongToken), "{wrong}");
        }
        for none in ["s3cret", "Basic s3cret", "Bearer ", ""] {
            assert_eq!(asked(Some("s3cret"), HERE, &with(none)), Err(Denied::NoToken), "{none}");
        }
        assert_eq!(asked(Some("s3cret"), HERE, &[("host", "localhost")]), Err(Denied::NoToken));
        let twice = [("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")];
        assert_eq!(asked(Some("s3cret"), HERE, &twice), Err(Denied::NoToken));
        assert_eq!(asked(Some(""), HERE, &with("Bearer ")), Err(Denied::NoToken));
    }

    #[test]
    fn refusals_are_told_once_a_minute_with_how_many_more_there_were() {
        let (denials, start) = (Denials::default(), Instant::now());
        let told =
            [0, 1, 30, 59, 60, 61, 121].map(|second| denials.tell(start + Duration::from_secs(second)));
        assert_eq!(told, [Some(0), None, None, None, Some(3), None, Some(1)]);
    }
}
