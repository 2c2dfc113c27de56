//! `lab`: a page on this host with a simulated cluster on it.

mod bugs;
mod copy;
mod session;
mod story;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use quorate_netsim::{Load, Scenario};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use self::session::Session;
use crate::output::print;
use crate::{Failure, sim};

/// The most pages that have a run at the same time.
const PAGES: usize = 16;
/// The most commands of a page that wait for its run.
const COMMANDS: usize = 256;

/// Open a page with a simulated cluster on it, and cut its network.
///
/// Each page has a run of its own, on the code of production. Ctrl-C ends them all.
#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    /// Address and port of the page
    ///
    /// The page has no password: every host that reaches the address can use this processor.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5406")]
    listen: SocketAddr,
    /// Scenario to begin with, or `-` for stdin. Without one, five nodes run for an hour
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Number of nodes to begin with
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=16), conflicts_with = "file")]
    nodes: u32,
    /// Seed to begin with
    #[arg(long, default_value_t = 1, conflicts_with = "file")]
    seed: u64,
}

pub(crate) fn run(args: &LabArgs) -> Result<ExitCode, Failure> {
    let scenario = match &args.file {
        Some(file) => sim::read(file)?,
        None => usual(args.nodes, args.seed),
    };
    session::begin(&scenario).map_err(Failure::new)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    runtime.block_on(serve(args.listen, scenario))
}

/// Returns the cluster that a page begins with by default.
fn usual(nodes: u32, seed: u64) -> Scenario {
    let hour = Duration::from_secs(3600);
    let load = Load { every: Duration::from_millis(400), until: hour, longest: 200, safe_percent: 30 };
    Scenario::new(nodes, hour).token(Duration::from_secs(1)).seed(seed).load(load)
}

async fn serve(address: SocketAddr, scenario: Scenario) -> Result<ExitCode, Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::new(format!("cannot listen at {address}: {error}. Choose another address with --listen"))
    })?;
    let address = listener.local_addr().unwrap_or(address);
    let cannot = |error| Failure::new(format!("cannot handle signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    print(&format!("the laboratory is at http://{address}/ (Ctrl-C ends it)\n"))?;
    tokio::select! {
        biased;
        _ = terminate.recv() => Ok(ExitCode::from(143)),
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
        served = axum::serve(listener, pages(scenario)) => {
            served.map_err(|error| Failure::new(format!("cannot serve the page: {error}")))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn pages(scenario: Scenario) -> Router {
    let begins = Begins { scenario, runs: Arc::new(Semaphore::new(PAGES)) };
    Router::new().route("/", get(page)).route("/run", get(connect)).with_state(Arc::new(begins))
}

/// The scenario of new pages, and the limit of runs.
struct Begins {
    scenario: Scenario,
    /// Room for runs.
    runs: Arc<Semaphore>,
}

async fn page(headers: HeaderMap) -> Response {
    let host = match check(&headers) {
        Ok(host) => host,
        Err(refusal) => return refusal.into_response(),
    };
    // The page loads nothing, and connects only to its run.
    let policy = format!(
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
         connect-src ws://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (CACHE_CONTROL, "no-store".to_owned()),
        (CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, quorate_picture::live_page()).into_response()
}

async fn connect(
    headers: HeaderMap,
    State(begins): State<Arc<Begins>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    if let Err(refusal) = check(&headers) {
        return refusal.into_response();
    }
    let Ok(permit) = Arc::clone(&begins.runs).try_acquire_owned() else {
        let why = format!("{PAGES} pages are open, which is the limit: close one");
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let scenario = begins.scenario.clone();
    upgrade.max_message_size(1 << 20).on_upgrade(move |socket| follow(socket, scenario, permit))
}

/// Passes a page's commands to its run, and what happens there to the page. The run has a thread of
/// its own, and ends with the page.
async fn follow(mut socket: WebSocket, scenario: Scenario, permit: OwnedSemaphorePermit) {
    let (commands, asked) = std::sync::mpsc::sync_channel(COMMANDS);
    // A slow page gets fewer, larger reports.
    let (reports, mut reported) = mpsc::channel(1);
    let run = thread::Builder::new().name("run".to_owned()).spawn(move || {
        // The scenario has been tried.
        if let Ok(session) = Session::new(&scenario, reports) {
            session.run(&asked);
        }
        drop(permit);
    });
    // Without a thread, the page is told that its connection has ended.
    if run.is_err() {
        return;
    }
    loop {
        tokio::select! {
            biased;
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    if commands.try_send(text.to_string()).is_err() {
                        break;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
            report = reported.recv() => match report {
                Some(report) => {
                    if socket.send(Message::Text(String::into(report))).await.is_err() {
                        break;
                    }
                }
                None => break,
            },
        }
    }
}

/// Returns the host that a page asks, and refuses what another site's page asks for. A name other
/// than `localhost` may be one that such a site has directed here.
fn check(headers: &HeaderMap) -> Result<Authority, (StatusCode, &'static str)> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(HOST).and_then(|host| host.parse::<Authority>().ok());
    let Some(host) = host.filter(|host| is_of_this_host(host.host())) else {
        return Err((StatusCode::FORBIDDEN, "open this page by its IP address or as localhost"));
    };
    let origin = text(ORIGIN).map(|origin| origin.parse::<Uri>().ok());
    match origin {
        Some(origin) if origin.as_ref().and_then(Uri::authority) != Some(&host) => {
            Err((StatusCode::FORBIDDEN, "another site's page asked for this"))
        }
        _ => Ok(host),
    }
}

fn is_of_this_host(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || address.is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        origin.into_iter().for_each(|origin| drop(headers.insert(ORIGIN, origin.parse().unwrap())));
        headers
    }

    #[test]
    fn only_pages_of_this_host_may_steer_a_run() {
        let allows = |host, origin| check(&headers(host, origin)).is_ok();
        assert!(allows("localhost:5406", Some("http://localhost:5406")));
        assert!(allows("127.0.0.1:5406", None));
        assert!(allows("[::1]:5406", Some("http://[::1]:5406")));
        assert!(!allows("localhost:5406", Some("http://example.org")));
        assert!(!allows("localhost:5406", Some("http://localhost:80")));
        assert!(!allows("localhost:5406", Some("null")));
        assert!(!allows("example.org:5406", Some("http://example.org:5406")));
        assert!(check(&HeaderMap::new()).is_err());
    }

    #[tokio::test]
    async fn another_sites_page_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, pages(usual(3, 1))).await });
        for (path, origin, status) in [
            ("/", "", "200 OK"),
            ("/run", "http://example.org", "403 Forbidden"),
            ("/", "http://example.org", "403 Forbidden"),
            ("/elsewhere", "", "404 Not Found"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let origin = if origin.is_empty() { String::new() } else { format!("Origin: {origin}\r\n") };
            let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{origin}{upgrade}\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = [0; 64];
            let length = stream.read(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        }
    }

    #[test]
    fn the_usual_cluster_can_run() {
        for nodes in 1..=16 {
            assert!(usual(nodes, 1).live().is_ok());
        }
    }
}
