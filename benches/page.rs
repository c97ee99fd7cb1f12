//! What the page costs the process that serves it: one round of 1,024 shards in 16 processes, told to one viewer and to all there
//! may be, and a chart; and what a scrape of the metrics costs a process of 64 shards. Rounds are two seconds apart: a round of
//! 1 ms is 0.05 % of a core.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::{Body, Bytes};
use optic::http::page::chart::{self, ChartKind};
use optic::http::{ClientsError, Health, Lookout, Page, Readers, Site, Snapshot, metrics};
use optic::seen::clients::{ClientsAnswer, ClientsQuestion};
use optic::seen::simulated;
use optic::seen::{Packets, Report, Reporter, Sample, ShardPackets, Whole};
use tokio::sync::watch;

/// Moments that there are, over and over: rates change every five seconds, and so most rows in some of them.
const MOMENTS: u64 = 20;

/// All processes, as the benchmark says.
struct Said(watch::Sender<Arc<Whole>>);

impl Lookout for Said {
    fn look(&self) -> watch::Receiver<Arc<Whole>> {
        self.0.subscribe()
    }

    fn clients(&self, _question: ClientsQuestion) -> BoxFuture<'static, Result<ClientsAnswer, ClientsError>> {
        Box::pin(std::future::ready(Err(ClientsError::Off)))
    }
}

struct Nobody;

impl Health for Nobody {
    fn snapshot(&self) -> Snapshot {
        unreachable!("nobody asks for it")
    }
}

fn rounds(criterion: &mut Criterion) {
    let moments: Vec<Arc<Whole>> = (0..MOMENTS).map(|moment| simulated::whole_at(16, 1024, moment).into()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for viewers in [1, 16] {
        let said = Arc::new(Said(watch::Sender::new(moments[0].clone())));
        let site = Site::new(Arc::new(Nobody)).with_page(Page::new(Arc::new(Readers::new(None)), said.clone()));
        let look = || {
            let request = Request::get("/api/live").header("host", "localhost").body(Empty::<Bytes>::new());
            runtime.block_on(site.respond(request.expect("a request"), IpAddr::from(Ipv4Addr::LOCALHOST))).into_body()
        };
        let mut looking: Vec<_> = (0..viewers).map(|_| look()).collect();
        let mut told = |whole: &Arc<Whole>| {
            said.0.send_replace(whole.clone());
            runtime.block_on(async {
                let mut bytes = 0;
                for viewer in &mut looking {
                    bytes += next(viewer).await.len();
                }
                bytes
            })
        };
        told(&moments[0]);
        let bytes: usize = moments.iter().map(&mut told).sum();
        println!("a round told to {viewers}: {} bytes each on average", bytes / (moments.len() * viewers));
        let mut at = 0;
        criterion.bench_function(&format!("a round of 1,024 shards told to {viewers}"), |bencher| {
            bencher.iter(|| {
                at = (at + 1) % moments.len();
                black_box(told(&moments[at]))
            });
        });
    }
    for kind in ChartKind::ALL {
        criterion.bench_function(&format!("chart of {}", kind.name()), |bencher| {
            bencher.iter(|| black_box(chart::draw(kind, &moments[0].history, 640)));
        });
    }
}

/// A process of 64 shards, which receive 40 events each.
struct Scraped(Report, Vec<ShardPackets>);

impl Scraped {
    fn new() -> Self {
        let report = Report::clone(&simulated::whole(16, 1024).processes[0].report);
        let names: Vec<Arc<str>> = (0..40).map(|n| Arc::from(format!("SOME_EVENT_{n}"))).collect();
        let received: Vec<Packets> =
            names.iter().map(|name| Packets { op: 0, name: Some(name.clone()), count: 12_345 }).collect();
        let packets = (0..64).map(|shard| ShardPackets {
            shard,
            received: received.clone(),
            sent: vec![Packets { op: 1, name: None, count: 99 }],
            pings: 99,
            ping_sum_ms: 4_000.0,
            latest_pings_ms: vec![40.0; 32],
        });
        Self(report, packets.collect())
    }
}

impl Reporter for Scraped {
    fn report(&self) -> Report {
        self.0.clone()
    }

    fn samples(&self, _after: u64) -> Vec<Sample> {
        Vec::new()
    }

    fn packets(&self) -> Vec<ShardPackets> {
        self.1.clone()
    }
}

fn scrapes(criterion: &mut Criterion) {
    let scraped = Scraped::new();
    println!("a scrape: {} bytes", metrics::render(&scraped).len());
    criterion.bench_function("a scrape of 64 shards with 40 events", |bencher| {
        bencher.iter(|| black_box(metrics::render(&scraped)));
    });
}

/// The next part of an answer that goes on.
async fn next<B: Body<Data = Bytes, Error: std::fmt::Debug> + Unpin>(body: &mut B) -> Bytes {
    body.frame().await.expect("it goes on").expect("no error").into_data().expect("data")
}

criterion_group!(benches, rounds, scrapes);
criterion_main!(benches);
