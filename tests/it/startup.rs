//! The start of the process: what it refuses, and leaves as it was, and what it says when it serves.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Method;
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::UnixStream, process::Command, time::timeout};

use crate::support::{
    EventStream, Mount, Server, Setup, Socket, post_body,
    process::{contents, refused},
    server::{PATIENCE, TOKEN, command},
};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// The server on a free port, with a data directory.
fn serve(data_dir: &Path) -> Command {
    let mut command = command();
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
    command
}

async fn is_healthy(listen: &str) -> bool {
    let output = command().args(["healthcheck", "--listen", listen]).output().await.expect("it runs");
    output.status.success()
}

/// A history with one publication, left by a server that has ended.
async fn history_left_behind() -> Arc<TempDir> {
    let data = Arc::new(folder());
    let mut server = Setup::in_folder(data.clone(), &[]).start().await;
    server.publish(post_body("US", 1)).await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
    data
}

#[tokio::test]
async fn a_port_in_use_ends_the_start_before_anything_is_touched() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = folder();
    let mut command = command();
    command.args(["--listen", &address, "--data-dir"]).arg(folder.path().join("data"));
    let line = refused(command).await;
    assert!(line.contains("--listen") && line.contains(&address), "{line}");
    assert!(contents(folder.path()).is_empty());
}

#[tokio::test]
async fn a_unix_socket_in_use_is_left_to_its_owner() {
    let sockets = folder();
    let listen = format!("unix:{}", sockets.path().join("n.sock").display());
    let owner = Server::start(&["--listen", &listen]).await;
    let data = folder();
    let mut command = command();
    command.args(["--listen", &listen, "--data-dir"]).arg(data.path());
    let line = refused(command).await;
    assert!(line.contains("--listen") && line.contains(&listen), "{line}");
    assert!(contents(data.path()).is_empty());
    assert!(is_healthy(&listen).await, "the owner's socket is gone");
    drop(owner);
}

#[tokio::test]
async fn a_unix_socket_that_a_killed_server_left_is_taken_over() {
    let sockets = folder();
    let path = sockets.path().join("n.sock");
    let listen = format!("unix:{}", path.display());
    let mut server = Server::start(&["--listen", &listen]).await;
    server.kill().await;
    assert!(path.exists() && !is_healthy(&listen).await);
    server.restart().await;
    assert!(is_healthy(&listen).await);
}

#[tokio::test]
async fn a_file_where_the_unix_socket_should_be_is_kept() {
    let folder = folder();
    let path = folder.path().join("n.sock");
    fs::write(&path, "somebody's notes").unwrap();
    let before = contents(folder.path());
    let mut command = command();
    command.args(["--listen", &format!("unix:{}", path.display()), "--data-dir"]).arg(folder.path().join("data"));
    let line = refused(command).await;
    assert!(line.contains("--listen") && line.contains("n.sock"), "{line}");
    assert_eq!(contents(folder.path()), before);
}

#[tokio::test]
async fn a_file_where_the_data_directory_should_be_is_kept() {
    let folder = folder();
    let path = folder.path().join("data");
    fs::write(&path, "somebody's notes").unwrap();
    let before = contents(folder.path());
    for data_dir in [path.clone(), path.join("below")] {
        let line = refused(serve(&data_dir)).await;
        assert!(line.contains("--data-dir") && line.contains(&*data_dir.to_string_lossy()), "{line}");
        assert_eq!(contents(folder.path()), before);
    }
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_written_ends_the_start() {
    let folder = folder();
    let Some(mount) = Mount::memory(folder.path(), 4096) else { return };
    let old = folder.path().join("old");
    fs::create_dir(&old).unwrap();
    for (path, (_, bytes)) in contents(history_left_behind().await.path()) {
        fs::write(old.join(path.file_name().unwrap()), bytes).unwrap();
    }
    fs::create_dir(folder.path().join("empty")).unwrap();
    mount.make_read_only();
    let before = contents(folder.path());
    for name in ["old", "empty", "missing"] {
        let data_dir = folder.path().join(name);
        let line = refused(serve(&data_dir)).await;
        assert!(line.contains("--data-dir") && line.contains(&*data_dir.to_string_lossy()), "{line}");
        // The token is drawn into the same folder.
        let mut command = serve(&data_dir);
        command.args(["--history", "memory"]);
        let line = refused(command).await;
        assert!(line.contains("--data-dir") && line.contains(&*data_dir.to_string_lossy()), "{line}");
        assert_eq!(contents(folder.path()), before);
    }
}

#[tokio::test]
async fn a_data_directory_in_use_ends_the_start_after_ten_seconds() {
    let owner = Server::start(&[]).await;
    owner.publish(post_body("US", 1)).await;
    let before = contents(owner.data_dir());
    let start = Instant::now();
    let line = refused(serve(owner.data_dir())).await;
    let took = start.elapsed();
    assert!(line.contains("--data-dir") && line.contains(&*owner.data_dir().to_string_lossy()), "{line}");
    assert!(took >= Duration::from_secs(10), "did not wait for a handover: {took:?}");
    assert_eq!(contents(owner.data_dir()), before);
    owner.publish(post_body("US", 2)).await;
}

#[tokio::test]
async fn a_second_process_takes_the_data_directory_over_when_the_first_ends() {
    let data = Arc::new(folder());
    let sockets = folder();
    let socket = sockets.path().join("second.sock");
    let mut first = Setup::in_folder(data.clone(), &[]).start().await;
    let receipt = first.publish(post_body("US", 1)).await;

    let flags = ["--listen".to_owned(), format!("unix:{}", socket.display())];
    let second =
        tokio::spawn(async move { Setup::in_folder(data, &flags.each_ref().map(String::as_str)).start().await });
    until_bound(&socket).await;
    first.publish(post_body("US", 2)).await;
    first.signal(Signal::TERM);
    assert_eq!(first.ended().await, Some(0));

    let second = second.await.unwrap();
    let since = receipt["id"].as_str().unwrap();
    let (mut socket, hello) = Socket::open(&second, &format!("?since={since}")).await;
    assert_eq!(hello["recovered"], true);
    assert_eq!(socket.publication().await["videos"][0]["id"], "2");
    second.publish(post_body("US", 3)).await;
    assert_eq!(socket.publication().await["videos"][0]["id"], "3");
}

#[tokio::test]
async fn a_process_that_waits_for_the_data_directory_can_be_told_to_end() {
    let owner = Server::start(&[]).await;
    owner.publish(post_body("US", 1)).await;
    let before = contents(owner.data_dir());
    let sockets = folder();
    let socket = sockets.path().join("second.sock");
    for signal in [Signal::TERM, Signal::INT] {
        let mut second = serve(owner.data_dir());
        second.args(["--listen", &format!("unix:{}", socket.display())]).stderr(Stdio::null());
        let mut second = second.kill_on_drop(true).spawn().unwrap();
        until_bound(&socket).await;
        let start = Instant::now();
        kill_process(Pid::from_raw(second.id().unwrap() as i32).unwrap(), signal).unwrap();
        let status = timeout(PATIENCE, second.wait()).await.expect("it ends").unwrap();
        // None would be the signal's own doing, of which a container's first process knows nothing: it would wait on.
        assert_eq!(status.code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert!(!socket.exists());
    }
    assert_eq!(contents(owner.data_dir()), before);
    owner.publish(post_body("US", 2)).await;
}

/// Waits until a server has bound its sockets; next it asks for the data directory.
async fn until_bound(socket: &Path) {
    let bound = async {
        while UnixStream::connect(socket).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, bound).await.expect("the server binds its socket");
}

#[tokio::test]
async fn a_history_that_is_no_database_is_left_as_it_is() {
    for bytes in [&b"somebody's notes\n"[..], &[0x5a; 40_000]] {
        let data = folder();
        fs::write(data.path().join("history.db"), bytes).unwrap();
        assert_refused_and_untouched(data.path(), "not a database").await;
    }
    let data = folder();
    fs::create_dir(data.path().join("history.db")).unwrap();
    assert_refused_and_untouched(data.path(), "history.db").await;
}

#[tokio::test]
async fn a_history_of_another_program_is_left_as_it_is() {
    for journal in ["delete", "wal"] {
        let data = folder();
        let database = Connection::open(data.path().join("history.db")).unwrap();
        database.pragma_update(None, "journal_mode", journal).unwrap();
        database.execute_batch("CREATE TABLE visits (page TEXT); INSERT INTO visits VALUES ('/')").unwrap();
        drop(database);
        assert_refused_and_untouched(data.path(), "another program").await;
    }
}

#[tokio::test]
async fn a_history_of_a_newer_version_is_left_as_it_is() {
    let data = history_left_behind().await;
    let database = Connection::open(data.path().join("history.db")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    assert_refused_and_untouched(data.path(), "newer version").await;
}

async fn assert_refused_and_untouched(data_dir: &Path, why: &str) {
    let before = contents(data_dir);
    let line = refused(serve(data_dir)).await;
    assert!(line.contains("--data-dir") && line.contains("history.db") && line.contains(why), "{line}");
    assert_eq!(contents(data_dir), before);
}

#[tokio::test]
async fn a_bad_flag_is_one_line_that_names_it() {
    let folder = folder();
    let cases = [
        ("--heartbeat", "25"),
        ("--listen", "localhost"),
        ("--history-max-count", "many"),
        ("--token", "two words"),
        ("--no-such-flag", "1"),
    ];
    for (flag, value) in cases {
        let mut command = command();
        command.current_dir(folder.path()).arg(format!("{flag}={value}"));
        let line = refused(command).await;
        assert!(line.contains(flag), "{line}");
        assert!(contents(folder.path()).is_empty());
    }
}

#[tokio::test]
async fn a_bad_variable_is_one_line_that_names_its_flag() {
    let folder = folder();
    let cases = [
        ("NOTIFIER_DRAIN", "8", "--drain"),
        ("NOTIFIER_LISTEN", "127.0.0.1:0,nowhere", "--listen"),
        ("NOTIFIER_REGIONS", "US,G B", "--regions"),
        ("NOTIFIER_ALLOW_ANONYMOUS_NOTIFY", "perhaps", "--allow-anonymous-notify"),
        ("NOTIFIER_TOKEN", "", "--token"),
    ];
    for (variable, value, flag) in cases {
        let mut command = command();
        command.current_dir(folder.path()).env(variable, value);
        let line = refused(command).await;
        assert!(line.contains(flag), "{variable}: {line}");
        assert!(contents(folder.path()).is_empty());
    }
}

#[tokio::test]
async fn a_variable_is_as_good_as_a_flag() {
    let server = Setup::new(&[]).variable("NOTIFIER_HEARTBEAT", "1234ms").start().await;
    let (_socket, hello) = Socket::open(&server, "").await;
    assert_eq!(hello["heartbeat_ms"], 1234);
}

#[tokio::test]
async fn a_token_is_drawn_once_and_kept_for_its_owner_only() {
    let mut server = Setup::new(&[]).no_token().start().await;
    let path = server.data_dir().join("notify.token");
    let token = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for id in 1..=2 {
        let post = server.request(Method::POST, "/notify").bearer_auth(token.trim()).body(post_body("US", id));
        assert_eq!(post.send().await.unwrap().status(), 200);
        assert_eq!(server.post(post_body("US", "x")).await.0, 401);
        server.restart().await;
        assert_eq!(fs::read_to_string(&path).unwrap(), token);
    }
}

#[tokio::test]
async fn neither_a_token_nor_a_body_is_ever_logged() {
    let mut server = Setup::new(&[]).no_token().variable("RUST_LOG", "debug").start().await;
    let token = fs::read_to_string(server.data_dir().join("notify.token")).unwrap().trim().to_owned();
    let (mut socket, _) = Socket::open(&server, "?regions=US").await;
    let mut events = EventStream::connect(&server, "?regions=US").await;
    let bodies = [
        post_body("US", "body-1"),
        // Refused: for its title, for its region, and for what is no JSON.
        post_body("US", "body-2").replace("Video", "\\u0007Video"),
        post_body("body 3", "body-3"),
        "{\"region\": body-4".to_owned(),
    ];
    for body in bodies {
        for token in [&token, "wrong-token"] {
            let post = server.request(Method::POST, "/notify").bearer_auth(token).body(body.clone());
            post.send().await.unwrap();
        }
    }
    assert_eq!(socket.publication().await["videos"][0]["id"], "body-1");
    assert_eq!(events.publication().await["videos"][0]["id"], "body-1");
    socket.send("client-text").await;
    assert_eq!(server.request(Method::GET, "/metrics").bearer_auth(&token).send().await.unwrap().status(), 200);
    server.signal(Signal::TERM);
    assert_eq!(socket.closed().await.0, 1012);
    // The process ends when all have left; this stream is still open.
    drop(events);
    assert_eq!(server.ended().await, Some(0));

    let log = server.rest_of_log().await;
    assert!(log.contains(r#""message":"published""#), "the search would find nothing: {log}");
    for secret in [&token, "wrong-token", "body-", "Video", "client-text"] {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
}

/// Runs the command line that the start line shows, in a shell.
async fn run_shown_command(server: &Server) {
    let line: Value = serde_json::from_str(&server.start_line).expect("a JSON line");
    let (_, shown) = line["message"].as_str().unwrap().split_once("post with ").expect("a command");
    let mut shell = Command::new("sh");
    shell.args(["-c", shown]).env("NOTIFIER_TOKEN", TOKEN).env("no_proxy", "*").stdin(Stdio::null());
    let output = timeout(PATIENCE, shell.output()).await.expect("in time").expect("it runs");
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let receipt: Value = serde_json::from_str(&answer)
        .unwrap_or_else(|_| panic!("{shown}\n{answer}\n{}", String::from_utf8_lossy(&output.stderr)));
    assert!(receipt["id"].is_string(), "{shown}\n{receipt}");
    let recent: Value = server.get("/notifications").await.json().await.unwrap();
    assert_eq!(recent["notifications"][0]["id"], receipt["id"]);
}

#[tokio::test]
async fn the_start_line_shows_a_post_that_works() {
    let setups = [
        Setup::new(&[]),
        Setup::new(&[]).no_token(),
        Setup::new(&["--allow-anonymous-notify"]).no_token(),
        Setup::new(&[])
            .no_token()
            .variable("NOTIFIER_TOKEN", &format!("{TOKEN},old-token"))
            .variable("NOTIFIER_REGIONS", "JP"),
        // What a shell would take apart.
        Setup::new(&[]).no_token().data_dir("it's $HOME; a \"data\" folder"),
    ];
    for setup in setups {
        let server = setup.start().await;
        run_shown_command(&server).await;
    }
}

#[tokio::test]
async fn the_start_line_shows_a_post_that_works_over_a_unix_socket_too() {
    let sockets = folder();
    let listen = format!("unix:{}", sockets.path().join("n.sock").display());
    let server = Setup::new(&[]).listen_first(&listen).start().await;
    assert!(server.start_line.contains(&listen), "{}", server.start_line);
    run_shown_command(&server).await;
}

#[tokio::test]
async fn a_healthcheck_tells_a_server_that_lives_from_one_that_does_not() {
    let mut server = Server::start(&[]).await;
    let address = server.address.clone();
    assert!(is_healthy(&address).await);
    // As an image does it: by the variable that the server was started with.
    let mut by_variable = command();
    by_variable.arg("healthcheck").env("NOTIFIER_LISTEN", &address).env("NOTIFIER_HEARTBEAT", "25s");
    assert!(by_variable.status().await.unwrap().success());
    server.kill().await;
    assert!(!is_healthy(&address).await);
    // Somebody who accepts and says nothing is no server that lives.
    let _silent = TcpListener::bind(&address).unwrap();
    assert!(!is_healthy(&address).await);
    let folder = folder();
    let path = folder.path().join("n.sock");
    let _silent = UnixListener::bind(&path).unwrap();
    assert!(!is_healthy(&format!("unix:{}", path.display())).await);
}

#[tokio::test]
async fn a_server_listens_on_several_addresses_and_a_unix_socket() {
    let sockets = folder();
    let listen = format!("unix:{}", sockets.path().join("n.sock").display());
    let ports = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let more = ports.map(|port| port.local_addr().unwrap().to_string());
    let flags = ["--listen", &more[0], "--listen", &more[1], "--listen", &listen];
    let server = Server::start(&flags).await;
    for address in [&server.address, &more[0], &more[1], &listen] {
        assert!(server.start_line.contains(address.as_str()), "{}", server.start_line);
        assert!(is_healthy(address).await, "{address}");
    }
    // One server behind all of them.
    let stream = UnixStream::connect(sockets.path().join("n.sock")).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://localhost/ws", stream).await.unwrap();
    let hello = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(hello.to_text().unwrap()).unwrap()["recovered"], json!(null));
    let post = server.http.post(format!("http://{}/notify", more[1])).bearer_auth(TOKEN).body(post_body("US", 1));
    let receipt: Value = post.send().await.unwrap().json().await.unwrap();
    assert_eq!(receipt["subscribers"], 1);
    let publication = timeout(PATIENCE, futures_util::StreamExt::next(&mut socket)).await.unwrap().unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(publication.to_text().unwrap()).unwrap()["id"], receipt["id"]);
}

#[tokio::test]
async fn descriptors_are_raised_to_the_hard_limit_and_told() {
    let server = Setup::new(&[]).shell("ulimit -Sn 200; ulimit -Hn 3000").start().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["3000", "3000"]);
    let line: Value = serde_json::from_str(&server.start_line).unwrap();
    assert_eq!(line["descriptors"], 3000);
}
