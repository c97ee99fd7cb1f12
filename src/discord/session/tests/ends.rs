//! Suspending, ending, commands: spec/discord.md, "Leaving" and "Commands".

use super::*;

#[test]
fn a_suspended_session_is_kept_stored_and_resumed_when_woken() {
    let mut shard = Scenario::connected_at(6);
    shard.session.suspend(shard.now);
    shard.after(3600 * SECOND);
    shard.did_only([Did::Close, Did::Store]);
    assert_eq!(shard.session.deadline(), None);
    shard.session.wake(shard.now);
    shard.accept();
    shard.hello();
    shard.did_only([TO_RESUME, Did::Resume("first", 6)]);
}

#[test]
fn suspending_gives_a_turn_back_and_cuts_no_wait_short() {
    let mut shard = Scenario::awaiting_identify();
    shard.session.suspend(shard.now);
    shard.did_only([Did::WithdrawIdentify, Did::Close]);

    let mut shard = Scenario::connected_at(6);
    shard.closed(4008);
    shard.session.suspend(shard.now);
    shard.session.wake(shard.now);
    assert_eq!(shard.wait(), RATE_LIMIT_PAUSE);
}

#[test]
fn a_resume_that_we_cut_off_ourselves_does_not_count_against_the_session() {
    let mut shard = Scenario::resuming();
    for _ in 0..10 {
        shard.session.suspend(shard.now);
        shard.session.wake(shard.now);
        shard = shard.connects().quiet();
        shard.hello();
        shard.did_only([Did::Resume("stored", 40)]);
    }
}

#[test]
fn shutting_down_keeps_the_session_whatever_the_state() {
    let mut shard = Scenario::connected_at(6);
    shard.session.shut_down(shard.now);
    shard.did_only([Did::Close, Did::Store, Did::ShutDown]);
    shard.session.shut_down(shard.now);
    shard.session.wake(shard.now);
    shard.after(3600 * SECOND);
    shard.did_only([]);

    let mut shard = Scenario::awaiting_identify();
    shard.session.shut_down(shard.now);
    shard.did_only([Did::WithdrawIdentify, Did::Close, Did::ShutDown]);

    let mut shard = Scenario::connected_at(6);
    shard.closed(None);
    shard.did();
    shard.session.shut_down(shard.now);
    shard.did_only([Did::Store, Did::ShutDown]);
}

#[test]
fn what_is_stored_is_enough_to_resume_it() {
    let mut shard = Scenario::connected_at(6);
    let stored = shard.session.record(Seq::new(9), 5).expect("a session");
    let session_id = SessionId::new("first");
    let resume_url = "wss://resume.discord.gg/".to_owned();
    assert_eq!(stored, StoredSession { session_id, resume_url, sequence: Seq::new(9), saved_at: 5, ..record() });
    shard.packet(9, "false");
    assert_eq!(shard.session.record(Seq::new(9), 5), None);
}

#[test]
fn commands_wait_for_a_live_session_and_for_room() {
    let mut shard = Scenario::identifying();
    assert_eq!(shard.session.command_room(shard.now), Err(CommandWait::NotConnected));
    shard.ready("first");
    shard.after(120 * SECOND);
    let (start, mut sent) = (shard.now, 0);
    while shard.session.command_room(shard.now).is_ok() {
        shard.session.command_sent(shard.now);
        sent += 1;
    }
    assert!((110..=113).contains(&sent), "{sent}");
    let Err(CommandWait::Until(until)) = shard.session.command_room(shard.now) else { panic!("there is room") };
    assert!(until <= start + Duration::from_secs(61));
    shard.after(until - start);
    assert_eq!(shard.session.command_room(shard.now), Ok(()));
}

#[test]
fn a_flood_of_commands_is_delayed_and_no_heartbeat_with_it() {
    let mut shard = Scenario::connected_at(6);
    let (start, mut commands, mut sent, mut beats) = (shard.now, 0, Vec::new(), 0);
    while commands < 300 {
        match shard.session.command_room(shard.now) {
            Ok(()) => {
                shard.session.command_sent(shard.now);
                sent.push(shard.now);
                commands += 1;
            }
            Err(CommandWait::Until(until)) => {
                shard.after(SECOND.min(until - shard.now));
                for did in shard.did() {
                    assert!(matches!(did, Did::Heartbeat(_) | Did::Store), "{did:?}");
                    if did != Did::Store {
                        sent.push(shard.now);
                        beats += 1;
                    }
                }
            }
            Err(CommandWait::NotConnected) => panic!("closed"),
        }
    }
    let elapsed = shard.now - start;
    assert!(elapsed <= 123 * SECOND, "{elapsed:?}");
    assert!(elapsed.as_millis() / INTERVAL.as_millis() <= beats, "{beats} heartbeats in {elapsed:?}");
    assert!(sent.windows(121).all(|window| window[120] - window[0] >= 60 * SECOND));
}

#[test]
fn heartbeats_asked_for_in_a_flood_leave_our_own_their_room() {
    let mut shard = Scenario::connected_at(6);
    for _ in 0..1_000 {
        shard.packet(1, "");
    }
    assert!(shard.did().len() < 120);
    shard.after(INTERVAL);
    shard.did_only([Did::Store, Did::Heartbeat(Some(6))]);
}

#[test]
fn a_presence_that_makes_the_identify_too_long_is_refused_beforehand() {
    assert_eq!(settings().check(), Ok(()));
    let presence = serde_json::value::RawValue::from_string(format!("\"{}\"", "x".repeat(4096))).expect("JSON");
    let error = Settings { presence: Some(presence), ..settings() }.check().expect_err("too long");
    assert!(error.to_string().contains("DISCORD_PRESENCE"));
    assert!(matches!(error, BadIdentify::TooLong { bytes: 4097.. }));
}
