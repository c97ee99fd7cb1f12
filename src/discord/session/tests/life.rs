//! A connection from its beginning to READY: spec/discord.md, "Life of a connection".

use super::*;

#[test]
fn a_new_session_connects_waits_for_hello_and_its_turn_identifies_and_is_started_by_ready() {
    let mut shard = Scenario::fresh();
    shard.accept();
    shard.did_only([TO_GATEWAY]);
    shard.hello();
    shard.did_only([Did::AskIdentify]);
    shard.session.identify_granted(shard.now);
    shard.did_only([Did::Identify]);
    shard.ready("first");
    shard.did_only([Did::Started("first"), Did::Store]);
    assert_eq!((shard.session.state(), &shard.old), (State::Connected, &None));
    shard.event(2, "GUILD_CREATE");
    shard.did_only([]);
}

#[test]
fn a_stored_session_is_resumed_at_its_own_address_without_a_turn() {
    let mut shard = Scenario::with_stored();
    shard.accept();
    shard.did_only([TO_RESUME]);
    shard.hello();
    shard.did_only([Did::Resume("stored", 40)]);
    shard.event(41, "MESSAGE_CREATE");
    shard.did_only([]);
    shard.event(42, "RESUMED");
    shard.did_only([Did::Resumed, Did::Store]);
    assert_eq!(shard.session.state(), State::Connected);
}

#[test]
fn a_stored_session_of_another_shard_count_intents_or_layout_is_not_tried_and_told_as_a_gap() {
    let others = [
        StoredSession { shard_count: 8, ..record() },
        StoredSession { intents: Intents::GUILDS, ..record() },
        StoredSession { version: StoredSession::VERSION + 1, ..record() },
        StoredSession { shard_id: crate::discord::ids::ShardId::new(4), ..record() },
    ];
    for other in others {
        let mut shard = Scenario::new(settings(), Some(other)).connects().greeted();
        shard.did_only([TO_GATEWAY, Did::AskIdentify]);
        shard.session.identify_granted(shard.now);
        shard.ready("first");
        shard.did_only([Did::Identify, Did::Started("first"), Did::Store]);
        let old = OldSession {
            session: SessionId::new("stored"),
            stored: Seq::new(40),
            last_sign: LastSign::Stored(1_000),
            reason: GapReason::SessionNotUsable,
        };
        assert_eq!(shard.old, Some(old));
    }
}

#[test]
fn a_connection_that_does_not_open_or_stays_without_hello_is_given_up() {
    let mut shard = Scenario::fresh();
    shard.after(CONNECT_TIMEOUT - SECOND);
    shard.did_only([TO_GATEWAY]);
    shard.after(SECOND);
    shard.did_only([Did::Close, dropped(Cause::ConnectTimeout, Resumes::Nothing), TO_GATEWAY]);

    let mut shard = Scenario::awaiting_hello();
    shard.after(HELLO_TIMEOUT - SECOND);
    shard.did_only([]);
    shard.after(SECOND);
    shard.did_only([Did::Close, dropped(Cause::HelloTimeout, Resumes::Nothing), TO_GATEWAY]);
}

#[test]
fn ready_may_be_long_in_coming_while_heartbeats_go_on() {
    let mut shard = Scenario::identifying();
    shard.after(10 * INTERVAL);
    assert_eq!(shard.did(), vec![Did::Heartbeat(None); 10]);
    assert_eq!(shard.session.state(), State::Identifying);
}

#[test]
fn whoever_waits_for_a_turn_heartbeats_and_withdraws_when_the_connection_goes() {
    let mut shard = Scenario::awaiting_identify();
    shard.after(2 * INTERVAL);
    shard.did_only([Did::Heartbeat(None), Did::Heartbeat(None)]);
    shard.closed(None);
    shard.did_only([Did::WithdrawIdentify, dropped(Cause::Lost, Resumes::Nothing)]);
    shard.session.identify_granted(shard.now); // too late
    shard.did_only([]);
}

#[test]
fn events_before_ready_are_malformed_and_those_after_the_end_are_stale() {
    for mut shard in [Scenario::awaiting_hello(), Scenario::awaiting_identify(), Scenario::identifying()] {
        let error = shard.session.dispatch(Seq::new(1), "MESSAGE_CREATE", b"{}", shard.now);
        assert_eq!(error, Err(MalformedPacket::BeforeReady("MESSAGE_CREATE".to_owned())));
        shard.session.broken("MESSAGE_CREATE came before READY", shard.now);
        let stale = shard.session.dispatch(Seq::new(2), "MESSAGE_CREATE", b"{}", shard.now);
        assert_eq!(stale, Ok(Dispatched::Stale));
    }
}

#[test]
fn numbers_with_gaps_and_replays_keep_the_highest() {
    let mut shard = Scenario::connected_at(1);
    for seq in [2, 5, 3] {
        shard.event(seq, "TYPING_START");
    }
    assert_eq!(shard.session.received(), Seq::new(5));
}

#[test]
fn what_cannot_be_read_costs_the_connection_and_not_the_session() {
    let mut shard = Scenario::connected_at(6);
    shard.session.broken("not zlib", shard.now);
    let cause = Cause::Broken("not zlib".to_owned());
    shard.did_only([Did::Close, Did::Store, dropped(cause, Resumes::Session)]);
    shard.after(AT_ONCE);
    shard.did_only([TO_RESUME]);
}
