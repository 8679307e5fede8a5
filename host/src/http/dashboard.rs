//! The dashboard: one page, its scripts and its styles, from this binary alone. What it shows comes from the API, by the
//! same doors as anybody's.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// Path, type, text.
const FILES: [(&str, &str, &str); 16] = [
    ("/", HTML, include_str!("dashboard/index.html")),
    ("/dashboard/api.js", SCRIPT, include_str!("dashboard/api.js")),
    ("/dashboard/bars.js", SCRIPT, include_str!("dashboard/bars.js")),
    ("/dashboard/dom.js", SCRIPT, include_str!("dashboard/dom.js")),
    ("/dashboard/form.js", SCRIPT, include_str!("dashboard/form.js")),
    ("/dashboard/graph.js", SCRIPT, include_str!("dashboard/graph.js")),
    ("/dashboard/handler.js", SCRIPT, include_str!("dashboard/handler.js")),
    ("/dashboard/host.js", SCRIPT, include_str!("dashboard/host.js")),
    ("/dashboard/icon.svg", IMAGE, include_str!("dashboard/icon.svg")),
    ("/dashboard/letters.js", SCRIPT, include_str!("dashboard/letters.js")),
    ("/dashboard/logs.js", SCRIPT, include_str!("dashboard/logs.js")),
    ("/dashboard/main.js", SCRIPT, include_str!("dashboard/main.js")),
    ("/dashboard/pipeline.js", SCRIPT, include_str!("dashboard/pipeline.js")),
    ("/dashboard/resource.js", SCRIPT, include_str!("dashboard/resource.js")),
    ("/dashboard/settings.js", SCRIPT, include_str!("dashboard/settings.js")),
    ("/dashboard/style.css", STYLE, include_str!("dashboard/style.css")),
];

/// Nothing from elsewhere, nothing inline, and in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(async move || file(kind, text)))
    })
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another build may have other files.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
