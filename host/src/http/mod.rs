//! The HTTP ingress: resources declared in pipeline.toml, probes, and the API's own description.
//!
//! A POST or PUT is checked, published, and answered when the broker has acknowledged it; a GET is
//! answered from a view that the process rebuilds from the topics. No domain word here: what a body must
//! look like is the schema's business, what becomes of it the handlers'.
//!
//! The order of things for a write: `resources` checks the request, `ingress` asks `idempotency` whether it is a
//! repetition, `publication` publishes it once, asking `claims` whether another host does, and `view` shows
//! what came of it.

mod admin;
mod body;
mod claims;
mod dashboard;
mod idempotency;
mod ingress;
mod json;
mod live;
mod metrics;
mod openapi;
mod probes;
mod problem;
mod publication;
mod recent;
mod refusal;
mod representation;
mod request;
mod resources;
mod server;
mod state;
mod stream;
mod traced;
mod view;
mod waiting;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;

use crate::config::plan::HttpPlan;
use crate::log::Publish;
use crate::status::Status;

pub use admin::{Admin, Asked, BadToken, Command, Commands, Refused, RefusedKind, TOKEN_VARIABLE};
pub use claims::Claims;
pub use server::{Shutdown, serve};
pub use view::View;

use body::Bodies;
use ingress::Ingress;
use live::Live;
use problem::Problem;
use publication::Publication;
use resources::Resource;

/// Beyond them, clients wait in the listener's backlog.
const CONNECTIONS: usize = 1024;

/// Everything that [`serve`] needs, for one plan.
pub struct App {
    router: Router,
    ingress: Arc<Ingress>,
    view: View,
    bodies: Bodies,
    status: Status,
    live: Live,
    admin: Option<Admin>,
    header_timeout: Duration,
    /// How long a client may take none of its answer.
    write_timeout: Duration,
    /// See [`CONNECTIONS`].
    max_connections: usize,
}

impl App {
    /// The view is the other half: the caller reads [`View::topics`] from their beginnings and feeds it.
    /// Until it says that the view has caught up, the ingress holds back what would need to know the past; so until
    /// `claims` has, which the caller feeds as well.
    pub fn new(
        plan: &HttpPlan,
        status: Status,
        publisher: Arc<dyn Publish>,
        claims: Claims,
        admin: Option<Admin>,
    ) -> (Self, View) {
        let view = View::new(&plan.resources);
        let (timeout, tracer) = (plan.body_timeout, status.tracer());
        let publication = Publication { publisher, view: view.clone(), claims, timeout, tracer };
        let ingress = Ingress::new(publication, status.clone());
        // A quarter of the connections is for those who only ask.
        let bodies = Bodies::new(plan.body_limit, plan.body_timeout, CONNECTIONS / 4 * 3);
        let live = Live::new(status.clone(), &plan.resources);
        Self::assemble(plan, status, live, admin, ingress, view, bodies)
    }

    /// For a changed plan, beside this one: what is under way here ends here. The view of it goes on with what this
    /// one's knows of resources that are as they were; it wants a reader of its own, which begins when the other
    /// one's has ended.
    pub fn succeed(&self, plan: &HttpPlan, publisher: Arc<dyn Publish>) -> (Self, View) {
        let view = self.view.succeed(&plan.resources);
        let ingress = self.ingress.succeed(publisher, view.clone(), plan.body_timeout);
        let bodies = self.bodies.succeed(plan.body_limit, plan.body_timeout);
        let live = self.live.succeed(&plan.resources);
        Self::assemble(plan, self.status.clone(), live, self.admin.clone(), ingress, view, bodies)
    }

    fn assemble(
        plan: &HttpPlan,
        status: Status,
        live: Live,
        admin: Option<Admin>,
        ingress: Ingress,
        view: View,
        bodies: Bodies,
    ) -> (Self, View) {
        let ingress = Arc::new(ingress);
        let description = openapi::describe(plan, admin.is_some());
        let mut router = Router::new()
            .route("/healthz", get(probes::healthz))
            .route("/readyz", get(probes::readyz).with_state(status.clone()))
            .route("/readyz/http", get(probes::readyz_http).with_state(status.clone()))
            .route("/status", get(probes::status).with_state((status.clone(), view.clone())))
            .route("/metrics", get(metrics::metrics).with_state(status.clone()))
            .route("/openapi.json", get(move || async move { axum::Json(description) }));
        for (index, resource) in plan.resources.iter().enumerate() {
            let routes = resources::routes(Resource {
                index,
                plan: resource.clone(),
                bodies: bodies.clone(),
                ingress: ingress.clone(),
                view: view.clone(),
                tracer: status.tracer(),
            });
            let counted = (status.clone(), resource.name.as_str().into());
            router = router.merge(routes.layer(middleware::from_fn_with_state(counted, count_answer)));
        }
        if let Some(admin) = admin.clone() {
            router =
                router.merge(admin::routes(admin, live.clone(), view.clone())).merge(dashboard::routes());
        }
        let router = router
            .fallback(async || {
                Problem::new(StatusCode::NOT_FOUND, "no-such-path", "There is nothing at this path")
                    .detail("/openapi.json lists the paths.")
            })
            .method_not_allowed_fallback(async || {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "This path doesn't take this method")
                    .detail("The Allow header lists those that it takes.")
            })
            .layer(middleware::from_fn(log_access));
        let app = Self {
            router,
            ingress,
            view: view.clone(),
            bodies,
            status,
            live,
            admin,
            header_timeout: plan.header_timeout,
            write_timeout: Duration::from_secs(30),
            max_connections: CONNECTIONS,
        };
        (app, view)
    }
}

/// Never the body, and of the headers none: they may hold credentials.
async fn log_access(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    tracing::debug!(%method, path, status, elapsed_us = started.elapsed().as_micros() as u64, "request");
    response
}

async fn count_answer(
    State((status, resource)): State<(Status, Arc<str>)>,
    request: Request,
    next: Next,
) -> Response {
    // Clients may make up methods.
    let method = match *request.method() {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        _ => "other",
    };
    let started = Instant::now();
    let response = next.run(request).await;
    status.answered(&resource, method, response.status().as_u16(), started.elapsed());
    response
}

/// Microseconds since the Unix epoch.
fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}
