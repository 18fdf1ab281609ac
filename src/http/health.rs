//! `GET /healthz`: the process is alive. `GET /readyz`: it can serve.

use std::{sync::Arc, time::Duration};

use axum::extract::State;

use crate::{history::History, rejection::Rejection, shutdown::Shutdown};

/// How long the history may take to answer before the node is no longer ready.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct Readiness {
    pub history: Arc<dyn History>,
    pub shutdown: Shutdown,
}

pub async fn healthz() -> &'static str {
    "alive\n"
}

/// Ready when the history answers and the server is not about to end.
pub async fn readyz(State(Readiness { history, shutdown }): State<Readiness>) -> Result<&'static str, Rejection> {
    if shutdown.is_draining() {
        return Err(Rejection::Draining);
    }
    tokio::time::timeout(PATIENCE, history.head()).await.map_err(|_| Rejection::Unavailable)??;
    Ok("ready\n")
}
