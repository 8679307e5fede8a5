//! The HTTP side of a host whose plan changes: a listener, the app that answers, and the reader of its view.
//!
//! A change of anything but the address is seen by the next request, on connections that are open already as well.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use miette::IntoDiagnostic;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{error, info};

use super::jobs;
use super::signal::Signal;
use super::subscriber::Grounds;
use super::threads::Task;
use crate::config::plan::HttpPlan;
use crate::http::{self, Admin, App, Claims, Shutdown};
use crate::log::Publish;

pub(super) struct Web {
    runtime: Handle,
    admin: Admin,
    serving: Option<Serving>,
    /// What takes its place when its topics are there.
    next: Option<Next>,
}

struct Serving {
    plan: HttpPlan,
    publisher: Arc<dyn Publish>,
    app: watch::Sender<Arc<App>>,
    listener: Listener,
    reader: Task,
    claims: Claims,
    /// What reads them, once there is a resource.
    claims_reader: Option<Task>,
}

struct Listener {
    task: Task,
    /// Given before its end when another listener goes on with the app.
    moved: Signal,
}

struct Next {
    plan: Option<HttpPlan>,
    bound: Option<TcpListener>,
    topics: Signal,
}

impl Web {
    pub(super) fn new(runtime: Handle, admin: Admin) -> Self {
        Self { runtime, admin, serving: None, next: None }
    }

    /// Takes the address of a new plan, if it is another one.
    pub(super) fn bind(&self, plan: Option<&HttpPlan>) -> Result<Option<TcpListener>, BindError> {
        let Some(listen) = plan.map(|plan| plan.listen) else { return Ok(None) };
        match self.serving.as_ref().map(|serving| serving.plan.listen) {
            Some(now) if now == listen => Ok(None),
            Some(now) if now.port() == listen.port() && listen.port() != 0 => match bind(listen) {
                Err(BindError { error, .. }) if error.kind() == ErrorKind::AddrInUse => {
                    Err(BindError { listen, error, by_itself: true })
                }
                bound => bound.map(Some),
            },
            Some(_) | None => bind(listen).map(Some),
        }
    }

    /// Goes over to the plan: at once, or when its topics are there. `bound` is what [`bind`](Self::bind) gave.
    pub(super) fn change(
        &mut self,
        grounds: &Grounds,
        plan: Option<&HttpPlan>,
        bound: Option<TcpListener>,
        topics: &Signal,
    ) -> miette::Result<()> {
        self.next = Some(Next { plan: plan.cloned(), bound, topics: topics.clone() });
        // At the start it answers at once, if only that the host isn't ready.
        if self.serving.is_none() { self.go_over(grounds) } else { self.turn(grounds) }
    }

    /// Goes over to what waits for its topics, if they are there.
    pub(super) fn turn(&mut self, grounds: &Grounds) -> miette::Result<()> {
        match &self.next {
            Some(next) if next.topics.given() => self.go_over(grounds),
            Some(_) | None => Ok(()),
        }
    }

    /// What serves goes on if this fails.
    fn go_over(&mut self, grounds: &Grounds) -> miette::Result<()> {
        let Some(Next { plan, bound, topics }) = self.next.take() else { return Ok(()) };
        match (&mut self.serving, plan) {
            (None, None) => {}
            (Some(serving), None) => {
                serving.listener.task.stop.give();
                serving.reader.stop.give();
                serving.claims_reader.iter().for_each(|reader| reader.stop.give());
                self.serving = None;
            }
            (Some(serving), Some(plan)) => serving.go_over(grounds, &self.runtime, plan, bound, topics)?,
            (None, Some(plan)) => {
                let Some(bound) = bound else { unreachable!("a new address was bound") };
                let publisher = publisher(grounds, &plan)?;
                let (status, admin) = (grounds.status.clone(), self.admin.clone());
                let claims = Claims::new(plan.claims.clone(), Claims::life(plan.body_timeout));
                let (app, view) = App::new(&plan, status, publisher.clone(), claims.clone(), Some(admin));
                let app = watch::Sender::new(Arc::new(app));
                let claims_reader = feed_claims(grounds, &plan, &claims, &topics)?;
                let reader = jobs::feed_view(grounds, view, None, topics)?;
                let listener = Listener::start(grounds, &self.runtime, &plan, bound, app.subscribe())?;
                self.serving =
                    Some(Serving { plan, publisher, app, listener, reader, claims, claims_reader });
            }
        }
        Ok(())
    }
}

impl Serving {
    fn go_over(
        &mut self,
        grounds: &Grounds,
        runtime: &Handle,
        plan: HttpPlan,
        bound: Option<TcpListener>,
        topics: Signal,
    ) -> miette::Result<()> {
        if self.plan == plan {
            return Ok(());
        }
        let publisher = if self.plan.body_timeout == plan.body_timeout {
            self.publisher.clone()
        } else {
            publisher(grounds, &plan)?
        };
        let (app, view) = self.app.borrow().succeed(&plan, publisher.clone());
        if self.claims_reader.is_none() {
            self.claims_reader = feed_claims(grounds, &plan, &self.claims, &topics)?;
        }
        if self.plan.resources != plan.resources {
            let reader = jobs::feed_view(grounds, view, Some(self.reader.clone()), topics)?;
            self.reader.stop.give();
            self.reader = reader;
        }
        self.app.send_replace(Arc::new(app));
        if let Some(bound) = bound {
            let listener = Listener::start(grounds, runtime, &plan, bound, self.app.subscribe())?;
            self.listener.moved.give();
            self.listener.task.stop.give();
            self.listener = listener;
        }
        (self.plan, self.publisher) = (plan, publisher);
        Ok(())
    }
}

/// Why an address can't be had.
#[derive(Debug, Error)]
#[error("can't listen on {listen}: {error}")]
pub(super) struct BindError {
    listen: SocketAddr,
    error: std::io::Error,
    /// This host has the port already, at another address.
    by_itself: bool,
}

impl BindError {
    /// What to do about it.
    pub(super) fn remedy(&self) -> &'static str {
        if self.by_itself {
            "this host itself listens on that port, at another address: take another port, or restart the host"
        } else {
            "another process has the port, perhaps another host: choose another one with `listen` in [http]; in the \
             pipeline that ships, by WASMILL_LISTEN"
        }
    }
}

fn publisher(grounds: &Grounds, plan: &HttpPlan) -> miette::Result<Arc<dyn Publish>> {
    Ok(Arc::new(grounds.cluster.publisher(plan.body_timeout).into_diagnostic()?))
}

fn feed_claims(
    grounds: &Grounds,
    plan: &HttpPlan,
    claims: &Claims,
    topics: &Signal,
) -> miette::Result<Option<Task>> {
    if plan.resources.is_empty() {
        return Ok(None);
    }
    jobs::feed_claims(grounds, claims.clone(), topics.clone()).map(Some)
}

fn bind(listen: SocketAddr) -> Result<TcpListener, BindError> {
    let bound = TcpListener::bind(listen).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| BindError { listen, error, by_itself: false })
}

impl Listener {
    /// Answers on a thread of its own until it is stopped, or the host ends.
    fn start(
        grounds: &Grounds,
        runtime: &Handle,
        plan: &HttpPlan,
        bound: TcpListener,
        app: watch::Receiver<Arc<App>>,
    ) -> miette::Result<Self> {
        let address = bound.local_addr().into_diagnostic()?;
        for resource in &plan.resources {
            info!("listening: http://{address}/{}", resource.name);
        }
        if plan.resources.is_empty() {
            info!("listening: http://{address}");
        }
        let moved = Signal::default();
        let (went, runtime, bound) = (moved.clone(), runtime.clone(), Mutex::new(Some(bound)));
        let task = grounds.threads.spawn("http".into(), &grounds.stop.child(), move |stop| {
            let bound = bound.lock().unwrap_or_else(PoisonError::into_inner).take();
            let shutdown = async {
                stop.clone().come().await;
                if went.given() { Shutdown::Moved } else { Shutdown::Ended }
            };
            runtime.block_on(async {
                let bound = bound.map_or_else(|| bind(address), Ok);
                match bound.map(tokio::net::TcpListener::from_std) {
                    Ok(Ok(listener)) => http::serve(listener, app.clone(), shutdown).await,
                    Ok(Err(error)) => error!("can't listen on {address}: {error}"),
                    Err(error) => error!("{error}"),
                }
            });
        })?;
        Ok(Self { task, moved })
    }
}
