//! What a process promises the others, and its shards.

use super::model::World;
use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// One process, watched closely.
struct One {
    member: Member,
    now: Instant,
}

impl One {
    fn new(want: Want, running: &[u32]) -> Self {
        let settings = Settings {
            node: NodeId::of_run("ours", 1),
            name: "ours".to_owned(),
            shard_count: 4,
            generation: 1,
            want,
            running: shards(running).into_iter().collect(),
        };
        let now = Instant::now();
        Self { member: Member::new(settings, now), now }
    }

    /// One that shares, alone, with all four shards.
    fn with_all() -> Self {
        let mut one = Self::new(Want::Fair, &[]);
        one.member.connected(one.now);
        one.passes(SETTLE);
        one.did();
        one.member.acquired(&shards(&[0, 1, 2, 3]), &[], one.now);
        assert_eq!(one.did(), [&[0, 1, 2, 3].map(|id| Action::Start(ShardId::new(id)))[..], &[]].concat());
        one
    }

    /// One that must have these, and has them.
    fn with_these(ids: &[u32]) -> Self {
        let mut one = Self::new(these(ids), &[]);
        one.member.connected(one.now);
        one.member.acquired(&shards(ids), &[], one.now);
        one.passes(SETTLE);
        one.did();
        one
    }

    fn passes(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.member.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.member.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn hears(&mut self, said: Announcement) {
        self.member.heard(said, self.now);
    }

    /// All actions since the last look, but what is said to others, to the log and about whom to watch.
    fn did(&mut self) -> Vec<Action> {
        let plain = |action: &Action| !matches!(action, Action::Announce(_) | Action::Notice(_) | Action::Watch(_));
        self.all().into_iter().filter(plain).collect()
    }

    fn noticed(&mut self) -> Vec<String> {
        let text = |action| if let Action::Notice(notice) = action { Some(notice.to_string()) } else { None };
        self.all().into_iter().filter_map(text).collect()
    }

    fn announced(&mut self) -> Vec<Announcement> {
        let said = |action| if let Action::Announce(said) = action { Some(said) } else { None };
        self.all().into_iter().filter_map(said).collect()
    }

    fn all(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.member.poll_action()).collect()
    }
}

fn shards(ids: &[u32]) -> Vec<ShardId> {
    ids.iter().copied().map(ShardId::new).collect()
}

fn these(ids: &[u32]) -> Want {
    Want::These(shards(ids).into_iter().collect())
}

fn acquire(ids: &[u32]) -> Action {
    Action::Acquire(shards(ids))
}

fn start(id: u32) -> Action {
    Action::Start(ShardId::new(id))
}

fn stop(id: u32) -> Action {
    Action::Stop(ShardId::new(id))
}

fn release(id: u32) -> Action {
    Action::Release(ShardId::new(id))
}

fn abandon(id: u32) -> Action {
    Action::Abandon(ShardId::new(id))
}

fn theirs(ids: &[u32], sequence: u64) -> Announcement {
    Announcement {
        node: NodeId::of_run("theirs", 2),
        name: "theirs".to_owned(),
        mode: Mode::Leased,
        shard_count: 4,
        generation: 1,
        owned: shards(ids).into_iter().collect(),
        leaving: false,
        hello: false,
        settling: false,
        sequence,
    }
}

#[test]
fn one_that_shares_listens_before_it_takes() {
    let mut one = One::new(Want::Fair, &[]);
    assert_eq!(one.all(), []);
    one.member.connected(one.now);
    let said = one.announced();
    assert!(matches!(&said[..], [first] if first.hello && first.settling && first.owned.is_empty()), "{said:?}");
    one.hears(theirs(&[0, 1], 1));
    one.passes(SETTLE - MILLISECOND);
    assert_eq!(one.did(), []);
    one.passes(MILLISECOND);
    assert_eq!(one.did(), [acquire(&[2, 3])]);
    one.passes(COALESCE);
    let said = one.announced();
    assert!(matches!(&said[..], [next] if !next.hello && !next.settling), "{said:?}");
}

#[test]
fn one_that_must_have_its_shards_asks_at_once_and_again() {
    let mut one = One::new(these(&[1, 2]), &[]);
    one.member.connected(one.now);
    assert_eq!(one.did(), [acquire(&[1, 2]), Action::Certain(true)]);
    one.member.acquired(&shards(&[1]), &shards(&[2]), one.now);
    assert_eq!(one.did(), [start(1)]);
    one.passes(500 * MILLISECOND - MILLISECOND);
    assert_eq!(one.did(), []);
    one.passes(MILLISECOND);
    assert_eq!(one.did(), [acquire(&[2])]);
}

#[test]
fn who_holds_a_shard_is_told_once_and_again_each_minute() {
    let mut one = One::new(these(&[1, 2]), &[]);
    one.member.connected(one.now);
    one.hears(theirs(&[2], 1));
    one.all();
    let mut told = Vec::new();
    for second in 0..125 {
        one.member.acquired(&[], &shards(&[1, 2]), one.now);
        one.passes(SECOND);
        let sequence = 2 + second;
        one.hears(theirs(&[2], sequence));
        told.extend(one.noticed().into_iter().filter(|text| text.contains("held")).map(|text| (second, text)));
    }
    let expected = [1, 61, 121].map(|second| {
        let nameless = "shard 1 is held by a consumer that does not announce itself; waiting until it is gone";
        [(second, nameless.to_owned()), (second, "shard 2 is held by theirs; waiting until it is gone".to_owned())]
    });
    assert_eq!(told, expected.concat());
}

#[test]
fn a_shard_that_its_holder_gives_back_is_asked_for_at_once() {
    for gone in [false, true] {
        let mut one = One::new(these(&[2]), &[]);
        one.member.connected(one.now);
        one.hears(theirs(&[2], 1));
        one.member.acquired(&[], &shards(&[2]), one.now);
        one.all();
        if gone {
            one.member.gone(&theirs(&[], 2).node, one.now)
        } else {
            one.hears(theirs(&[], 2))
        }
        one.passes(COALESCE);
        assert_eq!(one.did(), [acquire(&[2])]);
    }
}

#[test]
fn doubt_closes_the_fence_before_anything_else_is_done() {
    let mut one = One::with_all();
    one.member.disconnected(one.now);
    assert_eq!(one.all()[0], Action::Certain(false));
    assert_eq!(one.member.deadline(), None, "nothing is to be done without a connection");
}

#[test]
fn after_a_loss_former_shards_are_asked_for_at_once_and_the_fence_opens_when_all_are_decided() {
    let mut one = One::with_all();
    one.member.disconnected(one.now);
    one.all();
    one.passes(3 * SECOND);
    one.member.connected(one.now);
    let all = one.all();
    assert!(
        matches!(&all[0], Action::Announce(said) if said.hello && said.owned.len() == 4),
        "it claims them: {all:?}"
    );
    assert_eq!(all[1..], [acquire(&[0, 1, 2, 3])]);
    one.member.acquired(&shards(&[0, 2]), &shards(&[1]), one.now);
    assert_eq!(one.did(), [abandon(1)], "one is not decided");
    one.passes(250 * MILLISECOND);
    assert_eq!(one.did(), [acquire(&[3])]);
    one.member.acquired(&[], &shards(&[3]), one.now);
    assert_eq!(one.did(), [abandon(3), Action::Certain(true)]);
}

#[test]
fn shards_that_ran_before_there_was_a_cluster_are_asked_for_first() {
    let mut one = One::new(Want::Fair, &[1, 3]);
    one.member.connected(one.now);
    assert_eq!(one.did(), [acquire(&[1, 3])]);
    one.member.acquired(&shards(&[1, 3]), &[], one.now);
    assert_eq!(one.did(), [Action::Certain(true)], "they run already");
}

#[test]
fn an_answer_on_a_lost_connection_is_no_lease() {
    let mut one = One::new(these(&[1]), &[]);
    one.member.connected(one.now);
    one.all();
    one.member.disconnected(one.now);
    assert_eq!(one.did(), [Action::Certain(false)]);
    one.member.connected(one.now);
    assert_eq!(one.did(), [Action::Certain(true)], "nothing runs, but the answer is still to come");
    one.member.acquired(&shards(&[1]), &[], one.now);
    assert_eq!(one.did(), [acquire(&[1])]);
}

#[test]
fn a_single_lease_that_is_lost_is_asked_for_again_before_anything_is_published() {
    let mut one = One::with_all();
    one.all();
    one.member.lease_lost(&shards(&[2]), one.now);
    assert_eq!(one.did(), [Action::Certain(false), acquire(&[2])]);
    one.member.acquired(&shards(&[2]), &[], one.now);
    assert_eq!(one.did(), [Action::Certain(true)]);
}

#[test]
fn surplus_goes_one_by_one_and_no_lease_goes_before_its_driver_has_ended() {
    let mut one = One::with_all();
    one.hears(theirs(&[], 1));
    one.passes(COALESCE);
    assert_eq!(one.did(), [stop(3)]);
    one.passes(10 * SECOND);
    assert_eq!(one.did(), [], "its driver takes its time");
    one.hears(theirs(&[], 2));
    one.member.stopped(ShardId::new(3), one.now);
    assert_eq!(one.did(), [release(3)]);
    one.member.released(ShardId::new(3), one.now);
    one.passes(COALESCE);
    let said = one.announced();
    assert_eq!(said.last().expect("it is told").owned, shards(&[0, 1, 2]).into_iter().collect());
    one.hears(theirs(&[3], 3));
    one.passes(COALESCE);
    assert_eq!(one.did(), [stop(2)]);
}

#[test]
fn nothing_more_is_given_to_one_that_shows_no_sign_of_life() {
    let mut one = One::with_all();
    one.hears(theirs(&[], 1));
    one.passes(COALESCE);
    one.member.stopped(ShardId::new(3), one.now);
    one.member.released(ShardId::new(3), one.now);
    one.passes(9 * SECOND);
    assert_eq!(one.did(), [stop(3), release(3)]);
    one.passes(4 * SECOND);
    assert_eq!(one.did(), [acquire(&[3])], "it is silent for too long: back to us");
}

#[test]
fn nothing_is_given_to_one_that_still_listens() {
    let mut one = One::with_all();
    one.hears(Announcement { settling: true, hello: true, ..theirs(&[], 1) });
    one.passes(SECOND);
    assert_eq!(one.did(), []);
    one.hears(theirs(&[], 2));
    one.passes(COALESCE);
    assert_eq!(one.did(), [stop(3)]);
}

#[test]
fn hello_is_answered_and_own_or_old_announcements_change_nothing() {
    let mut one = One::with_all();
    one.passes(SECOND);
    one.all();
    one.hears(Announcement { hello: true, ..theirs(&[], 5) });
    one.passes(LONGEST_ANSWER);
    assert_eq!(one.announced().len(), 1);
    one.hears(Announcement { leaving: true, ..theirs(&[0], 4) });
    one.hears(Announcement { node: NodeId::of_run("ours", 1), ..theirs(&[0], 9) });
    one.passes(SECOND);
    assert_eq!(one.all(), []);
}

#[test]
fn another_count_is_told_and_its_shards_are_not_touched() {
    let mut one = One::new(Want::Fair, &[]);
    one.member.connected(one.now);
    one.hears(Announcement { shard_count: 2, ..theirs(&[0, 1], 1) });
    one.hears(Announcement { shard_count: 2, ..theirs(&[0, 1], 2) });
    let text = "theirs (theirs.00000002) runs another count: 2 shards there, 4 here; it is not counted";
    assert_eq!(one.noticed(), [text]);
    one.passes(SETTLE);
    assert_eq!(one.did(), [acquire(&[2, 3])]);
}

#[test]
fn another_version_is_told_once() {
    let mut one = One::with_all();
    for version in [2, 2, 3, 2] {
        one.member.unreadable(&AnnouncementError::OtherVersion(version), one.now);
    }
    assert_eq!(one.noticed().len(), 2);
}

#[test]
fn a_shard_that_discord_refuses_keeps_its_lease_and_is_not_started_again() {
    let mut one = One::with_these(&[1, 2]);
    one.member.ended(ShardId::new(2), one.now);
    one.passes(SECOND);
    assert_eq!(one.did(), []);
    one.member.disconnected(one.now);
    one.member.connected(one.now);
    assert_eq!(one.did(), [Action::Certain(false), acquire(&[1])]);
    one.member.acquired(&shards(&[1]), &[], one.now);
    assert_eq!(one.did(), [acquire(&[2]), Action::Certain(true)]);
    one.member.acquired(&shards(&[2]), &[], one.now);
    assert_eq!(one.did(), []);
    one.member.leave(one.now);
    assert_eq!(one.did(), [stop(1), release(2)]);
}

#[test]
fn a_shard_that_discord_refused_here_and_another_process_has_is_out_of_sight() {
    let mut one = One::with_these(&[1, 2]);
    one.member.ended(ShardId::new(2), one.now);
    one.member.lease_lost(&shards(&[2]), one.now);
    one.passes(SECOND);
    assert_eq!(one.did(), [acquire(&[2])]);
    one.member.acquired(&[], &shards(&[2]), one.now);
    assert_eq!(one.did(), [], "our own former connection may have it");
    one.hears(theirs(&[2], 1));
    assert_eq!(one.did(), [Action::Forget(ShardId::new(2))]);
    // It comes back, and may be run again.
    one.passes(SECOND);
    assert_eq!(one.did(), [acquire(&[2])]);
    one.member.acquired(&shards(&[2]), &[], one.now);
    assert_eq!(one.did(), [start(2)]);
}

#[test]
fn one_that_leaves_says_so_first_stops_all_and_says_goodbye_last() {
    let mut one = One::with_these(&[1, 2]);
    one.member.leave(one.now);
    let all = one.all();
    assert_eq!(all[..2], [stop(1), stop(2)]);
    assert!(matches!(&all[2..], [Action::Announce(said)] if said.leaving && said.owned.len() == 2), "{all:?}");
    one.member.stopped(ShardId::new(2), one.now);
    assert_eq!(one.did(), [release(2)]);
    one.member.released(ShardId::new(2), one.now);
    one.member.stopped(ShardId::new(1), one.now);
    one.member.released(ShardId::new(1), one.now);
    let all = one.all();
    assert_eq!(all[0], release(1));
    assert!(matches!(&all[1..], [Action::Announce(said), Action::Left] if said.is_goodbye()), "{all:?}");
    assert_eq!(one.member.deadline(), None);
    one.member.connected(one.now);
    assert_eq!(one.all(), []);
}

#[test]
fn one_that_leaves_without_a_broker_does_not_wait_for_it() {
    let mut one = One::with_these(&[1]);
    one.member.leave(one.now);
    one.all();
    one.member.disconnected(one.now);
    assert_eq!(one.did(), [Action::Certain(false), abandon(1)]);
    one.member.stopped(ShardId::new(1), one.now);
    assert_eq!(one.all(), [Action::Left]);

    let mut one = One::new(Want::Fair, &[]);
    one.member.leave(one.now);
    assert_eq!(one.all(), [Action::Left]);
}

#[test]
fn a_lease_that_is_granted_to_one_that_leaves_goes_back() {
    let mut one = One::new(these(&[1]), &[]);
    one.member.connected(one.now);
    one.member.leave(one.now);
    one.all();
    one.member.acquired(&shards(&[1]), &[], one.now);
    assert_eq!(one.did(), [release(1)]);
    one.member.released(ShardId::new(1), one.now);
    assert_eq!(one.did(), [Action::Left]);
}

#[test]
fn one_that_slept_listens_before_it_acts_on_what_it_knew() {
    let mut one = One::with_all();
    one.hears(theirs(&[], 1));
    one.all();
    one.now += 20 * SECOND;
    one.member.handle_timeout(one.now);
    let all = one.all();
    assert!(matches!(&all[..], [Action::Announce(said)] if said.hello && said.settling), "{all:?}");
    one.passes(SETTLE);
    assert_eq!(one.did(), [stop(3)], "the other is not silent: we were");
}

// ---- several ----

fn start_together(world: &mut World, processes: usize) {
    for _ in 0..processes {
        world.join(Want::Fair);
    }
}

#[test]
fn processes_that_start_together_share_before_they_run_anything() {
    let mut world = World::new(64, 7);
    start_together(&mut world, 3);
    world.pass(3000);
    assert!(world.is_fair(), "{:?}", world.counts());
    assert_eq!(world.total(|process| process.starts), 64, "none was started twice");
}

#[test]
fn what_a_crashed_process_ran_runs_elsewhere_within_three_seconds() {
    let mut world = World::new(64, 7);
    start_together(&mut world, 3);
    world.pass(5000);
    world.crash(1);
    world.pass(3000);
    assert!(world.is_fair(), "{:?}", world.counts());
}

#[test]
fn what_a_leaving_process_ran_runs_elsewhere_within_a_second() {
    let mut world = World::new(64, 7);
    start_together(&mut world, 3);
    world.pass(5000);
    world.leave(1);
    world.pass(1000);
    assert_eq!(world.alive(), [0, 2]);
    assert!(world.is_fair(), "{:?}", world.counts());
}

#[test]
fn a_thousand_shards_and_fifty_processes_come_to_rest_with_few_words() {
    let mut world = World::new(1000, 7);
    start_together(&mut world, 50);
    world.pass(5000);
    assert_eq!(world.counts(), [20; 50]);
    let most = world.processes.iter().map(|process| process.announced).max();
    assert!(most <= Some(12), "{most:?} announcements of one");
}
