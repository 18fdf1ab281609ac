//! Composition: the only file that names concrete histories and transports.

use std::{
    fs::{File, TryLockError},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::request::Parts,
    middleware::map_response_with_state,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, AllowOrigin, CorsLayer},
};

use crate::{
    config::{Config, HistoryKind, Listen},
    connection::{Connections, SILENT_HEARTBEATS},
    forwarded::TrustedProxies,
    history::{History, HistoryError, Retention, memory::MemoryHistory, sqlite},
    http::{
        assets,
        authorization::{Authorization, Guesses},
        health,
        health::Readiness,
        metrics::Exposition,
        notifications::{self, NotificationsState},
        notify::{self, Publisher},
    },
    hub::{Hub, HubOptions},
    limits::Limits,
    metrics::Metrics,
    origin::Origins,
    pending::Pending,
    rates::{Act, Rate, Rates},
    rejection::{RejectedFor, Rejection},
    server::{Listener, Server},
    shutdown::Shutdown,
    token::{self, Tokens},
    transport::{Admission, shards::Shards, sse, websocket},
};

/// How long a second process waits for the data directory, so that it can take over from one that drains.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Descriptors of the database, the runtime and the listeners.
const OWN_DESCRIPTORS: u64 = 50;

/// Those of a shard: its epoll, and the eventfd that ends its wait.
const SHARD_DESCRIPTORS: u64 = 2;

/// Descriptors that clients leave to connections that are none.
const REQUEST_DESCRIPTORS: u64 = 50;

/// The least burst of what an address may do: what its rate allows it in so many seconds.
const BURST_SECONDS: u64 = 10;

/// The server, ready to run.
pub struct App {
    pub hub: Arc<Hub>,
    pub shutdown: Shutdown,
    shards: Arc<Shards>,
    server: Arc<Server>,
    /// That of the data directory, where no history holds it.
    _lock: Option<File>,
    drain: Duration,
}

/// Why the server can't start. Prints as one line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("--listen {listen}: {error}")]
    Listen { listen: Listen, error: io::Error },
    #[error("a socket that was handed over (LISTEN_FDS): {0}")]
    Handed(io::Error),
    #[error("--data-dir {}: {error}", path.display())]
    DataDir { path: PathBuf, error: io::Error },
    #[error("--data-dir {}: another process uses it", .0.display())]
    InUse(PathBuf),
    #[error("--data-dir: {0}")]
    Database(#[from] sqlite::OpenError),
    #[error("{0}")]
    History(#[from] HistoryError),
    #[error("the threads that carry the clients can't be started: {0}")]
    Shards(io::Error),
}

impl App {
    /// Opens the history and puts the parts together; `descriptors` is how many files the process may have open.
    ///
    /// # Errors
    /// When the data directory or the history can't be used. Nothing in them is changed then.
    pub async fn open(config: &Config, descriptors: u64) -> Result<Self, StartError> {
        let data_dir = &config.data_dir;
        let mut lock = if uses_data_dir(config) { Some(lock(data_dir).await?) } else { None };
        let retention = Retention {
            max_count: config.history_max_count as usize,
            max_age: config.history_max_age,
            dedup_window: config.dedup_window,
        };
        let history: Arc<dyn History> = match config.history {
            HistoryKind::Memory => Arc::new(MemoryHistory::new(retention)),
            HistoryKind::Sqlite => {
                let history = sqlite::SqliteHistory::open(&data_dir.join("history.db"), retention)?;
                // The history has it, which outlives the app where a request outlives the drain, or the disk is slow.
                if let Some(lock) = lock.take() {
                    history.hold(lock);
                }
                Arc::new(history)
            }
        };
        Ok(Self { _lock: lock, ..Self::over(history, config, descriptors).await? })
    }

    /// Puts the parts together over a history that is open.
    ///
    /// # Errors
    /// When the history does not answer, or there are no threads, or no token can be kept.
    pub async fn over(history: Arc<dyn History>, config: &Config, descriptors: u64) -> Result<Self, StartError> {
        let tokens = if config.token.is_empty() && uses_data_dir(config) {
            let path = config.data_dir.join("notify.token");
            vec![token::read_or_draw(&path).map_err(|error| StartError::DataDir { path, error })?]
        } else {
            config.token.clone()
        };

        let metrics = Arc::new(Metrics::default());
        let options = HubOptions {
            replay_max: config.replay_max as usize,
            refetch_rate: config.refetch_rate,
            reconnect_rate: config.reconnect_rate,
            ..HubOptions::default()
        };
        let hub = Hub::open(history.clone(), options, metrics.clone()).await?;
        let shutdown = Shutdown::default();
        let origins = Arc::new(config.allowed_origins.clone());
        let shards = std::thread::available_parallelism().map_or(1, usize::from);
        let descriptors = left_to_connections(descriptors, shards);
        let max_connections = config.max_connections.unwrap_or_else(|| most_clients(descriptors));
        // Bursts fit those who share an address: after a restart all of them come back at once.
        let clients = config.max_connections_per_ip;
        let rates = |act, per_second: u64, burst: u64| {
            Arc::new(Rates::new(act, Rate::per_second(per_second, burst.max(per_second * BURST_SECONDS))))
        };
        let connections = Connections {
            hub: hub.clone(),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            heartbeat: config.heartbeat,
            message_rate: Rate::per_second(config.message_rate, config.message_rate * 60),
        };
        let shards = Shards::start(&connections, shards).map_err(StartError::Shards)?;
        let proxies = Arc::new(TrustedProxies::new(config.trusted_proxies.clone(), config.forwarded_header));
        let limits = Limits::new(max_connections, config.max_connections_per_ip);
        let pending =
            Pending::new(descriptors, config.max_connections_per_ip, limits.clone(), proxies.clone(), metrics.clone());
        let guesses = Arc::new(Guesses::new(Rate::per_minute(config.wrong_token_rate_per_ip)));
        let metrics_tokens = config.metrics_token.as_ref().map_or(&tokens[..], std::slice::from_ref);
        let authorization = |tokens| Authorization { tokens: Arc::new(Tokens::new(tokens)), guesses: guesses.clone() };
        let replays = rates(Act::Replay, config.replay_rate_per_ip, (clients * 100).max(config.replay_max.into()));
        let routes = Routes {
            admission: Admission {
                shards: shards.clone(),
                connections,
                limits,
                origins: origins.clone(),
                proxies: proxies.clone(),
                handshakes: rates(Act::Handshake, config.handshake_rate_per_ip, clients * 2),
                replays: replays.clone(),
            },
            publisher: Publisher {
                history: history.clone(),
                hub: hub.clone(),
                metrics: metrics.clone(),
                authorization: authorization(&tokens),
                proxies: proxies.clone(),
                rates: rates(Act::Post, config.post_rate_per_ip, 0),
                anonymous: config.allow_anonymous_notify,
                regions: Arc::new(config.regions.clone()),
            },
            recent: NotificationsState {
                hub: hub.clone(),
                origins: origins.clone(),
                proxies: proxies.clone(),
                replays: replays.clone(),
            },
            readiness: Readiness::new(history.clone(), shutdown.clone()),
            exposition: Exposition { metrics: metrics.clone(), authorization: authorization(metrics_tokens), proxies },
            origins,
            metrics,
        };
        let server = Arc::new(Server {
            router: routes.router(),
            pending,
            shutdown: shutdown.clone(),
            write_timeout: config.heartbeat * SILENT_HEARTBEATS,
        });
        Ok(Self { hub, shutdown, shards, server, _lock: None, drain: config.drain })
    }

    /// Serves until [`Shutdown::start`], then until all clients have left or the drain time is over.
    pub async fn run(self, listeners: Vec<Listener>) {
        let feed = tokio::spawn(self.hub.clone().run());
        for listener in listeners {
            self.shutdown.spawn(self.server.clone().accept(listener));
        }
        self.shutdown.started().await;
        let left = self.shutdown.drained(self.drain).await;
        if left > 0 {
            tracing::warn!(left, "the drain time is over; connections are cut");
        }
        self.shards.stop();
        feed.abort();
    }
}

/// How many of the descriptors are for connections, where so many shards run.
fn left_to_connections(descriptors: u64, shards: usize) -> u64 {
    descriptors.saturating_sub(OWN_DESCRIPTORS + SHARD_DESCRIPTORS * shards as u64)
}

/// How many of the connections may be clients, where nobody says it.
fn most_clients(connections: u64) -> u64 {
    connections.saturating_sub(REQUEST_DESCRIPTORS).max(1)
}

/// What the routes need.
struct Routes {
    admission: Admission,
    publisher: Publisher,
    recent: NotificationsState,
    readiness: Readiness,
    exposition: Exposition,
    origins: Arc<Origins>,
    metrics: Arc<Metrics>,
}

impl Routes {
    /// All routes there are.
    fn router(self) -> Router {
        let websocket = Router::new().route("/ws", get(websocket::handshake)).with_state(self.admission.clone());
        let feed = Router::new()
            .route("/events", get(sse::open))
            .with_state(self.admission)
            .route("/notifications", get(notifications::notifications))
            .with_state(self.recent)
            .route("/notifier.js", get(assets::script))
            .route("/notifier.esm.js", get(assets::module))
            .route("/notifier.d.ts", get(assets::types))
            // Before CORS, which answers the preflights that no method takes.
            .method_not_allowed_fallback(async || Rejection::MethodNotAllowed)
            .layer(cors(self.origins));
        let rest = Router::new()
            .route("/notify", post(notify::notify))
            .with_state(self.publisher)
            .route("/", get(assets::page))
            .route("/healthz", get(health::healthz))
            .route("/readyz", get(health::readyz))
            .with_state(self.readiness)
            .route("/metrics", get(crate::http::metrics::metrics))
            .with_state(self.exposition);
        let routes = feed
            .merge(rest)
            .merge(websocket)
            .fallback(async || Rejection::NotFound)
            .method_not_allowed_fallback(async || Rejection::MethodNotAllowed);
        watched(routes, self.metrics)
    }
}

/// Routes whose panics are answered, and whose refusals are counted, whichever it is.
fn watched(routes: Router, metrics: Arc<Metrics>) -> Router {
    routes
        .layer(CatchPanicLayer::custom(|_| Rejection::Internal.into_response()))
        .layer(map_response_with_state(metrics, count_refusal))
}

/// Lets pages of allowed origins read; without credentials, since there are none.
fn cors(origins: Arc<Origins>) -> CorsLayer {
    let allowed =
        move |origin: &axum::http::HeaderValue, _: &Parts| origins.allow(Some(origin.to_str().unwrap_or("?")));
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_methods([axum::http::Method::GET])
        .allow_headers(AllowHeaders::mirror_request())
        .vary([axum::http::header::ORIGIN])
}

async fn count_refusal(State(metrics): State<Arc<Metrics>>, response: Response) -> Response {
    if let Some(RejectedFor(reason)) = response.extensions().get() {
        metrics.refused(reason);
    }
    response
}

/// Whether something is kept: a history, or the token that is drawn where none is given.
fn uses_data_dir(config: &Config) -> bool {
    config.history == HistoryKind::Sqlite || (config.token.is_empty() && !config.allow_anonymous_notify)
}

/// Creates the data directory where it is missing and takes it for this process.
async fn lock(data_dir: &PathBuf) -> Result<File, StartError> {
    const INTERVAL: Duration = Duration::from_millis(50);

    let failed = |error| StartError::DataDir { path: data_dir.clone(), error };
    std::fs::create_dir_all(data_dir).map_err(failed)?;
    // The directory itself is locked: a file of its own would be one more thing to explain, and closing any
    // descriptor of the database would drop the locks that SQLite holds (POSIX record locks).
    let directory = File::open(data_dir).map_err(failed)?;
    let wait = async {
        loop {
            match directory.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(INTERVAL).await,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    };
    tokio::time::timeout(LOCK_PATIENCE, wait).await.map_err(|_| StartError::InUse(data_dir.clone()))??;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Request, StatusCode},
    };
    use tower::Service;

    use super::*;

    #[test]
    fn what_many_shards_hold_is_not_left_to_clients() {
        for (shards, clients) in [(1, 898), (64, 772), (1000, 1)] {
            assert_eq!(most_clients(left_to_connections(1000, shards)), clients);
        }
    }

    #[tokio::test]
    async fn a_panic_in_a_route_is_a_500_that_is_counted() {
        let metrics = Arc::new(Metrics::default());
        let broken = async || -> () { panic!("a fault that a test has planted") };
        let mut router = watched(Router::new().route("/ws", get(broken)), metrics.clone());
        let response = router.call(Request::get("/ws").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(metrics.to_text().contains(r#"refused_total{reason="internal"} 1"#), "{}", metrics.to_text());
    }
}
