use super::*;
use crate::singyeong::ids::Application;

const PARKED_FOR: Duration = Duration::from_secs(1);

/// Who is meant is the client's id; another process has "elsewhere".
struct Names;

impl Clients<&'static str> for Names {
    fn matches(&self, target: &&'static str, key: &ClientKey) -> bool {
        key.client.as_str() == *target
    }

    fn elsewhere(&self, target: &&'static str, _: &Source) -> Option<NodeId> {
        (*target == "elsewhere").then(|| NodeId::of_run("other", 1))
    }
}

struct Bench {
    core: Core<&'static str>,
    now: Instant,
}

impl Bench {
    fn new(most: Most) -> Self {
        let bounds = Bounds { acknowledgement: Duration::from_secs(15), parked_for: PARKED_FOR, most };
        Self { core: Core::new(bounds), now: Instant::now() }
    }

    fn roomy() -> Self {
        Self::new(Most { of_one: 8, messages: 8, bytes: 1_000 })
    }

    fn request(&mut self, client: &str, connection: u64, of: &str) {
        let key = ClientKey::new("app", client);
        self.core.request(&key, ConnectionId::new(connection), &queue(of), self.now, &Names);
    }

    fn arrive(&mut self, number: u64, of: &str, target: &'static str, size: usize, forwarded: bool) {
        let (number, id) = (Number(number), number.to_string().into());
        let arrival = Arrival { number, source: source(of), id, target: Some(target), size, forwarded };
        self.core.arrived(arrival, self.now, &Names);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.core.handle_timeout(self.now);
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.core.poll_action()).collect()
    }

    /// What is wanted of a queue, and that it was told.
    fn demand(&mut self, of: &str) -> usize {
        let touched: Vec<_> = std::iter::from_fn(|| self.core.poll_touched()).collect();
        assert!(touched.contains(&source(of)), "{touched:?}");
        self.core.demand(&source(of))
    }
}

fn queue(name: &str) -> QueueName {
    QueueName(name.into())
}

fn source(of: &str) -> Source {
    Source { application: Some(Application::new("app")), queue: queue(of) }
}

fn deliver(number: u64, client: &str, connection: u64) -> Action {
    let to = Waiting { key: ClientKey::new("app", client), connection: ConnectionId::new(connection) };
    Action::Deliver(Number(number), to)
}

#[test]
fn what_nobody_here_matches_is_parked_and_goes_to_the_tail() {
    let mut bench = Bench::roomy();
    bench.request("a", 1, "q");
    bench.arrive(0, "q", "b", 1, false);
    assert_eq!((bench.actions(), bench.demand("q")), (vec![], 1));
    assert_eq!(bench.core.deadline(), Some(bench.now + PARKED_FOR));
    bench.pass(PARKED_FOR);
    assert_eq!(bench.actions(), [Action::ToTail(Number(0))]);
    bench.pass(PARKED_FOR * 100);
    assert_eq!(bench.actions(), [], "once");
}

#[test]
fn whoever_asks_next_and_matches_receives_what_is_parked_the_oldest_first() {
    let mut bench = Bench::roomy();
    bench.request("a", 1, "q");
    bench.arrive(0, "q", "b", 1, false);
    bench.arrive(1, "q", "b", 1, false);
    for number in 0..2 {
        bench.request("b", 2, "q");
        assert_eq!(bench.actions(), [deliver(number, "b", 2)]);
    }
    bench.request("b", 2, "q");
    assert_eq!(bench.actions(), []);
}

#[test]
fn what_is_parked_goes_back_to_its_place_when_nobody_asks_any_more() {
    let mut bench = Bench::roomy();
    bench.request("a", 1, "q");
    bench.arrive(0, "q", "b", 1, false);
    bench.core.cancel(ConnectionId::new(1), &queue("q"));
    bench.pass(PARKED_FOR);
    assert_eq!(bench.actions(), [Action::GiveBack(Number(0))]);
}

#[test]
fn where_a_queue_is_full_no_more_of_it_is_wanted_until_a_message_is_at_its_tail() {
    let mut bench = Bench::new(Most { of_one: 2, messages: 8, bytes: 1_000 });
    bench.request("a", 1, "q");
    bench.request("a", 1, "r");
    bench.arrive(0, "q", "b", 1, false);
    assert_eq!(bench.demand("q"), 1);
    bench.arrive(1, "q", "b", 1, false);
    assert_eq!((bench.demand("q"), bench.core.demand(&source("r"))), (0, 1));
    // What was on its way nevertheless.
    bench.arrive(2, "q", "b", 1, false);
    assert_eq!(bench.actions(), [Action::ToTail(Number(2))]);
    bench.pass(PARKED_FOR);
    assert_eq!(bench.actions(), [Action::ToTail(Number(0)), Action::ToTail(Number(1))]);
    assert_eq!(bench.core.demand(&source("q")), 0, "none is at the tail yet");
    bench.core.settled(Number(2));
    assert_eq!(bench.demand("q"), 0);
    bench.core.settled(Number(0));
    assert_eq!(bench.demand("q"), 1);
}

#[test]
fn where_all_is_full_no_more_of_any_queue_is_wanted() {
    for most in [Most { of_one: 8, messages: 2, bytes: 1_000 }, Most { of_one: 8, messages: 8, bytes: 20 }] {
        let mut bench = Bench::new(most);
        bench.request("a", 1, "q");
        bench.request("a", 1, "r");
        bench.arrive(0, "q", "b", 10, false);
        assert_eq!(bench.demand("r"), 1);
        bench.arrive(1, "q", "b", 10, false);
        assert_eq!(bench.demand("r"), 0);
        bench.request("b", 2, "q");
        assert_eq!(bench.actions(), [deliver(0, "b", 2)]);
        assert_eq!(bench.demand("r"), 1, "a client has it");
    }
}

#[test]
fn what_somebody_elsewhere_wants_is_forwarded_and_only_so_fast() {
    let mut bench = Bench::new(Most { of_one: 1, messages: 8, bytes: 1_000 });
    bench.request("a", 1, "q");
    bench.arrive(0, "q", "elsewhere", 1, false);
    assert_eq!(bench.actions(), [Action::Forward(Number(0), NodeId::of_run("other", 1))]);
    bench.core.settled(Number(0));
    assert_eq!(bench.demand("q"), 0);
    bench.pass(PARKED_FOR);
    assert_eq!((bench.actions(), bench.demand("q")), (vec![], 1));
}

#[test]
fn what_was_forwarded_waits_here_and_is_never_given_back() {
    let mut bench = Bench::roomy();
    bench.arrive(0, "q", "a", 1, true);
    bench.arrive(1, "q", "elsewhere", 1, true);
    assert_eq!(bench.actions(), [], "not forwarded again");
    bench.request("a", 1, "q");
    assert_eq!(bench.actions(), [deliver(0, "a", 1)]);
    bench.core.gone(ConnectionId::new(1));
    bench.pass(PARKED_FOR);
    assert_eq!(bench.actions(), [Action::ToTail(Number(0)), Action::ToTail(Number(1))]);
}

#[test]
fn who_did_not_receive_asks_for_nothing_any_more() {
    let mut bench = Bench::roomy();
    bench.request("a", 1, "q");
    bench.request("a", 1, "r");
    bench.arrive(0, "q", "a", 1, false);
    bench.core.not_written(Number(0));
    assert_eq!(bench.actions(), [deliver(0, "a", 1), Action::GiveBack(Number(0))]);
    assert_eq!((bench.demand("q"), bench.core.demand(&source("r"))), (0, 0));
    bench.core.not_written(Number(0));
    bench.core.gone(ConnectionId::new(1));
    bench.core.acknowledge(ConnectionId::new(1), &queue("q"), "0");
    assert_eq!(bench.actions(), [], "given back once");
}
