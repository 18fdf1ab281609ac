//! The steps of a notification one by one: parse, encode, append, dispatch.
//!
//!     cargo bench --bench micro [-- append]
//!
//! What they cost together, over real sockets, is told by `benches/run`.

use std::{
    hint::black_box,
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};
use video_notifier::{
    connection::Connections,
    history::{Append, History, Retention, memory::MemoryHistory, sqlite::SqliteHistory},
    hub::{Hub, HubOptions},
    limits::Limits,
    metrics::Metrics,
    notification::{Fingerprint, Notification, Post},
    protocol::{Frame, Wire},
    publication::{Publication, Timestamp},
    rates::Rate,
    region::Regions,
    shutdown::Shutdown,
    transport::shard::{Opening, Shard, Wish},
};

criterion_group! {
    name = micro;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = parse, encode, append, dispatch
}
criterion_main!(micro);

/// A post's body to the notification, or to its faults.
fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, body) in [("one video", post(1)), ("five videos", post(5)), ("a hundred videos", post(100))] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| Notification::parse(black_box(body.as_bytes()), &Regions::All))
        });
    }
    let faulty = post(5).replace("/watch/", "javascript:");
    group.throughput(Throughput::Bytes(faulty.len() as u64));
    group.bench_function("five faults", |bencher| {
        bencher.iter(|| Notification::parse(black_box(faulty.as_bytes()), &Regions::All));
    });
}

/// A publication to the bytes that all clients get.
fn encode(criterion: &mut Criterion) {
    let Notification { region, count, videos, .. } = notification(5);
    let position = "k3f9x2ab-1042".parse().expect("a position");
    let publication = Publication { position, region, count, videos, timestamp: Timestamp::now() };
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Bytes(publication.to_json().len() as u64));
    group.bench_function("five videos", |bencher| bencher.iter(|| Frame::publication(black_box(&publication))));
}

/// A notification to its place in the history.
fn append(criterion: &mut Criterion) {
    const MANY: u64 = 1000;
    const AT_ONCE: u64 = 20;

    let runtime = runtime();
    let mut numbers = 0..;
    let mut next = |notification: &Notification| numbered(notification, numbers.next().expect("numbers go on"));
    let notification = notification(5);
    let mut group = criterion.benchmark_group("append");

    // A history remembers receipts for a day, so each thousand gets a fresh one.
    group.throughput(Throughput::Elements(MANY));
    group.bench_function("memory, a thousand", |bencher| {
        let setup = || {
            let appends: Vec<Append> = (0..MANY).map(|_| next(&notification)).collect();
            (MemoryHistory::new(RETENTION), appends)
        };
        let run = |(history, appends): (MemoryHistory, Vec<Append>)| {
            runtime.block_on(async {
                for append in appends {
                    history.append(append).await.expect("an append");
                }
            });
            history
        };
        bencher.iter_batched(setup, run, BatchSize::PerIteration);
    });

    // Each is durable before the next begins, so this is the disk.
    let folder = tempfile::tempdir().expect("a folder");
    let history = open(folder.path());
    group.throughput(Throughput::Elements(1));
    group.bench_function("sqlite, one", |bencher| {
        let run = |append| runtime.block_on(history.append(append)).expect("an append");
        bencher.iter_batched(|| next(&notification), run, BatchSize::PerIteration);
    });

    // Those that wait together share a transaction.
    group.throughput(Throughput::Elements(AT_ONCE));
    group.bench_function("sqlite, twenty at once", |bencher| {
        let setup = || (0..AT_ONCE).map(|_| next(&notification)).collect::<Vec<_>>();
        let run = |appends: Vec<Append>| {
            let appends = appends.into_iter().map(|append| history.append(append));
            runtime.block_on(futures_util::future::try_join_all(appends)).expect("all are appended")
        };
        bencher.iter_batched(setup, run, BatchSize::PerIteration);
    });
}

/// From the append to every client of a shard, over sockets that take everything and cost nothing.
fn dispatch(criterion: &mut Criterion) {
    const CLIENTS: u32 = 1000;

    let runtime = runtime();
    let notification = notification(5);
    let mut numbers = 0..;
    let mut group = criterion.benchmark_group("dispatch");
    group.throughput(Throughput::Elements(u64::from(CLIENTS)));
    group.bench_function("to a thousand clients", |bencher| {
        let history = Arc::new(MemoryHistory::new(RETENTION));
        let metrics = Arc::new(Metrics::default());
        let hub = runtime.block_on(Hub::open(history.clone(), HubOptions::default(), metrics.clone())).expect("a hub");
        let feed = runtime.spawn(hub.clone().run());
        let heartbeat = Duration::from_secs(25);
        let mut receiver = hub.receive();
        let (shutdown, message_rate) = (Shutdown::default(), Rate::per_second(1, 60));
        let mut shard = Shard::new(Connections { hub: hub.clone(), metrics, shutdown, heartbeat, message_rate });
        let limits = Limits::new(u64::MAX, u64::MAX);
        for number in 0..CLIENTS {
            let Ok(permit) = limits.admit(None) else { panic!("a limit that is never reached") };
            let wish = Wish::Subscribe(hub.start(Regions::All, None));
            let (head, early) = (Bytes::new(), Bytes::new());
            shard.open(Opening { socket: Sink, wire: Wire::WebSocket, permit, head, early, wish }, number);
        }
        bencher.iter(|| {
            let append = numbered(&notification, numbers.next().expect("numbers go on"));
            runtime.block_on(async {
                history.append(append).await.expect("an append");
                shard.take(receiver.recv().await.expect("a publication"));
                shard.offer();
            });
        });
        feed.abort();
    });
}

/// A socket that takes everything and has nothing to say.
struct Sink;

impl Read for Sink {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(black_box(bytes).len())
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Ok(black_box(slices).iter().map(|slice| slice.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const RETENTION: Retention = Retention {
    max_count: 10_000,
    max_age: Duration::from_secs(24 * 60 * 60),
    dedup_window: Duration::from_secs(10 * 60),
};

/// One thread: what is measured is work, not how it is shared out.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn open(folder: &Path) -> SqliteHistory {
    SqliteHistory::open(&folder.join("history.db"), RETENTION).expect("a fresh database")
}

/// The body of a post with so many videos.
fn post(videos: usize) -> String {
    let video = |id: usize| {
        format!(
            r#"{{"id":"v{id:07}","title":"A title of usual length, with a \"quote\" and an é","thumb":"https://i.example.com/vi/v{id:07}/hq720.jpg","url":"/watch/v{id:07}","channel":"Somebody","views":1234567}}"#
        )
    };
    let videos: Vec<String> = (0..videos).map(video).collect();
    format!(r#"{{"region":"US","count":137,"videos":[{}]}}"#, videos.join(","))
}

fn notification(videos: usize) -> Notification {
    match Notification::parse(post(videos).as_bytes(), &Regions::All) {
        Ok(Post::Publish(notification)) => notification,
        other => panic!("{other:?}"),
    }
}

/// The notification as one that was never posted before.
fn numbered(notification: &Notification, number: u64) -> Append {
    let mut fingerprint = [0; 32];
    fingerprint[..8].copy_from_slice(&number.to_le_bytes());
    let notification = Notification { fingerprint: Fingerprint(fingerprint), ..notification.clone() };
    Append { notification, key: None, subscribers: 1000 }
}
