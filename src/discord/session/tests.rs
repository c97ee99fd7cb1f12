//! The rules of spec/discord.md, one by one.

use std::time::Duration;

use super::scenario::{AT_ONCE, Did, INTERVAL, Resumes, Scenario, record, settings};
use super::*;
use crate::discord::close_code::CloseCode;

const SECOND: Duration = Duration::from_secs(1);
const TO_GATEWAY: Did = Did::Connect("gateway", Resumes::Nothing);
const TO_RESUME: Did = Did::Connect("resume", Resumes::Session);

fn dropped(cause: Cause, resumes: Resumes) -> Did {
    Did::Disconnected(cause, resumes)
}

// ---- spec/discord.md, "Life of a connection" ----

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

// ---- spec/discord.md, "Heartbeats" and "Three sequence numbers" ----

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

// ---- opcodes ----

#[test]
fn every_opcode_that_discord_sends_is_answered_as_the_table_says() {
    let tables = crate::discord::reference();
    for row in tables["opcodes"].as_array().expect("opcodes") {
        let op = row["code"].as_u64().expect("code");
        let mut shard = Scenario::connected_at(6);
        let data = if op == 9 { "true" } else { "null" };
        shard.packet(op, data);
        match Opcode::from_code(op).expect("a known opcode") {
            Opcode::Heartbeat => shard.did_only([Did::Heartbeat(Some(6))]),
            Opcode::Reconnect => {
                shard.did_only([Did::Close, Did::Store, dropped(Cause::Reconnect, Resumes::Session)]);
                assert_eq!(shard.wait(), AT_ONCE);
            }
            Opcode::InvalidSession => {
                let cause = Cause::InvalidSession { resumable: true };
                shard.did_only([Did::Close, Did::Store, dropped(cause, Resumes::Session)]);
            }
            // Hello greets once. Op 0 has its own way in. What only clients send is ignored like unknown ops.
            Opcode::Hello
            | Opcode::HeartbeatAck
            | Opcode::Dispatch
            | Opcode::Identify
            | Opcode::PresenceUpdate
            | Opcode::VoiceStateUpdate
            | Opcode::Resume
            | Opcode::RequestGuildMembers
            | Opcode::RequestSoundboardSounds
            | Opcode::RequestChannelInfo => shard.did_only([]),
        }
    }
}

#[test]
fn unknown_opcodes_are_ignored() {
    let mut shard = Scenario::connected_at(6);
    for op in [5, 12, 44, 999, u64::MAX] {
        shard.packet(op, "{\"a\":");
        shard.did_only([]);
    }
}

#[test]
fn a_heartbeat_that_discord_asks_for_leaves_the_timer_alone() {
    for mut shard in [Scenario::awaiting_identify(), Scenario::identifying(), Scenario::connected_at(6)] {
        let deadline = shard.session.deadline();
        shard.packet(1, "");
        assert!(matches!(shard.did()[..], [Did::Heartbeat(_)]));
        assert_eq!(shard.session.deadline(), deadline);
    }
}

#[test]
fn reconnect_in_the_place_of_hello_connects_again() {
    let mut shard = Scenario::awaiting_hello();
    shard.packet(7, "null");
    shard.after(AT_ONCE);
    shard.did_only([Did::Close, dropped(Cause::Reconnect, Resumes::Nothing), TO_GATEWAY]);

    let mut shard = Scenario::with_stored().connects().quiet();
    shard.packet(7, "");
    shard.after(AT_ONCE);
    shard.did_only([Did::Close, dropped(Cause::Reconnect, Resumes::Session), TO_RESUME]);
}

#[test]
fn reconnect_without_a_session_leads_to_another_identify_by_the_gate() {
    let mut shard = Scenario::identifying();
    shard.packet(7, "");
    shard = shard.connects().greeted();
    shard.did_only([Did::Close, dropped(Cause::Reconnect, Resumes::Nothing), TO_GATEWAY, Did::AskIdentify]);
}

#[test]
fn an_invalid_session_that_may_be_resumed_is_resumed_after_one_to_five_seconds() {
    for mut shard in [Scenario::connected_at(6), Scenario::resuming()] {
        shard.packet(9, "true");
        let wait = shard.after_its_wait();
        assert!(wait >= SECOND && wait <= 5 * SECOND, "{wait:?}");
        let cause = Cause::InvalidSession { resumable: true };
        shard.did_only([Did::Close, Did::Store, dropped(cause, Resumes::Session), TO_RESUME]);
    }
}

#[test]
fn an_invalid_session_that_may_not_be_resumed_is_forgotten_and_told_with_the_next() {
    let cause = Cause::InvalidSession { resumable: false };
    for (mut shard, session, stored) in [(Scenario::connected_at(6), "first", 6), (Scenario::resuming(), "stored", 40)]
    {
        let ended = shard.now;
        shard.packet(9, "false");
        assert_eq!(shard.session.session_id(), None);
        let wait = shard.after_its_wait();
        assert!(wait >= SECOND && wait <= 5 * SECOND, "{wait:?}");
        shard = shard.connects().greeted();
        shard.did_only([
            Did::Close,
            Did::Store,
            dropped(cause.clone(), Resumes::Nothing),
            TO_GATEWAY,
            Did::AskIdentify,
        ]);
        shard.session.identify_granted(shard.now);
        shard.ready("second");
        shard.did_only([Did::Identify, Did::Started("second"), Did::Store]);
        let old = shard.old.expect("a gap");
        assert_eq!((old.session.as_str(), old.stored.get()), (session, stored));
        assert_eq!(old.reason, GapReason::SessionInvalidated);
        let last_sign = if session == "first" { LastSign::At(ended) } else { LastSign::Stored(1_000) };
        assert_eq!(old.last_sign, last_sign);
    }
}

#[test]
fn an_identify_that_is_refused_is_tried_again_by_the_gate_after_one_to_five_seconds() {
    let mut shard = Scenario::identifying();
    shard.packet(9, "false");
    let wait = shard.after_its_wait();
    assert!(wait >= SECOND && wait <= 5 * SECOND, "{wait:?}");
    shard = shard.connects().greeted();
    let cause = Cause::InvalidSession { resumable: false };
    shard.did_only([Did::Close, dropped(cause, Resumes::Nothing), TO_GATEWAY, Did::AskIdentify]);
}

#[test]
fn a_packet_whose_data_is_nonsense_is_malformed_and_does_nothing_by_itself() {
    let mut shard = Scenario::awaiting_hello();
    assert!(shard.session.packet(10, b"null", shard.now).is_err());
    assert!(shard.session.packet(10, br#"{"heartbeat_interval":0}"#, shard.now).is_err());
    assert!(shard.session.packet(9, b"3", shard.now).is_err());
    shard.did_only([]);
    let mut shard = Scenario::identifying();
    assert!(shard.session.dispatch(Seq::new(1), "READY", b"{}", shard.now).is_err());
    shard.did_only([]);
}

// ---- spec/discord.md, "Closes" ----

#[test]
fn every_close_code_of_discords_table_meets_its_fate() {
    for code in CloseCode::KNOWN {
        let mut shard = Scenario::connected_at(6);
        shard.closed(code.code());
        let (cause, did) = (Cause::Closed(code), shard.did());
        match code.fate() {
            Fate::Resume => {
                assert_eq!(did, [Did::Store, dropped(cause, Resumes::Session)]);
                assert_eq!(shard.wait(), AT_ONCE, "{code:?}");
            }
            Fate::PauseThenResume => {
                assert_eq!(did, [Did::Store, dropped(cause, Resumes::Session)]);
                assert_eq!(shard.wait(), RATE_LIMIT_PAUSE, "{code:?}");
            }
            Fate::Identify => {
                assert_eq!(did, [Did::Store, dropped(cause, Resumes::Nothing)]);
                assert_eq!(shard.wait(), AT_ONCE, "{code:?}");
            }
            Fate::Fatal => {
                assert_eq!(did, [Did::Store, Did::Fatal(code.code())]);
                assert_eq!((shard.session.state(), shard.session.deadline()), (State::Ended, None));
            }
        }
    }
}

#[test]
fn every_close_code_of_the_table_ends_a_resume_and_an_identify_as_it_says() {
    let tables = crate::discord::reference();
    for row in tables["close_codes"].as_array().expect("close_codes") {
        let code = row["code"].as_u64().expect("code") as u16;
        for mut shard in [Scenario::resuming(), Scenario::identifying()] {
            let knows = shard.session.session_id().is_some();
            shard.closed(code);
            match (row["action"].as_str().expect("action"), shard.did().last().expect("an end")) {
                ("resume", Did::Disconnected(_, resumes)) => {
                    assert_eq!(*resumes == Resumes::Session, knows, "{row}");
                }
                ("identify", Did::Disconnected(_, resumes)) => assert_eq!(*resumes, Resumes::Nothing, "{row}"),
                ("fatal", Did::Fatal(told)) => assert_eq!(*told, code),
                (action, did) => panic!("{action}: {did:?}"),
            }
        }
    }
}

#[test]
fn every_close_outside_discords_table_is_resumed_and_the_doubtful_ones_once() {
    let tables = crate::discord::reference();
    for row in tables["close_codes_other"].as_array().expect("close_codes_other") {
        if row["from"] == "client" {
            assert_eq!(row["action"], "ends the session");
            assert_ne!(row["code"], KEEP_SESSION);
            continue;
        }
        assert_eq!(row["action"], "resume");
        let codes: Vec<Option<u16>> = match (row["code"].as_u64(), row["range"].as_array()) {
            (Some(code), _) => vec![Some(code as u16)],
            (None, Some(range)) => {
                let ends: Vec<u16> = range.iter().map(|end| end.as_u64().expect("a code") as u16).collect();
                let codes = (ends[0]..=ends[1]).filter(|&code| {
                    row["unlisted_only"] != true || matches!(CloseCode::from_code(code), CloseCode::Other(_))
                });
                codes.map(Some).collect()
            }
            (None, None) => vec![None],
        };
        for code in codes {
            let once = matches!(code, Some(1000 | 1001 | 4000..));
            assert_eq!(resumes_after(code), if once { 1 } else { 3 }, "{code:?}");
        }
    }
}

/// How many resumes are tried in a row after this close, when each is cut off.
fn resumes_after(code: Option<u16>) -> usize {
    let mut shard = Scenario::connected_at(6);
    shard.closed(code);
    for resumes in 0..10 {
        shard.after_its_wait();
        shard = shard.connects().greeted();
        if shard.did().contains(&Did::AskIdentify) {
            return resumes;
        }
        shard.closed(None);
    }
    panic!("it never gives up")
}

#[test]
fn a_fatal_close_says_what_to_change() {
    let advice = |settings: Settings, code: u16| {
        let mut shard = Scenario::new(settings, None).connects().greeted().quiet();
        shard.session.identify_granted(shard.now);
        shard.closed(code);
        assert_eq!(shard.did(), [Did::Identify, Did::Fatal(code)]);
        shard.advice
    };
    assert!(advice(settings(), 4004).contains("DISCORD_TOKEN"));
    assert!(
        advice(settings(), 4010).contains("shard 3/16") && advice(settings(), 4010).contains("DISCORD_SHARD_COUNT")
    );
    assert!(advice(settings(), 4011).contains("above 16"));
    assert!(advice(settings(), 4012).contains("DISCORD_API_VERSION"));
    let unknown = Settings { intents: Intents::from_bits(1 | 1 << 22 | 1 << 40), ..settings() };
    assert!(advice(unknown, 4013).contains("(bit 22, bit 40)"));
    let disallowed = advice(settings(), 4014);
    assert!(disallowed.contains("GUILD_MEMBERS, MESSAGE_CONTENT;"), "{disallowed}");
    assert!(disallowed.contains("https://discord.com/developers/applications"));
    assert!(!disallowed.contains("GUILD_PRESENCES") && !disallowed.contains("hunter2"));
}

#[test]
fn advice_is_given_for_fatal_closes_and_no_others() {
    for code in CloseCode::KNOWN.into_iter().chain([CloseCode::Other(1000)]) {
        assert_eq!(ending::advice(code, &settings()).is_some(), code.fate() == Fate::Fatal, "{code:?}");
    }
}

// ---- spec/discord.md, "Resuming" ----

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
    shard.quiet().falls_silent();
}

impl Scenario {
    fn falls_silent(mut self) {
        self.after(2 * RESUME_SILENCE);
        let did = self.did();
        assert!(did.contains(&dropped(Cause::ResumeSilent, Resumes::Nothing)), "{did:?}");
        assert_eq!(did.last(), Some(&TO_GATEWAY));
    }
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

// ---- spec/discord.md, "Waiting" ----

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

// ---- suspending, ending, commands ----

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
fn heartbeats_asked_for_in_a_flood_leave_our_own_their_room() {
    let mut shard = Scenario::connected_at(6);
    for _ in 0..1_000 {
        shard.packet(1, "");
    }
    assert!(shard.did().len() < 120);
    shard.after(INTERVAL);
    shard.did_only([Did::Store, Did::Heartbeat(Some(6))]);
}
