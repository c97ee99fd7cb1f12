//! spec/discord.md, "Heartbeats" and "Three sequence numbers".

use super::*;

#[test]
fn heartbeats_carry_the_stored_number_and_never_the_received_one() {
    let mut shard = Scenario::connected_at(6);
    shard.event(7, "TYPING_START");
    shard.event(8, "TYPING_START");
    shard.after(INTERVAL);
    shard.did_only([Did::Store, Did::Heartbeat(Some(6))]);
    let store = shard.session.deadline().expect("a store");
    shard.after(store - shard.now);
    shard.stores("first", 8);
    shard.after(2 * SECOND);
    shard.did_only([Did::Store, Did::Heartbeat(Some(8))]);
}

#[test]
fn the_store_is_asked_for_two_seconds_before_the_heartbeat_that_will_not_wait_for_it() {
    let mut shard = Scenario::connected_at(6);
    let store = shard.session.deadline().expect("a store");
    shard.after(store - shard.now);
    shard.did_only([Did::Store]);
    assert_eq!(shard.session.deadline(), Some(store + 2 * SECOND));
    shard.after(2 * SECOND);
    shard.did_only([Did::Heartbeat(Some(6))]);
}

#[test]
fn before_anything_is_stored_heartbeats_carry_null() {
    let mut shard = Scenario::identifying();
    shard.ready("first");
    shard.event(2, "GUILD_CREATE");
    shard.packet(1, "null");
    shard.did_only([Did::Started("first"), Did::Store, Did::Heartbeat(None)]);
}

#[test]
fn a_number_stored_for_another_session_or_late_changes_nothing() {
    let mut shard = Scenario::connected_at(6);
    shard.stores("second", 90);
    shard.stores("first", 5);
    shard.packet(1, "");
    shard.did_only([Did::Heartbeat(Some(6))]);
}

#[test]
fn resumes_carry_the_stored_number_as_it_is_when_hello_comes() {
    let mut shard = Scenario::connected_at(6);
    shard.event(9, "TYPING_START");
    shard.closed(None);
    shard.accept();
    shard.did_only([Did::Store, dropped(Cause::Lost, Resumes::Session), TO_RESUME]);
    shard.stores("first", 8);
    shard.hello();
    shard.did_only([Did::Resume("first", 8)]);
}

#[test]
fn a_session_of_which_nothing_is_stored_is_resumed_from_zero_and_its_ready_comes_again() {
    let mut shard = Scenario::identifying();
    shard.ready("first");
    shard.closed(None);
    shard = shard.connects().greeted().quiet();
    shard.closed(None);
    shard.after_its_wait();
    shard = shard.connects().quiet();
    shard.hello();
    shard.did_only([Did::Resume("first", 0)]);
    shard.ready("first");
    shard.event(2, "RESUMED");
    shard.did_only([Did::Resumed, Did::Store]);
}

#[test]
fn silence_between_two_heartbeats_is_the_end_of_the_connection_and_not_of_the_session() {
    let mut shard = Scenario::connected_at(6);
    shard.discord_falls_silent();
    shard.after(INTERVAL);
    shard.did_only([Did::Store, Did::Heartbeat(Some(6))]);
    shard.after(INTERVAL);
    shard.did_only([Did::Store, Did::Close, Did::Store, dropped(Cause::Zombie, Resumes::Session), TO_RESUME]);
}

#[test]
fn any_packet_is_a_sign_of_life() {
    let signs: [fn(&mut Scenario); 3] =
        [|shard| shard.event(7, "TYPING_START"), |shard| shard.packet(11, ""), |shard| shard.packet(99, "{}")];
    for sign in signs {
        let mut shard = Scenario::connected_at(6);
        shard.discord_falls_silent();
        shard.after(INTERVAL);
        sign(&mut shard);
        shard.after(INTERVAL);
        shard.did_only([Did::Store, Did::Heartbeat(Some(6)), Did::Store, Did::Heartbeat(Some(6))]);
    }
}

#[test]
fn while_reading_is_paused_silence_means_nothing_and_heartbeats_go_on() {
    let mut shard = Scenario::connected_at(6);
    shard.discord_falls_silent();
    shard.session.reading_paused(true, shard.now);
    shard.after(3 * INTERVAL);
    let beats = shard.did().into_iter().filter(|did| *did != Did::Store);
    assert_eq!(beats.collect::<Vec<_>>(), vec![Did::Heartbeat(Some(6)); 3]);
    shard.session.reading_paused(false, shard.now);
    shard.after(INTERVAL);
    shard.did_only([Did::Store, Did::Heartbeat(Some(6))]);
    shard.after(INTERVAL);
    shard.did_only([Did::Store, Did::Close, Did::Store, dropped(Cause::Zombie, Resumes::Session), TO_RESUME]);
}

#[test]
fn while_reading_is_paused_neither_hello_nor_replays_can_be_late() {
    let mut shard = Scenario::awaiting_hello();
    shard.session.reading_paused(true, shard.now);
    shard.after(10 * HELLO_TIMEOUT);
    shard.session.reading_paused(false, shard.now);
    shard.after(HELLO_TIMEOUT - SECOND);
    shard.did_only([]);

    let mut shard = Scenario::resuming();
    shard.session.reading_paused(true, shard.now);
    shard.after(10 * RESUME_SILENCE);
    assert_eq!(shard.session.state(), State::Resuming);
}

#[test]
fn latency_is_known_once_a_heartbeat_was_acknowledged() {
    let mut shard = Scenario::connected_at(6);
    shard.discord_falls_silent();
    shard.packet(1, "");
    shard.now += SECOND / 10;
    shard.packet(11, "");
    assert_eq!(shard.session.latency(), Some(SECOND / 10));
}
