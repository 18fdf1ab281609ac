//! Starts the binary that is shipped, on a port that the system chooses, and ends it with the test.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use reqwest::{Method, RequestBuilder, Response};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    sync::{mpsc, watch},
    time::timeout,
};

use super::answer::Answer;

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the kernel counts processor time in (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// What posts carry, unless a test gives its own.
pub const TOKEN: &str = "test-token";

/// The token as a header.
pub const AUTHORIZED: (&str, &str) = ("authorization", "Bearer test-token");

/// An HTTP client each of whose requests has a connection of its own.
pub fn client_that_keeps_nothing() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client")
}

/// A server process with a data directory of its own.
pub struct Server {
    pub address: String,
    pub http: reqwest::Client,
    /// The line of the log that said where it listens.
    pub start_line: String,
    child: Child,
    /// The lines of its log that nobody has asked for yet. They are read as they come, for as long as `reads_log` says.
    log: mpsc::UnboundedReceiver<String>,
    reads_log: watch::Sender<bool>,
    /// Kept over a restart.
    setup: Setup,
}

/// How a server is started.
#[derive(Clone)]
pub struct Setup {
    /// Removed with the last server that uses it.
    data: Arc<TempDir>,
    data_dir: PathBuf,
    token: Option<String>,
    flags: Vec<String>,
    /// Named before the address that the tests use.
    listen_first: Option<String>,
    variables: Vec<(String, String)>,
    /// Runs the server as `sh -c 'this; exec "$@"'`.
    shell: Option<String>,
    /// Handed over as systemd does.
    socket: Option<Arc<OwnedFd>>,
}

impl Setup {
    pub fn new(flags: &[&str]) -> Self {
        Self::in_folder(Arc::new(tempfile::tempdir().expect("a temporary directory")), flags)
    }

    /// With a folder that exists, as data directory.
    pub fn in_folder(data: Arc<TempDir>, flags: &[&str]) -> Self {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let data_dir = data.path().to_owned();
        Self {
            data,
            data_dir,
            token: Some(TOKEN.to_owned()),
            flags,
            listen_first: None,
            variables: Vec::new(),
            shell: None,
            socket: None,
        }
    }

    /// Names the data directory: one within the temporary folder, which need not exist.
    pub fn data_dir(mut self, name: &str) -> Self {
        self.data_dir = self.data.path().join(name);
        self
    }

    /// Without `--token`.
    pub fn no_token(mut self) -> Self {
        self.token = None;
        self
    }

    /// Listens at another address too, which it names first.
    pub fn listen_first(mut self, listen: &str) -> Self {
        self.listen_first = Some(listen.to_owned());
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs something in the shell that then becomes the server, such as `ulimit`.
    pub fn shell(mut self, script: &str) -> Self {
        self.shell = Some(script.to_owned());
        self
    }

    /// Hands over a listening socket as descriptor 3, as systemd does. It stays open when the server ends.
    pub fn hand_over(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.socket = Some(Arc::new(socket.into()));
        self.shell("exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$")
    }

    pub async fn start(self) -> Server {
        self.launch("127.0.0.1:0").await
    }

    async fn launch(self, listen: &str) -> Server {
        let mut command = match &self.shell {
            None => command(),
            Some(script) => {
                let mut shell = without_variables(Command::new("sh"));
                shell.args(["-c", &format!("{script}\nexec \"$@\""), "sh", BINARY]);
                shell
            }
        };
        if let Some(first) = &self.listen_first {
            command.args(["--listen", first]);
        }
        command.args(["--listen", listen, "--log-format", "json", "--data-dir"]).arg(&self.data_dir);
        if let Some(token) = &self.token {
            command.args(["--token", token]);
        }
        command.args(&self.flags).envs(self.variables.iter().cloned());
        if let Some(socket) = &self.socket {
            command.stdin(socket.try_clone().expect("a descriptor"));
        }
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("the server starts");
        let (reads_log, is_read) = watch::channel(true);
        let mut log = read_log(child.stderr.take().expect("stderr is piped"), is_read);
        let (address, start_line) = timeout(PATIENCE, listening(&mut log)).await.expect("the server listens in time");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Server { address, http, start_line, child, log, reads_log, setup: self }
    }
}

impl Server {
    /// Starts with these flags beside `--listen`, `--data-dir` and `--token`.
    pub async fn start(flags: &[&str]) -> Self {
        Setup::new(flags).start().await
    }

    pub fn data_dir(&self) -> &Path {
        &self.setup.data_dir
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

    /// Posts a body with these headers and no other; the token too is the caller's.
    pub async fn post_with(&self, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
        let request = self.request(Method::POST, "/notify").body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(request.send().await.expect("the server answers")).await
    }

    /// What `/notifications` answers to a query such as `?limit=3`.
    pub async fn notifications(&self, query: &str) -> Value {
        let answer = Answer::of(self.get(&format!("/notifications{query}")).await).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
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

    /// What the process holds, in bytes: a sum of proc(5)'s `smaps_rollup`, such as `Pss`.
    pub fn memory(&self, sum: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.id())).expect("the server runs");
        let line = text.lines().find_map(|line| line.strip_prefix(sum)?.strip_prefix(':')).expect("a sum");
        line.split_whitespace().next().expect("a number").parse::<u64>().expect("a number") * 1024
    }

    /// The time that the process has had on processors, in user mode and in the kernel's (proc(5), `stat`).
    pub fn processor_time(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("the server runs");
        // The name before them may hold anything, but no other closing parenthesis follows it.
        let (_, fields) = text.rsplit_once(')').expect("a name in parentheses");
        let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u32>().expect("a number"));
        ticks.sum::<u32>() * TICK
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
        *self = self.setup.clone().launch(&self.address).await;
    }

    /// Leaves the log to fill its pipe, which stays open, or reads on.
    pub fn read_log(&self, reads: bool) {
        self.reads_log.send_replace(reads);
    }

    /// Closes the log's pipe behind the next line.
    pub fn close_log(&mut self) {
        self.read_log(false);
        self.reads_log = watch::Sender::default();
    }

    /// The next line of the log that has `text` in it.
    pub async fn logged(&mut self, text: &str) -> String {
        let find = async {
            while let Some(line) = self.log.recv().await {
                if line.contains(text) {
                    return line;
                }
            }
            panic!("the log ended without {text:?}");
        };
        timeout(PATIENCE, find).await.unwrap_or_else(|_| panic!("no line of the log has {text:?}"))
    }

    /// Waits for the end of the server's log; answers what nobody has asked for yet.
    pub async fn rest_of_log(&mut self) -> String {
        let rest = async {
            let mut log = String::new();
            while let Some(line) = self.log.recv().await {
                log += &line;
                log.push('\n');
            }
            log
        };
        timeout(PATIENCE, rest).await.expect("the log ends with the server")
    }
}

const BINARY: &str = env!("CARGO_BIN_EXE_video-notifier");

/// The binary, with no variable of ours set.
pub fn command() -> Command {
    without_variables(Command::new(BINARY))
}

fn without_variables(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("NOTIFIER_") || text == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

fn read_log(stderr: ChildStderr, mut is_read: watch::Receiver<bool>) -> mpsc::UnboundedReceiver<String> {
    let (sender, log) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).lines();
        while is_read.wait_for(|is_read| *is_read).await.is_ok()
            && let Some(line) = lines.next_line().await.expect("the log is text")
        {
            // Read on even where nobody listens any more.
            let _ = sender.send(line);
        }
    });
    log
}

/// Where it listens over TCP, and the line that says so.
async fn listening(log: &mut mpsc::UnboundedReceiver<String>) -> (String, String) {
    let mut seen = String::new();
    while let Some(line) = log.recv().await {
        if let Some((_, rest)) = line.split_once("listening on ").and_then(|(_, rest)| rest.split_once("http://")) {
            let address = rest.split([';', ',']).next().expect("an address").to_owned();
            return (address, line);
        }
        seen += &line;
    }
    panic!("the server did not listen: {seen}");
}
