//! The process: flags, logs, descriptors, sockets, the app, and its end.

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;
use video_notifier::{
    app::{App, StartError},
    config::{Command, CommandLine, Config, Listen, LogFormat},
    healthcheck,
    server::Listener,
    shutdown,
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
    start_logs(config.log_format);
    let runtime = Runtime::new().expect("the system lets threads start");
    match runtime.block_on(run(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// From the sockets to the last client. The ports come first: where one is in use, nothing else is touched.
async fn run(config: &Config) -> Result<(), StartError> {
    let descriptors = raise_descriptors();
    let bind =
        |listen: &Listen| Listener::bind(listen).map_err(|error| StartError::Listen { listen: listen.clone(), error });
    let listeners: Vec<Listener> = config.listen.iter().map(bind).collect::<Result<_, _>>()?;
    let app = App::open(config, descriptors).await?;

    let shutdown = app.shutdown.clone();
    tokio::spawn(async move {
        let signal = shutdown::signalled().await;
        tracing::info!(signal, "draining");
        shutdown.start();
        // Whoever asks twice means it.
        shutdown::signalled().await;
        std::process::exit(1);
    });
    greet(config, &listeners, descriptors);
    app.run(listeners).await;
    tracing::info!("ended");
    Ok(())
}

/// Says where the server listens and how to post; the token itself never appears.
fn greet(config: &Config, listeners: &[Listener], descriptors: u64) {
    let addresses: Vec<String> = listeners
        .iter()
        .map(|listener| match listener.address() {
            address @ Listen::Tcp(_) => format!("http://{address}"),
            address @ Listen::Unix(_) => address.to_string(),
        })
        .collect();
    let token = match (config.token.is_empty(), config.allow_anonymous_notify) {
        (true, true) => "(none needed)".to_owned(),
        (true, false) => format!("$(cat {})", config.data_dir.join("notify.token").display()),
        (false, _) => "$NOTIFIER_TOKEN".to_owned(),
    };
    let post = format!(
        "curl -H \"Authorization: Bearer {token}\" -d '{{\"region\":\"US\",\"videos\":[{{\"id\":1,\"title\":\"Hello\"}}]}}' {}/notify",
        addresses[0]
    );
    tracing::info!(descriptors, "listening on {}; post with {post}", addresses.join(", "));
}

fn start_logs(format: Option<LogFormat>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let terminal = stderr().is_terminal();
    match format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Text => logs.with_target(false).with_ansi(terminal).init(),
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).init(),
    }
}

/// Raises the number of files that the process may open to what the system allows, and tells it.
fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    // None is no limit; the kernel's own table ends here.
    now.unwrap_or(1 << 20)
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
