//! The counters and gauges of a node, for Prometheus (`quorate node --metrics`).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use quorate::{Dc, Node, Status};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::Failure;

/// The most connections. A further one waits for an earlier one to end.
pub(crate) const CONNECTIONS: usize = 16;

/// The longest time that a connection may take for its request, and the one for the answer, too.
const REQUEST: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

/// The interval of updates. Prometheus usually asks every 15 s.
const EVERY: Duration = Duration::from_secs(1);

/// The time after which a failed accept is tried again, for instance without free descriptors.
const AGAIN: Duration = Duration::from_millis(100);

/// The server of the counters, which does not run yet.
pub(crate) struct Metrics {
    listener: TcpListener,
    text: PrometheusHandle,
}

impl Metrics {
    /// Listens at this address.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Failure::new(format!("--metrics {address}: cannot listen: {error}")))?;
        let text = PrometheusBuilder::new()
            .install_recorder()
            .map_err(|error| Failure::new(format!("--metrics {address}: {error}")))?;
        Ok(Self { listener, text })
    }

    /// Updates the counters of this node, and serves them until the runtime ends.
    pub(crate) fn serve(self, node: Node, dc: Dc) {
        tokio::spawn(quorate::metrics::publish(node, dc.clone(), EVERY));
        tokio::spawn(serve(self.listener, routes(self.text, dc)));
    }
}

fn routes(text: PrometheusHandle, dc: Dc) -> Router {
    const KIND: [(header::HeaderName, &str); 1] =
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Router::new()
        .route("/metrics", get(move || async move { (KIND, text.render()) }))
        .route("/health", get(move || async move { health(&dc.status()) }))
}

/// Answers 200 if the node is in a ring with quorum, and otherwise 503 and the reason.
fn health(status: &Status) -> impl IntoResponse + use<> {
    match &status.inquorate {
        None if status.quorate => (StatusCode::OK, "quorate\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not quorate: {why}\n")),
        None => (StatusCode::SERVICE_UNAVAILABLE, "not quorate\n".to_owned()),
    }
}

/// Serves connections, which can neither use up the node's descriptors nor stay for long.
async fn serve(listener: TcpListener, routes: Router) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = answer(stream, routes.clone());
                tokio::spawn(async move {
                    answer.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection for the metrics failed");
                sleep(AGAIN).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, routes: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // A client that goes away, or is too slow, is no concern of the node.
    let _ = timeout(PATIENCE, connection).await;
}
