//! The HTTP side of a host whose plan changes: a listener, the app that answers, and the reader of its view.
//!
//! A change of anything but the address is seen by the next request, on connections that are open already as well.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use miette::IntoDiagnostic;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{error, info};

use super::jobs;
use super::signal::Signal;
use super::subscriber::Grounds;
use crate::config::plan::HttpPlan;
use crate::http::{self, Admin, App, Shutdown};
use crate::log::Publish;

pub(super) struct Web {
    runtime: Handle,
    admin: Admin,
    serving: Option<Serving>,
}

struct Serving {
    plan: HttpPlan,
    publisher: Arc<dyn Publish>,
    app: watch::Sender<Arc<App>>,
    /// Ends the listener.
    server: Signal,
    /// End the view's reader, and tell that it has ended.
    reader: (Signal, Signal),
}

impl Web {
    pub(super) fn new(runtime: Handle, admin: Admin) -> Self {
        Self { runtime, admin, serving: None }
    }

    /// Takes the address of a new plan, if it is another one: the one step that can fail.
    pub(super) fn bind(&self, plan: Option<&HttpPlan>) -> Result<Option<TcpListener>, String> {
        let now = self.serving.as_ref().map(|serving| serving.plan.listen);
        match plan.map(|plan| plan.listen) {
            Some(listen) if Some(listen) != now => bind(listen).map(Some),
            Some(_) | None => Ok(None),
        }
    }

    /// Goes over to the plan; `listener` is what [`bind`](Self::bind) gave. What needs the topics waits for `topics`.
    pub(super) fn change(
        &mut self,
        grounds: &Grounds,
        plan: Option<&HttpPlan>,
        listener: Option<TcpListener>,
        topics: &Signal,
    ) -> miette::Result<()> {
        match (self.serving.take(), plan) {
            (None, None) => {}
            (Some(before), None) => {
                before.server.give();
                before.reader.0.give();
            }
            (Some(before), Some(plan)) if before.plan == *plan => self.serving = Some(before),
            (Some(before), Some(plan)) => {
                let publisher = if before.plan.body_timeout == plan.body_timeout {
                    before.publisher
                } else {
                    publisher(grounds, plan)?
                };
                let (app, view) = before.app.borrow().succeed(plan, publisher.clone());
                before.app.send_replace(Arc::new(app));
                before.reader.0.give();
                let reader = jobs::feed_view(grounds, view, vec![before.reader.1, topics.clone()])?;
                let server = match listener {
                    None => before.server,
                    Some(listener) => {
                        before.server.give();
                        serve(grounds, &self.runtime, plan, listener, before.app.subscribe())?
                    }
                };
                self.serving =
                    Some(Serving { plan: plan.clone(), publisher, app: before.app, server, reader });
            }
            (None, Some(plan)) => {
                let Some(listener) = listener else { unreachable!("a new address was bound") };
                let publisher = publisher(grounds, plan)?;
                let (app, view) =
                    App::new(plan, grounds.status.clone(), publisher.clone(), Some(self.admin.clone()));
                let app = watch::Sender::new(Arc::new(app));
                let server = serve(grounds, &self.runtime, plan, listener, app.subscribe())?;
                let reader = jobs::feed_view(grounds, view, vec![topics.clone()])?;
                self.serving = Some(Serving { plan: plan.clone(), publisher, app, server, reader });
            }
        }
        Ok(())
    }
}

fn publisher(grounds: &Grounds, plan: &HttpPlan) -> miette::Result<Arc<dyn Publish>> {
    Ok(Arc::new(grounds.cluster.publisher(plan.body_timeout).into_diagnostic()?))
}

fn bind(listen: SocketAddr) -> Result<TcpListener, String> {
    let bound = TcpListener::bind(listen).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| format!("can't listen on {listen}: {error}"))
}

/// Answers on a thread of its own until what comes back is given, or the host ends.
fn serve(
    grounds: &Grounds,
    runtime: &Handle,
    plan: &HttpPlan,
    listener: TcpListener,
    app: watch::Receiver<Arc<App>>,
) -> miette::Result<Signal> {
    let address = listener.local_addr().into_diagnostic()?;
    for resource in &plan.resources {
        info!("listening: http://{address}/{}", resource.name);
    }
    if plan.resources.is_empty() {
        info!("listening: http://{address}");
    }
    let (stop, host) = (grounds.stop.child(), grounds.stop.clone());
    let (runtime, bound) = (runtime.clone(), Mutex::new(Some(listener)));
    grounds.threads.spawn("http".into(), &stop, move |stop| {
        let bound = bound.lock().unwrap_or_else(PoisonError::into_inner).take();
        runtime.block_on(async {
            let listener = match bound.map_or_else(|| bind(address), Ok) {
                Ok(listener) => listener,
                Err(error) => return error!("{error}"),
            };
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let shutdown = async {
                        stop.clone().come().await;
                        if host.given() { Shutdown::Ended } else { Shutdown::Moved }
                    };
                    http::serve(listener, app.clone(), shutdown).await;
                }
                Err(error) => error!("can't listen on {address}: {error}"),
            }
        });
    })?;
    Ok(stop)
}
