//! A web service on three members. One of them, the leader, accepts orders and ships them. The
//! table rejects what a former leader writes too late.
//!
//!     cargo run -p quorate-examples --bin leader_job 1
//!
//! Run it in three terminals, with 1, 2 and 3. Any of them takes orders and says where the leader
//! is:
//!
//! ```sh
//! curl --location --data 'a book' http://127.0.0.2:8080/orders
//! curl http://127.0.0.3:8080/
//! ```
//!
//! Without a number, the members are those of the environment variables that
//! `quorate::config::from_env` reads. `docs/kubernetes.yaml` runs it so. `STATE` names the
//! directory of the node's record, and `TABLE` the file of the table, which all members share.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use quorate::{Dc, Metadata, Node, Term, config};
use quorate_examples::{member_of_three, number_of_member, say};
use rusqlite::{Connection, params};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The port of the web service.
const HTTP: u16 = 8080;

/// A table in a file, with the highest term that has written to it.
#[derive(Clone)]
struct Table(Arc<Mutex<Connection>>);

impl Table {
    fn open(file: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(file)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS fence (one INTEGER PRIMARY KEY CHECK (one = 1), term BLOB NOT NULL);
             CREATE TABLE IF NOT EXISTS orders (text TEXT NOT NULL, shipped_by INTEGER);",
        )?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Changes the table under a term. Returns `false`, and changes nothing, if a later leader has
    /// already changed it.
    async fn change(&self, term: Term, change: &'static str, value: String) -> rusqlite::Result<bool> {
        let table = self.clone();
        let write = move || {
            let mut connection = table.0.lock().expect("no writer panics");
            let transaction = connection.transaction()?;
            // The 16 bytes of terms compare as terms do.
            let fenced = transaction.execute(
                "INSERT INTO fence VALUES (1, ?1)
                 ON CONFLICT (one) DO UPDATE SET term = excluded.term WHERE excluded.term >= fence.term",
                params![term.to_be_bytes()],
            )?;
            if fenced == 0 {
                return Ok(false);
            }
            transaction.execute(change, params![value])?;
            transaction.commit()?;
            Ok(true)
        };
        tokio::task::spawn_blocking(write).await.expect("no writer panics")
    }

    fn count(&self, query: &str) -> rusqlite::Result<i64> {
        self.0.lock().expect("no writer panics").query_row(query, [], |row| row.get(0))
    }
}

#[derive(Clone)]
struct Service {
    node: Node,
    /// Where this node serves.
    address: String,
    dc: Dc,
    table: Table,
}

impl Service {
    /// Returns the address of the leader's web service. The leader may have to wait for the end of
    /// the former one's lease.
    fn leader(&self) -> Option<String> {
        let status = self.dc.status();
        let leader = status.term?.node;
        let node = status.nodes.iter().find(|node| node.id == leader)?;
        node.metadata.get("http").map(str::to_owned)
    }

    /// Ships orders, once in half a second, while this node is the leader. Ends between two acts.
    async fn ship(self, mut stopping: watch::Receiver<bool>) {
        loop {
            let guard = tokio::select! {
                biased;
                _ = stopping.wait_for(|stops| *stops) => return,
                guard = self.dc.guard() => match guard {
                    Ok(guard) => guard,
                    Err(_) => return,
                },
            };
            say(format_args!("node {} leads under term {}", self.node.id(), guard.term()));
            while !*stopping.borrow()
                && let Ok(term) = guard.check()
            {
                let ship = "UPDATE orders SET shipped_by = ?1
                            WHERE rowid = (SELECT min(rowid) FROM orders WHERE shipped_by IS NULL)";
                if let Err(error) = self.table.change(term, ship, self.node.id().to_string()).await {
                    say(format_args!("not shipped: {error}"));
                }
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// Takes an order, or says where the leader takes it.
async fn order(State(service): State<Service>, text: String) -> Response {
    let term = service.dc.try_guard().and_then(|guard| guard.check().ok());
    let Some(term) = term else {
        // A leader that still waits is not sent to itself.
        return match service.leader().filter(|leader| *leader != service.address) {
            Some(leader) => Redirect::temporary(&format!("http://{leader}/orders")).into_response(),
            None => (StatusCode::SERVICE_UNAVAILABLE, "there is no leader; try again\n").into_response(),
        };
    };
    match service.table.change(term, "INSERT INTO orders (text) VALUES (?1)", text).await {
        Ok(true) => (StatusCode::CREATED, "ordered\n").into_response(),
        Ok(false) => (StatusCode::CONFLICT, "there is a later leader; try again\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Shows the leader and the number of orders.
async fn show(State(service): State<Service>) -> String {
    let count = |query| service.table.count(query).unwrap_or_default();
    format!(
        "node {}, leader {}, {} orders, {} shipped\n",
        service.node.id(),
        service.leader().unwrap_or_else(|| "none".to_owned()),
        count("SELECT count(*) FROM orders"),
        count("SELECT count(*) FROM orders WHERE shipped_by IS NOT NULL"),
    )
}

/// Answers whether this node is in a ring with quorum. A balancer sends no requests otherwise.
async fn ready(State(service): State<Service>) -> StatusCode {
    if service.dc.status().quorate { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = match std::env::args().len() {
        1 => config::from_env()?,
        _ => member_of_three(number_of_member()?, 5475),
    };
    let address = SocketAddr::new(config.bind(), HTTP);
    let place = |variable, default| {
        std::env::var_os(variable).map_or_else(|| std::env::temp_dir().join(default), PathBuf::from)
    };
    let table = Table::open(&place("TABLE", "quorate-leader-job.sqlite"))?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    let (node, _, dc) = Node::builder(config)
        .metadata(Metadata::new().with("http", &address.to_string())?)
        .state_dir(place("STATE", "quorate-leader-job"))
        .start()
        .await?;

    let service = Service { node: node.clone(), address: address.to_string(), dc, table };
    let (stop, mut stopping) = watch::channel(false);
    let shipping = tokio::spawn(service.clone().ship(stopping.clone()));
    let routes = Router::new()
        .route("/", get(show))
        .route("/orders", post(order))
        .route("/ready", get(ready))
        .with_state(service);
    let serving = tokio::spawn(async move {
        let stops = async move { drop(stopping.wait_for(|stops| *stops).await) };
        axum::serve(listener, routes).with_graceful_shutdown(stops).await
    });
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let ended = tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        // For good: a supervisor starts the process again.
        cause = node.left() => Err(format!("left the ring: {cause:?}").into()),
    };
    // The last acts are complete before another node leads, which it does at once.
    stop.send_replace(true);
    let _ = timeout(Duration::from_secs(5), async { tokio::join!(shipping, serving) }).await;
    node.leave().await;
    ended
}
