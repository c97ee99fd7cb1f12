//! Every close: spec/discord.md, "Closes".

use super::*;

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
                assert_eq!(did, [dropped(cause, Resumes::Nothing)]);
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
pub(super) fn resumes_after(code: Option<u16>) -> usize {
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

#[test]
fn the_specs_table_of_closes_is_the_one_that_is_followed() {
    let spec = include_str!("../../../../spec/discord.md");
    for code in CloseCode::KNOWN {
        let begin = format!("| {} | {} | ", code.code(), code.name());
        let row = spec.lines().find(|line| line.starts_with(&begin)).unwrap_or_else(|| panic!("no row {begin}"));
        let fate = match code.fate() {
            Fate::Resume => "resume |",
            Fate::PauseThenResume => "wait 60 s, resume |",
            Fate::Identify => "identify |",
            Fate::Fatal => "**end** |",
        };
        assert!(row[begin.len()..].starts_with(fate), "{row}");
    }
}
