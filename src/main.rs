//! The process: flags, logs, descriptors, sockets, the app, and its end.

use std::{io, path::Path, process::ExitCode};

use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use socket2::Socket;
use tokio::runtime::Runtime;
use video_notifier::{
    app::{App, StartError},
    config::{Command, CommandLine, Config, Listen},
    healthcheck, logs,
    region::Regions,
    server::Listener,
    shutdown, systemd,
};

fn main() -> ExitCode {
    let CommandLine { command, config } = match CommandLine::read(std::env::args_os()) {
        Ok(line) => line,
        Err((text, 0)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err((line, code)) => {
            eprintln!("{line}");
            return code.into();
        }
    };
    if let Some(Command::Healthcheck { listen }) = command {
        return check_health(&listen[0]);
    }
    // Before the first thread, which is the log's.
    let handed = systemd::sockets();
    let descriptors = raise_descriptors();
    grow_descriptor_table(descriptors);
    let _logs = logs::start(config.log_format);
    let runtime = Runtime::new().expect("the system lets threads start");
    let outcome = runtime.block_on(run(&config, handed, descriptors));
    // What the drain has left ends here, and with the last of it the history: it is closed, then its lock is free.
    drop(runtime);
    match outcome {
        Ok(()) => {
            tracing::info!("ended");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// From the sockets to the last client. The ports come first: where one is in use, nothing else is touched.
async fn run(config: &Config, handed: io::Result<Vec<Socket>>, descriptors: u64) -> Result<(), StartError> {
    // Before anything that may take long: as the first process of a container it ignores what it has no handler for.
    let mut asked = Box::pin(shutdown::signalled());
    let listeners = listen(config, handed.map_err(StartError::Handed)?)?;
    let app = tokio::select! {
        app = App::open(config, descriptors) => app?,
        signal = &mut asked => {
            tracing::info!(signal, "asked to end before it served");
            return Ok(());
        }
    };

    let shutdown = app.shutdown.clone();
    tokio::spawn(async move {
        let signal = asked.await;
        tracing::info!(signal, "draining");
        systemd::stopping();
        shutdown.start();
        // Whoever asks twice means it.
        shutdown::signalled().await;
        std::process::exit(1);
    });
    greet(config, &listeners, descriptors);
    systemd::ready();
    tokio::spawn(systemd::feed_watchdog());
    app.run(listeners).await;
    Ok(())
}

/// At the sockets that a service manager holds, which stay open over a restart; without such at those of `--listen`.
fn listen(config: &Config, handed: Vec<Socket>) -> Result<Vec<Listener>, StartError> {
    if !handed.is_empty() {
        return handed.into_iter().map(|socket| Listener::adopt(socket).map_err(StartError::Handed)).collect();
    }
    let bind =
        |listen: &Listen| Listener::bind(listen).map_err(|error| StartError::Listen { listen: listen.clone(), error });
    config.listen.iter().map(bind).collect()
}

/// Says where the server listens and how to post; the token itself never appears.
fn greet(config: &Config, listeners: &[Listener], descriptors: u64) {
    let addresses: Vec<Listen> = listeners.iter().map(Listener::address).collect();
    let names = addresses.iter().map(|address| match address {
        Listen::Tcp(address) => format!("http://{address}"),
        Listen::Unix(_) => address.to_string(),
    });
    let names = names.collect::<Vec<_>>().join(", ");
    tracing::info!(descriptors, "listening on {names}; post with {}", example_post(config, &addresses[0]));
}

/// A command line that posts, for any POSIX shell in the same folder.
fn example_post(config: &Config, address: &Listen) -> String {
    let authorization = match &config.token[..] {
        [] if config.allow_anonymous_notify => String::new(),
        [] => {
            let path = quoted(&config.data_dir.join("notify.token"));
            format!(" -H \"Authorization: Bearer $(cat {path})\"")
        }
        [_] => " -H \"Authorization: Bearer $NOTIFIER_TOKEN\"".to_owned(),
        // The first of them.
        [..] => " -H \"Authorization: Bearer ${NOTIFIER_TOKEN%%,*}\"".to_owned(),
    };
    let region = match &config.regions {
        Regions::Only(names) => names.first().map_or("US", |region| region.as_str()),
        Regions::All => "US",
    };
    let to = match address {
        Listen::Tcp(address) => format!("http://{address}/notify"),
        Listen::Unix(path) => format!("--unix-socket {} http://localhost/notify", quoted(path)),
    };
    format!(r#"curl{authorization} -d '{{"region":"{region}","videos":[{{"id":1,"title":"Hello"}}]}}' {to}"#)
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |letter: char| letter.is_alphanumeric() || "/._-".contains(letter);
    if path.chars().all(plain) && !path.starts_with('-') { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// Raises the number of files that the process may open to what the system allows, and tells it.
fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    // None is no limit; Linux's own ceiling (fs.nr_open) is this by default.
    now.unwrap_or(1 << 20)
}

/// Has the kernel make the table of open files as large as it may get. It grows by doubling otherwise, and where a process
/// has several threads each time keeps the one that accepts waiting for all processors: for tens of milliseconds, in the
/// middle of a storm of clients. Before the first thread it costs nothing but its memory, 8 bytes for each descriptor.
fn grow_descriptor_table(descriptors: u64) {
    /// More clients than one process had yet; beyond that memory counts for more.
    const MOST: u64 = 1 << 18;

    let last = descriptors.clamp(1, MOST) - 1;
    // Closed again; where there is no such number, the table grows as it always did.
    drop(fcntl_dupfd_cloexec(io::stderr(), last as i32));
}

fn check_health(listen: &Listen) -> ExitCode {
    match healthcheck::ask(listen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{listen}: {error}");
            ExitCode::FAILURE
        }
    }
}
