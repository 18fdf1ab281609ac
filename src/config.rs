//! Flags and environment, read once and typed. Every flag `--some-thing` has a variable `NOTIFIER_SOME_THING`.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use ipnet::IpNet;

use crate::{origin::Origins, region::Regions};

/// Pushes a toast to every open browser tab the moment new trending videos are fetched.
#[derive(Debug, Clone, Parser)]
#[command(version, about)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub config: Config,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Ask the server that runs with the same variables whether it is alive; exit code 0 if so, else 1
    Healthcheck {
        /// Where the server listens; the first address is asked
        #[arg(
            long,
            env = "NOTIFIER_LISTEN",
            value_delimiter = ',',
            default_value = "127.0.0.1:8765",
            value_name = "ADDRESS"
        )]
        listen: Vec<Listen>,
    },
}

/// How the server runs.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Where to listen: ADDRESS:PORT or unix:/PATH; may be given several times; unused where systemd hands sockets over
    #[arg(
        long,
        env = "NOTIFIER_LISTEN",
        value_delimiter = ',',
        default_value = "127.0.0.1:8765",
        value_name = "ADDRESS"
    )]
    pub listen: Vec<Listen>,

    /// Directory of history.db and notify.token; one process at a time
    #[arg(long, env = "NOTIFIER_DATA_DIR", default_value = "./data", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Where publications are kept
    #[arg(long, env = "NOTIFIER_HISTORY", default_value = "sqlite", value_enum)]
    pub history: HistoryKind,

    /// The most publications kept
    #[arg(long, env = "NOTIFIER_HISTORY_MAX_COUNT", default_value = "10000", value_parser = at_least_one, value_name = "N")]
    pub history_max_count: u64,

    /// How long publications are kept
    #[arg(long, env = "NOTIFIER_HISTORY_MAX_AGE", default_value = "24h", value_parser = positive_duration, value_name = "TIME")]
    pub history_max_age: Duration,

    /// The most missed publications that a client which comes back is sent
    #[arg(long, env = "NOTIFIER_REPLAY_MAX", default_value = "1000", value_name = "N")]
    pub replay_max: u32,

    /// Bearer token for posts; several with commas, to rotate [default: generated at the first start]
    #[arg(
        long,
        env = "NOTIFIER_TOKEN",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = token,
        value_name = "TOKEN"
    )]
    pub token: Vec<String>,

    /// Take posts without a token, unless a browser sent them; for closed networks
    #[arg(long, env = "NOTIFIER_ALLOW_ANONYMOUS_NOTIFY", value_parser = BoolishValueParser::new())]
    pub allow_anonymous_notify: bool,

    /// Bearer token for /metrics [default: the token for posts]
    #[arg(long, env = "NOTIFIER_METRICS_TOKEN", hide_env_values = true, value_parser = token, value_name = "TOKEN")]
    pub metrics_token: Option<String>,

    /// The origins whose pages may connect, with commas between them, or * for all
    #[arg(long, env = "NOTIFIER_ALLOWED_ORIGINS", default_value = "*", value_name = "ORIGINS")]
    pub allowed_origins: Origins,

    /// The regions that may be posted to, at most 64, with commas between them [default: any]
    #[arg(long, env = "NOTIFIER_REGIONS", default_value = "", hide_default_value = true, value_name = "REGIONS")]
    pub regions: Regions,

    /// The most clients connected at a time [default: what the descriptors allow]
    #[arg(long, env = "NOTIFIER_MAX_CONNECTIONS", value_parser = at_least_one, value_name = "N")]
    pub max_connections: Option<u64>,

    /// The most clients of one address; mobile carriers put many users behind one
    #[arg(
        long,
        env = "NOTIFIER_MAX_CONNECTIONS_PER_IP",
        default_value = "1000",
        value_parser = at_least_one,
        value_name = "N"
    )]
    pub max_connections_per_ip: u64,

    /// Handshakes that one address may make per second, after a burst of two for each client that it may have
    #[arg(long, env = "NOTIFIER_HANDSHAKE_RATE_PER_IP", default_value = "200", value_parser = rate, value_name = "N/s")]
    pub handshake_rate_per_ip: u64,

    /// Publications from the past that one address is sent per second, after a burst of 100 for each client that it may have
    #[arg(long, env = "NOTIFIER_REPLAY_RATE_PER_IP", default_value = "5000", value_parser = rate, value_name = "N/s")]
    pub replay_rate_per_ip: u64,

    /// Posts that one address may make per second, after a burst of 10 seconds' worth
    #[arg(long, env = "NOTIFIER_POST_RATE_PER_IP", default_value = "100", value_parser = rate, value_name = "N/s")]
    pub post_rate_per_ip: u64,

    /// Wrong tokens that one address may send per minute; beyond that all its tokens are refused
    #[arg(
        long,
        env = "NOTIFIER_WRONG_TOKEN_RATE_PER_IP",
        default_value = "10",
        value_parser = rate_per_minute,
        value_name = "N/m"
    )]
    pub wrong_token_rate_per_ip: u64,

    /// Messages that one client may send per second unasked, after a burst of a minute's worth
    #[arg(long, env = "NOTIFIER_MESSAGE_RATE", default_value = "1", value_parser = rate, value_name = "N/s")]
    pub message_rate: u64,

    /// Networks whose X-Forwarded-For and Forwarded are believed
    #[arg(
        long,
        env = "NOTIFIER_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_parser = network,
        default_value = "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7",
        value_name = "CIDRS"
    )]
    pub trusted_proxies: Vec<IpNet>,

    /// The one header that is believed [default: X-Forwarded-For where there is one, else Forwarded]
    #[arg(long, env = "NOTIFIER_FORWARDED_HEADER", value_enum, value_name = "HEADER")]
    pub forwarded_header: Option<ForwardedHeader>,

    /// How often each client gets a heartbeat; below every proxy's idle timeout
    #[arg(long, env = "NOTIFIER_HEARTBEAT", default_value = "25s", value_parser = heartbeat, value_name = "TIME")]
    pub heartbeat: Duration,

    /// How long a planned shutdown may take
    #[arg(long, env = "NOTIFIER_DRAIN", default_value = "8s", value_parser = duration, value_name = "TIME")]
    pub drain: Duration,

    /// Handshakes per second that clients together make after a restart
    #[arg(long, env = "NOTIFIER_RECONNECT_RATE", default_value = "2000", value_parser = rate, value_name = "N/s")]
    pub reconnect_rate: u64,

    /// Requests per second that pages together send to the site after a publication
    #[arg(long, env = "NOTIFIER_REFETCH_RATE", default_value = "1000", value_parser = rate, value_name = "N/s")]
    pub refetch_rate: u64,

    /// How long a post without an idempotency key is compared with earlier ones
    #[arg(long, env = "NOTIFIER_DEDUP_WINDOW", default_value = "10m", value_parser = duration, value_name = "TIME")]
    pub dedup_window: Duration,

    /// The format of log lines [default: text on a terminal, else json]
    #[arg(long, env = "NOTIFIER_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

/// Where publications are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HistoryKind {
    Sqlite,
    Memory,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// In which header proxies tell whom they saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ForwardedHeader {
    XForwardedFor,
    Forwarded,
}

/// An address to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err("a Unix socket needs an absolute path".into()),
            None => text.parse().map(Self::Tcp).map_err(|_| "expected ADDRESS:PORT or unix:/PATH".into()),
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl CommandLine {
    /// Reads flags and environment.
    ///
    /// # Errors
    /// What to print, and the exit code: 2 with one line for what is wrong, 0 with the text of `--help`.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, (String, u8)> {
        Self::try_parse_from(arguments).map_err(|error| {
            if error.use_stderr() { (one_line(&error.to_string()), 2) } else { (error.to_string(), 0) }
        })
    }
}

/// A message of several lines as one, without the usage that follows it.
fn one_line(message: &str) -> String {
    let lines = message.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Reads a whole number with its unit: `500ms`, `25s`, `10m`, `24h`.
fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a whole number with its unit, such as 500ms, 25s, 10m or 24h";
    /// A year: longer makes no sense for any flag, and sums of what is shorter cannot overflow.
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(EXPECTED)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(EXPECTED.into()),
    };
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| "at most a year".into())
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text)?.checked_sub(Duration::from_millis(1)).ok_or("must be more than 0")?;
    duration(text)
}

fn heartbeat(text: &str) -> Result<Duration, String> {
    let heartbeat = duration(text)?;
    let sensible = Duration::from_millis(50)..=Duration::from_secs(600);
    sensible.contains(&heartbeat).then_some(heartbeat).ok_or_else(|| "must be from 50ms to 10m".into())
}

/// Reads a whole number per second, with or without `/s`.
fn rate(text: &str) -> Result<u64, String> {
    at_least_one(text.strip_suffix("/s").unwrap_or(text))
}

/// Reads a whole number per minute, with or without `/m`.
fn rate_per_minute(text: &str) -> Result<u64, String> {
    at_least_one(text.strip_suffix("/m").unwrap_or(text))
}

fn at_least_one(text: &str) -> Result<u64, String> {
    // More than anybody needs, and so few that no product of it overflows.
    const MOST: u64 = 1 << 40;
    text.parse()
        .ok()
        .filter(|number| (1..=MOST).contains(number))
        .ok_or_else(|| "expected a whole number from 1".into())
}

/// Reads a token as HTTP can carry it (RFC 6750 §2.1), so that a wrong one is found at the start, not at a post.
fn token(text: &str) -> Result<String, String> {
    let plain = |letter: u8| letter.is_ascii_alphanumeric() || b"-._~+/=".contains(&letter);
    if text.is_empty() || !text.bytes().all(plain) {
        return Err("a token has letters, digits and -._~+/= only, and is not empty".into());
    }
    Ok(text.to_owned())
}

/// Reads a network, or an address as the network of one.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse()
        .or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()))
        .map_err(|_| "expected networks such as 10.0.0.0/8 or fc00::/7".into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::CommandFactory;

    use super::*;

    fn read(arguments: &[&str]) -> Result<Config, (String, u8)> {
        let words = std::iter::once("video-notifier").chain(arguments.iter().copied());
        CommandLine::read(words.map(OsString::from)).map(|line| line.config)
    }

    /// What README says of the flags.
    fn documentation() -> &'static str {
        let sections = include_str!("../README.md").split("\n## ");
        let mut found = sections.filter(|section| section.starts_with("Configure it\n"));
        found.next().expect("README tells how to configure")
    }

    fn in_backticks(text: &str) -> Vec<&str> {
        text.split('`').skip(1).step_by(2).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        /// Their defaults have words in README, which are no values.
        const IN_WORDS: [&str; 2] = ["--regions", "--trusted-proxies"];

        let command = CommandLine::command();
        let named = command.get_arguments().filter_map(|flag| Some((format!("--{}", flag.get_long()?), flag)));
        let mut flags: BTreeMap<String, &clap::Arg> = named.collect();
        for row in documentation().lines() {
            let [_, named, defaults, ..] = row.split('|').collect::<Vec<_>>()[..] else { continue };
            let named: Vec<&str> = in_backticks(named).into_iter().filter(|flag| flag.starts_with("--")).collect();
            let defaults = defaults.replace('`', "");
            // Of one flag it is all that stands there, with whatever commas it has.
            let defaults: Vec<&str> = if named.len() == 1 { vec![&defaults] } else { defaults.split(',').collect() };
            for (at, flag) in named.iter().enumerate() {
                let known = flags.remove(*flag).unwrap_or_else(|| panic!("{flag}: no such flag, or told of twice"));
                if known.get_default_values().is_empty() || IN_WORDS.contains(flag) {
                    continue;
                }
                assert_eq!(defaults.len(), named.len(), "one default for each: {row}");
                let given =
                    read(&[&format!("{flag}={}", defaults[at].trim())]).unwrap_or_else(|(line, _)| panic!("{line}"));
                assert_eq!(format!("{given:?}"), format!("{:?}", read(&[]).unwrap()), "{flag}: {row}");
            }
        }
        // What has no default to tell may stand beside another flag.
        let told = in_backticks(documentation());
        flags.retain(|flag, known| !known.get_default_values().is_empty() || !told.contains(&flag.as_str()));
        assert_eq!(flags.keys().collect::<Vec<_>>(), [""; 0], "README does not tell of them");
        assert_eq!(read(&[]).unwrap().regions, Regions::All);
        assert_eq!(read(&[]).unwrap().trusted_proxies.len(), 6);
    }

    #[test]
    fn every_flag_has_its_variable() {
        for flag in CommandLine::command().get_arguments() {
            let long = flag.get_long().expect("no argument goes without a name");
            let variable = format!("NOTIFIER_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(flag.get_env(), Some(variable.as_ref()), "--{long}");
        }
    }

    #[test]
    fn lists_and_units_are_read() {
        let config = read(&[
            "--listen",
            "0.0.0.0:80",
            "--listen",
            "unix:/run/n.sock",
            "--token",
            "a,b",
            "--heartbeat",
            "500ms",
            "--history-max-age",
            "10m",
            "--regions",
            "US,GB",
            "--trusted-proxies",
            "10.1.2.3",
            "--forwarded-header",
            "forwarded",
            "--reconnect-rate",
            "50/s",
        ])
        .unwrap();
        assert_eq!(config.listen[1], Listen::Unix("/run/n.sock".into()));
        assert_eq!(config.token, ["a", "b"]);
        assert_eq!(config.heartbeat, Duration::from_millis(500));
        assert_eq!(config.history_max_age, Duration::from_secs(600));
        assert_eq!(config.trusted_proxies, ["10.1.2.3/32".parse().unwrap()]);
        assert_eq!(config.forwarded_header, Some(ForwardedHeader::Forwarded));
        assert_eq!(config.reconnect_rate, 50);
    }

    #[test]
    fn a_bad_value_is_one_line_that_names_the_flag() {
        let cases = [
            ("--listen", "localhost"),
            ("--listen", "unix:n.sock"),
            ("--history", "postgres"),
            ("--history-max-count", "0"),
            ("--history-max-age", "0s"),
            ("--replay-max", "-1"),
            ("--token", ""),
            ("--token", "a b"),
            ("--metrics-token", "é"),
            ("--allowed-origins", "example.com"),
            ("--regions", "U S"),
            ("--max-connections", "none"),
            ("--max-connections-per-ip", "0"),
            ("--handshake-rate-per-ip", "0"),
            ("--replay-rate-per-ip", "-1"),
            ("--post-rate-per-ip", "5/m"),
            ("--wrong-token-rate-per-ip", "5/s"),
            ("--message-rate", "1ms"),
            ("--trusted-proxies", "10.0.0.0/33"),
            ("--forwarded-header", "x-real-ip"),
            ("--heartbeat", "25"),
            ("--heartbeat", "1ms"),
            ("--drain", "8 s"),
            ("--reconnect-rate", "0"),
            ("--refetch-rate", "1.5"),
            ("--dedup-window", "99999999999999999999h"),
            ("--log-format", "xml"),
        ];
        for (flag, value) in cases {
            let (line, code) = read(&[&format!("{flag}={value}")]).unwrap_err();
            assert_eq!(code, 2);
            assert!(line.contains(flag) && !line.contains('\n'), "{flag}={value}: {line:?}");
        }
    }

    #[test]
    fn an_unknown_flag_is_one_line_too() {
        let (line, code) = read(&["--heartbeats", "1s"]).unwrap_err();
        assert!(code == 2 && line.contains("--heartbeats") && !line.contains('\n'), "{line:?}");
    }
}
