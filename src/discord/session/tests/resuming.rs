//! spec/discord.md, "Resuming" and "Waiting".

use super::closes::resumes_after;
use super::*;

#[test]
fn a_resume_url_that_leads_nowhere_gives_way_to_the_ordinary_one_and_still_resumes() {
    let mut shard = Scenario::with_stored();
    shard.after(AT_ONCE);
    shard.session.connect_failed(shard.now);
    shard.after(AT_ONCE);
    let failed = || dropped(Cause::ConnectFailed, Resumes::Session);
    shard.did_only([TO_RESUME, failed(), Did::Connect("gateway", Resumes::Session)]);
    shard.session.connect_failed(shard.now);
    shard.after_its_wait();
    shard.did_only([failed(), TO_RESUME]);
    for _ in 0..10 {
        shard.session.connect_failed(shard.now);
        shard.after_its_wait();
    }
    assert_eq!(shard.session.session_id(), Some(&SessionId::new("stored")), "only refused resumes cost a session");
}

#[test]
fn a_resume_url_that_would_leave_tls_or_cannot_be_read_is_not_used() {
    for url in ["ws://resume.discord.gg", "nonsense", "https://resume.discord.gg"] {
        let mut shard = Scenario::new(settings(), Some(StoredSession { resume_url: url.to_owned(), ..record() }));
        shard.after(AT_ONCE);
        shard.did_only([Did::Connect("gateway", Resumes::Session)]);
    }
}

#[test]
fn three_resumes_that_come_to_nothing_end_the_session() {
    assert_eq!(resumes_after(None), 3);
}

#[test]
fn a_resume_that_broke_off_but_got_us_on_does_not_count() {
    let mut shard = Scenario::resuming();
    for stored in 41..51 {
        shard.event(stored, "MESSAGE_CREATE");
        shard.closed(None);
        shard.stores("stored", stored);
        shard.after_its_wait();
        shard = shard.connects().quiet();
        shard.hello();
        shard.did_only([Did::Resume("stored", stored)]);
    }
}

#[test]
fn replays_may_take_long_but_ninety_seconds_of_silence_end_the_session() {
    let mut shard = Scenario::resuming();
    for seq in 41..60 {
        shard.after(RESUME_SILENCE / 2);
        shard.event(seq, "MESSAGE_CREATE");
    }
    assert_eq!(shard.session.state(), State::Resuming);
    shard.did();
    shard.after(2 * RESUME_SILENCE);
    let did = shard.did();
    assert!(did.contains(&dropped(Cause::ResumeSilent, Resumes::Nothing)), "{did:?}");
    assert_eq!(did.last(), Some(&TO_GATEWAY));
}

#[test]
fn another_sessions_ready_in_answer_to_a_resume_ends_the_old_one_and_in_a_live_session_is_malformed() {
    let mut shard = Scenario::resuming();
    shard.ready("second");
    shard.did_only([Did::Started("second"), Did::Store]);
    assert_eq!(shard.old.as_ref().map(|old| old.session.as_str()), Some("stored"));

    let data = br#"{"session_id":"first"}"#;
    assert_eq!(shard.session.dispatch(Seq::new(1), "READY", data, shard.now), Err(MalformedPacket::SecondReady));
}

#[test]
fn the_first_reconnect_is_at_once_and_connections_that_open_and_die_wait_longer_and_longer() {
    let mut shard = Scenario::connected_at(6);
    shard.closed(None);
    assert_eq!(shard.wait(), AT_ONCE);
    let mut waits = Vec::new();
    for _ in 0..10 {
        shard.after_its_wait();
        shard.accept();
        shard.closed(None);
        waits.push(shard.wait());
    }
    assert!(waits[0] >= SECOND / 2 && waits[0] <= SECOND, "{waits:?}");
    assert!(waits[9] >= 30 * SECOND && waits[9] <= 60 * SECOND, "{waits:?}");
}

#[test]
fn a_live_connection_that_held_makes_the_next_reconnect_immediate() {
    let mut shard = Scenario::resuming();
    for _ in 0..5 {
        shard.closed(None);
        shard.after_its_wait();
        shard = shard.connects();
    }
    shard.hello();
    shard.event(41, "RESUMED");
    shard.after(10 * SECOND);
    shard.closed(None);
    assert_eq!(shard.wait(), AT_ONCE);
}

#[test]
fn sessions_that_start_and_die_at_once_do_not_use_up_the_days_starts() {
    let mut shard = Scenario::identifying();
    let mut starts = 0;
    let end = shard.now + Duration::from_secs(24 * 60 * 60);
    while shard.now < end {
        starts += 1;
        shard.ready(if starts % 2 == 0 { "first" } else { "second" });
        shard.after(20 * SECOND); // longer than a connection must hold
        shard.closed(4009);
        shard.after_its_wait();
        shard = shard.connects().greeted().quiet();
        shard.session.identify_granted(shard.now);
    }
    assert!(starts < 320, "{starts} of 1,000");
}

#[test]
fn another_ordinary_address_is_taken_from_the_next_connection_on() {
    let mut shard = Scenario::awaiting_hello();
    shard.session.set_gateway(GatewayUrl::parse("wss://resume.discord.gg").expect("an address"));
    shard.did_only([]);
    shard.closed(None);
    shard.after(AT_ONCE);
    shard.did_only([dropped(Cause::Lost, Resumes::Nothing), Did::Connect("resume", Resumes::Nothing)]);
}

#[test]
fn the_gap_of_a_connection_that_just_died_begins_with_its_last_acknowledgement() {
    type Ending = fn(&mut Scenario);
    let ends: [(Ending, bool); 3] = [
        (|shard| shard.closed(None), false),
        (|shard| shard.session.broken("not zlib", shard.now), false),
        (|shard| shard.closed(4000), true),
    ];
    for (end, told) in ends {
        let mut shard = Scenario::connected_at(6);
        shard.packet(11, "");
        let acknowledged = shard.now;
        shard.now += SECOND;
        shard.event(7, "TYPING_START");
        end(&mut shard);
        let ended = shard.now;
        shard = shard.connects().greeted();
        shard.packet(9, "false");
        shard.after_its_wait();
        shard = shard.connects().greeted();
        shard.session.identify_granted(shard.now);
        shard.ready("second");
        let last_sign = shard.old.expect("a gap").last_sign;
        assert_eq!(last_sign, LastSign::At(if told { ended } else { acknowledged }));
    }
}

#[test]
fn a_session_that_lived_long_makes_the_next_start_immediate() {
    let mut shard = Scenario::identifying();
    for _ in 0..5 {
        shard.ready("first");
        shard.closed(4009);
        shard.after_its_wait();
        shard = shard.connects().greeted();
        shard.session.identify_granted(shard.now);
    }
    shard.ready("second");
    shard.after(600 * SECOND);
    shard.closed(4009);
    assert_eq!(shard.wait(), AT_ONCE);
}
