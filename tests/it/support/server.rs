//! Starts the binary that is shipped, on a port that the system chooses, and ends it with the test.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder, Response};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What posts carry, unless a test gives its own.
pub const TOKEN: &str = "test-token";

/// A server process with a data directory of its own.
pub struct Server {
    pub address: String,
    pub http: reqwest::Client,
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    /// Kept over a restart.
    data: Arc<TempDir>,
    flags: Vec<String>,
}

impl Server {
    /// Starts with these flags beside `--listen`, `--data-dir` and `--token`.
    pub async fn start(flags: &[&str]) -> Self {
        let data = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self::launch("127.0.0.1:0", data, flags).await
    }

    async fn launch(listen: &str, data: Arc<TempDir>, flags: Vec<String>) -> Self {
        let mut child = command()
            .args(["--listen", listen, "--token", TOKEN, "--log-format", "json", "--data-dir"])
            .arg(data.path())
            .args(&flags)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let mut log = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let address = timeout(PATIENCE, listening(&mut log)).await.expect("the server listens in time");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { address, http, child, log, data, flags }
    }

    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.expect("the server answers")
    }

    /// Posts a body with the token; answers status and JSON.
    pub async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let response = self.request(Method::POST, "/notify").bearer_auth(TOKEN).body(body).send().await;
        let response = response.expect("the server answers");
        (response.status().as_u16(), response.json().await.expect("the answer is JSON"))
    }

    /// Posts what must be accepted; answers the receipt.
    pub async fn publish(&self, body: impl Into<reqwest::Body>) -> Value {
        let (status, receipt) = self.post(body).await;
        assert_eq!(status, 200, "{receipt}");
        receipt
    }

    /// The value of a sample of `/metrics`, 0 where there is none; `name` with its labels, as it is printed.
    pub async fn metric(&self, name: &str) -> f64 {
        let response = self.request(Method::GET, "/metrics").bearer_auth(TOKEN).send().await;
        let text = response.expect("the server answers").text().await.expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until a sample of `/metrics` has a value.
    pub async fn until_metric(&self, name: &str, wanted: impl Fn(f64) -> bool) {
        let wait = async {
            while !wanted(self.metric(name).await) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{name} does not get there"));
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id() as i32).expect("a process id");
        kill_process(id, signal).expect("the server takes signals");
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("the server can be killed");
    }

    /// Waits until it has ended by itself; answers the exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.expect("the server ends").expect("a status").code()
    }

    /// Starts it again after its end: the same address, data and flags.
    pub async fn restart(&mut self) {
        let _ = self.child.kill().await;
        *self = Self::launch(&self.address, self.data.clone(), self.flags.clone()).await;
    }

    /// The next line of the log that has `text` in it.
    pub async fn logged(&mut self, text: &str) -> String {
        let find = async {
            while let Some(line) = self.log.next_line().await.expect("the log is text") {
                if line.contains(text) {
                    return line;
                }
            }
            panic!("the log ended without {text:?}");
        };
        timeout(PATIENCE, find).await.unwrap_or_else(|_| panic!("no line of the log has {text:?}"))
    }
}

/// The binary, with no variable of ours set.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_video-notifier"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NOTIFIER_") {
            command.env_remove(name);
        }
    }
    command
}

async fn listening(log: &mut Lines<BufReader<ChildStderr>>) -> String {
    let mut seen = String::new();
    while let Some(line) = log.next_line().await.expect("the log is text") {
        if let Some((_, rest)) = line.split_once("listening on http://") {
            return rest.split([';', ',']).next().expect("an address").to_owned();
        }
        seen += &line;
    }
    panic!("the server did not listen: {seen}");
}
