//! Every opcode: spec/discord.md, "Opcodes".

use super::*;

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
        shard.did_only([Did::Close, dropped(cause.clone(), Resumes::Nothing), TO_GATEWAY, Did::AskIdentify]);
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
