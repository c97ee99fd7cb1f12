//! All that the page is told but the shards' rows: sums over all processes, as JSON (spec/seeing.md, "What `/api/live` tells").

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::problems;
use super::shards::{self, Number, tenths};
use crate::cluster::node::NodeId;
use crate::cluster::ranges;
use crate::discord::ids::ShardId;
use crate::seen::Whole;
use crate::seen::report::{
    Counted, Fate, Forwarding, Mode, QueueReport, RejectedCommand, Report, ShardState, Singyeong,
};
use crate::seen::whole::{Process, Reach};

/// So many rejected commands are shown.
const MOST_REJECTED: usize = 20;

/// Two resets within this time are one: there is one a day.
const SAME_RESET_MS: u64 = 60_000;

/// How fast each process publishes: what was confirmed between its last two reports. Of one report nothing is known.
pub struct Paces(BTreeMap<NodeId, Pace>);

struct Pace {
    at: u64,
    confirmed: u64,
    rate: Option<f64>,
}

impl Paces {
    /// Of this; and before.
    pub fn of(whole: &Whole, before: Option<&Self>) -> Self {
        let reports = whole.processes.iter().filter(|process| process.answers).map(|process| &process.report);
        let pace = |report: &Report| {
            let confirmed = report.publishing?.confirmed;
            let known = before.and_then(|before| before.0.get(&report.node));
            let rate = match known {
                Some(known) if report.at > known.at => {
                    Some(per_second(confirmed, known.confirmed, report.at - known.at))
                }
                Some(known) => known.rate,
                None => None,
            };
            Some((report.node.clone(), Pace { at: report.at, confirmed, rate }))
        };
        Self(reports.filter_map(|report| pace(report)).collect())
    }

    /// Of those that are known; none: of nobody.
    fn sum(&self) -> Option<f64> {
        self.0.values().filter_map(|pace| pace.rate).reduce(|a, b| a + b)
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown to a tenth")]
fn per_second(now: u64, before: u64, millis: u64) -> f64 {
    now.saturating_sub(before) as f64 * 1000.0 / millis.max(1) as f64
}

/// The object's members before `all` and `shards`, and those behind; each with what joins it to them.
pub fn write(whole: &Whole, paces: &Paces) -> (Vec<u8>, Vec<u8>) {
    let mut head = json(&Head::of(whole));
    head.pop();
    head.push(b',');
    let mut tail = json(&Tail::of(whole, paces));
    tail.remove(0);
    (head, tail)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("all keys are texts")
}

#[derive(Serialize)]
struct Head<'a> {
    at: u64,
    group: &'a str,
    shard_count: u32,
    here: &'a NodeId,
    partial: bool,
    processes: Vec<ProcessView<'a>>,
}

#[derive(Serialize)]
struct ProcessView<'a> {
    node: &'a NodeId,
    name: &'a str,
    optic: &'a str,
    mode: Mode,
    started_at: u64,
    at: u64,
    answers: bool,
    ready: bool,
    missing: &'a [String],
    broker: &'a str,
    shards: String,
    connected: usize,
    cpu: f32,
    resident_bytes: u64,
}

impl<'a> Head<'a> {
    fn of(whole: &'a Whole) -> Self {
        let anybody = || whole.processes.first().map(|process| &*process.report);
        let group = whole.own().or_else(anybody).map_or("", |report| &report.group);
        let partial = whole.sight() == Reach::Asking;
        let processes = whole.processes.iter().map(ProcessView::of).collect();
        Self { at: whole.at, group, shard_count: shards::shard_count(whole), here: &whole.here, partial, processes }
    }
}

impl<'a> ProcessView<'a> {
    fn of(Process { report, heard_at, answers }: &'a Process) -> Self {
        let is_connected = |state| state == ShardState::Connected;
        Self {
            node: &report.node,
            name: &report.name,
            optic: &report.optic,
            mode: report.mode,
            started_at: report.started_at,
            at: *heard_at,
            answers: *answers,
            ready: report.ready,
            missing: &report.missing,
            broker: &report.broker,
            shards: ranges::to_text(&report.shards.iter().map(|shard| ShardId::new(shard.id)).collect()),
            connected: report.shards.iter().filter(|shard| is_connected(shard.state)).count(),
            cpu: report.resources.cpu,
            resident_bytes: report.resources.resident_bytes,
        }
    }
}

#[derive(Serialize)]
struct Tail<'a> {
    events: Vec<EventView<'a>>,
    publishing: Option<PublishingView>,
    commands: CommandsView<'a>,
    identifies: Option<IdentifiesView>,
    queues: Vec<&'a QueueReport>,
    singyeong: Option<Singyeong>,
    amybot: bool,
    forwarding: Option<Forwarding>,
    problems: Vec<String>,
}

impl<'a> Tail<'a> {
    fn of(whole: &'a Whole, paces: &Paces) -> Self {
        let reports: Vec<&Report> = whole.processes.iter().map(|process| &*process.report).collect();
        let queues = queues(&reports);
        let identifies = IdentifiesView::of(whole);
        Self {
            problems: problems::of(whole, &queues, identifies.as_ref()),
            events: events(whole, &queues),
            publishing: PublishingView::of(whole, paces),
            commands: CommandsView::of(&reports),
            identifies,
            singyeong: sum_singyeong(whole),
            amybot: reports.iter().any(|report| report.amybot.is_some()),
            forwarding: sum_forwarding(&reports),
            queues,
        }
    }
}

/// Each queue as whoever looked at it last found it.
fn queues<'a>(reports: &[&'a Report]) -> Vec<&'a QueueReport> {
    let mut by_name: BTreeMap<&str, (u64, &QueueReport)> = BTreeMap::new();
    for report in reports {
        for queue in &report.queues {
            let known = by_name.entry(&queue.name).or_insert((report.at, queue));
            if report.at > known.0 {
                *known = (report.at, queue);
            }
        }
    }
    by_name.into_values().map(|(_, queue)| queue).collect()
}

#[derive(Serialize)]
struct EventView<'a> {
    name: &'a str,
    rate: Number,
    received: u64,
    fate: Fate,
    messages: Option<u64>,
    consumers: Option<u64>,
}

/// Summed by name; those that come most first. What comes now, and what becomes of it, is known of those that answer.
fn events<'a>(whole: &'a Whole, queues: &[&QueueReport]) -> Vec<EventView<'a>> {
    struct Sum {
        rate: f64,
        received: u64,
        /// By whether who says so answers, and then the likeliest: whoever publishes it has seen its queue.
        fate: (bool, Fate),
    }
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for process in &whole.processes {
        for event in &process.report.events {
            let fate = (process.answers, event.fate);
            let sum = sums.entry(&event.name).or_insert(Sum { rate: 0.0, received: 0, fate });
            sum.rate += if process.answers { f64::from(event.rate) } else { 0.0 };
            sum.received += event.received;
            sum.fate = std::cmp::max_by_key(sum.fate, fate, |(answers, fate)| (*answers, likelihood(*fate)));
        }
    }
    let mut depths: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for queue in queues {
        if let Some(event) = &queue.event {
            let depth = depths.entry(event).or_default();
            *depth = (depth.0 + queue.messages, depth.1 + queue.consumers);
        }
    }
    let mut sorted: Vec<(&str, Sum)> = sums.into_iter().collect();
    // They are in the order of their names, and stay so where they come alike.
    sorted.sort_by(|(_, a), (_, b)| b.rate.total_cmp(&a.rate));
    let view = |(name, sum): (&'a str, Sum)| EventView {
        name,
        rate: tenths(sum.rate),
        received: sum.received,
        fate: sum.fate.1,
        messages: depths.get(name).map(|depth| depth.0),
        consumers: depths.get(name).map(|depth| depth.1),
    };
    sorted.into_iter().map(view).collect()
}

const fn likelihood(fate: Fate) -> u8 {
    match fate {
        Fate::NotListed => 0,
        Fate::NoQueue => 1,
        Fate::Published => 2,
    }
}

#[derive(Serialize)]
struct PublishingView {
    rate: Option<Number>,
    /// The longest.
    latency_ms: Option<Number>,
    unconfirmed: u64,
    unconfirmed_bytes: u64,
    /// What is of now is summed over so many,
    of: usize,
    /// of so many that publish.
    processes: usize,
    confirmed: u64,
    refused: u64,
    returned: u64,
    abandoned: u64,
    again: u64,
    unconverted: u64,
}

impl PublishingView {
    fn of(whole: &Whole, paces: &Paces) -> Option<Self> {
        let all: Vec<_> =
            whole.processes.iter().filter_map(|process| Some((process, process.report.publishing?))).collect();
        // What waits in a process that does not answer is not known to wait any more.
        let now: Vec<_> = all.iter().filter(|(process, _)| process.answers).map(|(_, publishing)| publishing).collect();
        let latency = now.iter().filter_map(|publishing| publishing.latency_ms).max_by(f64::total_cmp);
        (!all.is_empty()).then(|| Self {
            rate: paces.sum().map(tenths),
            latency_ms: latency.map(tenths),
            unconfirmed: now.iter().map(|publishing| publishing.unconfirmed).sum(),
            unconfirmed_bytes: now.iter().map(|publishing| publishing.unconfirmed_bytes).sum(),
            of: now.len(),
            processes: all.len(),
            confirmed: all.iter().map(|(_, publishing)| publishing.confirmed).sum(),
            refused: all.iter().map(|(_, publishing)| publishing.refused).sum(),
            returned: all.iter().map(|(_, publishing)| publishing.returned).sum(),
            abandoned: all.iter().map(|(_, publishing)| publishing.abandoned).sum(),
            again: all.iter().map(|(_, publishing)| publishing.again).sum(),
            unconverted: all.iter().map(|(_, publishing)| publishing.unconverted).sum(),
        })
    }
}

#[derive(Serialize)]
struct CommandsView<'a> {
    sent: u64,
    delayed: u64,
    held_up: u64,
    /// The most frequent first.
    rejected: Vec<Counted>,
    last_rejected: Vec<RejectedView<'a>>,
}

#[derive(Serialize)]
struct RejectedView<'a> {
    process: &'a str,
    #[serde(flatten)]
    command: &'a RejectedCommand,
}

impl<'a> CommandsView<'a> {
    fn of(reports: &[&'a Report]) -> Self {
        let mut by_kind: BTreeMap<&str, u64> = BTreeMap::new();
        for counted in reports.iter().flat_map(|report| &report.commands.rejected) {
            *by_kind.entry(&counted.kind).or_default() += counted.count;
        }
        let mut rejected: Vec<Counted> =
            by_kind.into_iter().map(|(kind, count)| Counted { kind: kind.to_owned(), count }).collect();
        rejected.sort_by_key(|counted| Reverse(counted.count));
        let view = |report: &'a Report| {
            let view = move |command: &'a RejectedCommand| RejectedView { process: &report.name, command };
            report.commands.last_rejected.iter().map(view)
        };
        let mut last_rejected: Vec<RejectedView<'_>> = reports.iter().flat_map(|report| view(report)).collect();
        last_rejected.sort_by_key(|rejected| Reverse(rejected.command.at));
        last_rejected.truncate(MOST_REJECTED);
        let sum = |of: fn(&Report) -> u64| reports.iter().map(|report| of(report)).sum();
        Self {
            sent: sum(|report| report.commands.sent),
            delayed: sum(|report| report.commands.delayed),
            held_up: sum(|report| report.commands.held_up),
            rejected,
            last_rejected,
        }
    }
}

/// The bot's, over all processes.
#[derive(Serialize)]
pub struct IdentifiesView {
    /// How many are left.
    pub remaining: u32,
    /// Of how many.
    pub total: u32,
    /// When they are all there again.
    pub resets_at: u64,
    max_concurrency: u32,
    /// How many shards wait for their turn.
    waiting: u32,
}

impl IdentifiesView {
    /// As those know them who were told of the latest reset, each of which counts it anew from its own clock, and of these who has
    /// seen most of them used: the others count from an earlier time, or have not heard of it.
    pub(super) fn of(whole: &Whole) -> Option<Self> {
        let told =
            || whole.processes.iter().filter(|process| process.answers).filter_map(|process| process.report.identifies);
        let resets_at = told().map(|told| told.resets_at).max()?;
        let of_latest = told().filter(|told| resets_at - told.resets_at <= SAME_RESET_MS);
        let latest = of_latest.min_by_key(|told| (told.remaining, Reverse(told.resets_at)))?;
        Some(Self {
            remaining: latest.remaining,
            total: latest.total,
            resets_at: latest.resets_at,
            max_concurrency: latest.max_concurrency,
            waiting: told().map(|told| told.waiting).sum(),
        })
    }
}

/// Clients of a process that does not answer are connected to another by now, or will be.
fn sum_singyeong(whole: &Whole) -> Option<Singyeong> {
    let served = |process: &Process| Some((process.answers, process.report.singyeong?));
    whole
        .processes
        .iter()
        .filter_map(served)
        .map(
            |(answers, one)| if answers { one } else { Singyeong { set_aside: one.set_aside, ..Singyeong::default() } },
        )
        .reduce(|a, b| Singyeong {
            clients: a.clients + b.clients,
            restricted: a.restricted + b.restricted,
            set_aside: a.set_aside + b.set_aside,
        })
}

fn sum_forwarding(reports: &[&Report]) -> Option<Forwarding> {
    reports.iter().filter_map(|report| report.forwarding).reduce(|a, b| Forwarding {
        sent: a.sent + b.sent,
        sent_again: a.sent_again + b.sent_again,
        covered: a.covered + b.covered,
        set_aside: a.set_aside + b.set_aside,
        no_route: a.no_route + b.no_route,
        unreadable: a.unreadable + b.unreadable,
        connections: a.connections + b.connections,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::seen::simulated;

    fn told(whole: &Whole, before: Option<&Paces>) -> (Value, Paces) {
        let paces = Paces::of(whole, before);
        let (head, tail) = write(whole, &paces);
        let text = [&head[..], br#""all":true,"shards":[],"#, &tail].concat();
        (serde_json::from_slice(&text).expect("JSON"), paces)
    }

    fn report(whole: &mut Whole, process: usize) -> &mut Report {
        Arc::make_mut(&mut whole.processes[process].report)
    }

    #[test]
    fn it_has_these_members() {
        let mut whole = simulated::whole(2, 8);
        report(&mut whole, 1).singyeong = Some(Singyeong { clients: 3, restricted: 1, set_aside: 2 });
        report(&mut whole, 1).forwarding = Some(Forwarding { sent: 5, ..Forwarding::default() });
        let (state, _) = told(&whole, None);
        let members: Vec<&str> = state.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut expected = [
            "at",
            "group",
            "shard_count",
            "here",
            "partial",
            "processes",
            "all",
            "shards",
            "events",
            "publishing",
            "commands",
            "identifies",
            "queues",
            "singyeong",
            "amybot",
            "forwarding",
            "problems",
        ];
        expected.sort_unstable();
        assert_eq!(members, expected);
        assert_eq!(state["group"], "gateway");
        assert_eq!((&state["shard_count"], &state["here"]), (&json!(8), &json!("optic-0.00000000")));
        let process = &state["processes"][1];
        let some = [&process["name"], &process["mode"], &process["shards"], &process["connected"], &process["broker"]];
        assert_eq!(some, [&json!("optic-1"), &json!("leased"), &json!("4-7"), &json!(4), &json!("connected")]);
        assert_eq!(state["partial"], false);
        assert_eq!(state["singyeong"], json!({"clients": 3, "restricted": 1, "set_aside": 2}));
        assert_eq!((&state["amybot"], &state["forwarding"]["sent"]), (&json!(false), &json!(5)));
        assert_eq!(state["identifies"]["remaining"], 992);
        let rejected = &state["commands"]["last_rejected"][0];
        let expected = json!({"at": simulated::BEGAN + 60_000, "process": "optic-1", "source": "gateway:SEND",
            "kind": "forbidden_op", "reason": "op 2 is Optic's own to send", "bytes": 120});
        assert_eq!(rejected, &expected);
    }

    #[test]
    fn counts_are_summed_and_queues_are_not() {
        let mut whole = simulated::whole(2, 8);
        let of = |whole: &Whole, process: usize| whole.processes[process].report.publishing.expect("it publishes");
        let confirmed = of(&whole, 0).confirmed + of(&whole, 1).confirmed;
        report(&mut whole, 1).publishing.as_mut().expect("it publishes").latency_ms = Some(70.04);
        report(&mut whole, 1).events[2].fate = Fate::NotListed;
        report(&mut whole, 1).at += 1;
        report(&mut whole, 1).queues[0].messages = 99;
        let (state, _) = told(&whole, None);
        assert_eq!(
            (&state["publishing"]["confirmed"], &state["publishing"]["latency_ms"]),
            (&json!(confirmed), &json!(70))
        );
        assert_eq!(state["commands"]["rejected"], json!([{"kind": "forbidden_op", "count": 2}]));
        let events = state["events"].as_array().expect("a list");
        let rates: Vec<f64> = events.iter().map(|event| event["rate"].as_f64().expect("a number")).collect();
        assert!(rates.is_sorted_by(|a, b| a >= b), "{rates:?}");
        let event = |name: &str| events.iter().find(|event| event["name"] == name).expect("it is told");
        assert_eq!(event("MESSAGE_CREATE")["fate"], "published", "by one of them");
        let received = whole.processes.iter().map(|process| process.report.events[2].received).sum::<u64>();
        assert_eq!(event("MESSAGE_CREATE")["received"], received);
        assert_eq!((&event("GUILD_CREATE")["messages"], &event("GUILD_CREATE")["consumers"]), (&json!(99), &json!(4)));
        assert_eq!(event("TYPING_START")["messages"], Value::Null);
    }

    #[test]
    fn what_is_of_now_is_of_those_who_answer() {
        let mut whole = simulated::whole(2, 8);
        let (all, _) = told(&whole, None);
        report(&mut whole, 0).events[2].fate = Fate::NoQueue;
        whole.processes[1].answers = false;
        let (state, _) = told(&whole, None);
        let event = |state: &Value| {
            let events = state["events"].as_array().expect("a list");
            events.iter().find(|event| event["name"] == "MESSAGE_CREATE").expect("it is told").clone()
        };
        let rate = super::super::shards::tenths(whole.processes[0].report.events[2].rate.into());
        assert_eq!(event(&state)["rate"], json!(rate));
        assert_eq!(event(&state)["received"], event(&all)["received"]);
        assert_eq!(event(&state)["fate"], "no_queue", "who answers says so");
        let over = |state: &Value| (state["publishing"]["of"].clone(), state["publishing"]["processes"].clone());
        assert_eq!((over(&all), over(&state)), ((json!(2), json!(2)), (json!(1), json!(2))));
        let own = whole.processes[0].report.publishing.expect("it publishes").unconfirmed;
        assert_eq!(state["publishing"]["unconfirmed"], own);
    }

    #[test]
    fn identifies_are_as_who_saw_most_of_them_used_knows_them() {
        let mut whole = simulated::whole(3, 8);
        let reset = whole.processes[0].report.identifies.expect("it has a bot").resets_at;
        // The later one is so by a breath, and has not heard of what was used since; the last counts from the day before.
        for (process, jitter, remaining) in [(0, 0, 900), (1, 7, 990), (2, -86_400_000, 3)] {
            let identifies = report(&mut whole, process).identifies.as_mut().expect("it has a bot");
            identifies.resets_at = reset.checked_add_signed(jitter).expect("after 1970");
            identifies.remaining = remaining;
        }
        assert_eq!(told(&whole, None).0["identifies"]["remaining"], 900);
    }

    #[test]
    fn publishing_is_as_fast_as_confirms_come() {
        let whole = simulated::whole(1, 8);
        let (state, paces) = told(&whole, None);
        assert_eq!(state["publishing"]["rate"], Value::Null, "of one report");
        let mut later = whole.clone();
        let confirmed = report(&mut later, 0);
        confirmed.at += 2000;
        confirmed.publishing.as_mut().expect("it publishes").confirmed += 500;
        let (state, paces) = told(&later, Some(&paces));
        assert_eq!(state["publishing"]["rate"], 250);
        // No newer report: as before.
        assert_eq!(told(&later, Some(&paces)).0["publishing"]["rate"], 250);
        // Begun anew, it counts from nothing.
        let before = report(&mut later, 0);
        before.at += 2000;
        before.publishing.as_mut().expect("it publishes").confirmed = 0;
        assert_eq!(told(&later, Some(&paces)).0["publishing"]["rate"], 0);
    }
}
