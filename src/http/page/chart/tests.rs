use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::seen::sample::SECONDS;

const BEGIN: u64 = 1_790_000_000;

fn sample(n: u64, events: &[(&str, u32)]) -> Sample {
    let events = events.iter().map(|(name, count)| (Arc::from(*name), *count)).collect::<BTreeMap<_, _>>();
    let wave = (n as f32 / 20.0).sin().abs();
    Sample {
        at: BEGIN + n * SECONDS,
        events,
        unconfirmed: (wave * 900.0) as u32,
        latency_ms: Some(2.0 + wave),
        connected: 1,
        heard: 1,
    }
}

/// Half an hour as it is: some names come often, many now and then.
fn half_an_hour() -> Vec<Sample> {
    let names = [
        "MESSAGE_CREATE",
        "PRESENCE_UPDATE",
        "TYPING_START",
        "GUILD_MEMBERS_CHUNK",
        "VOICE_STATE_UPDATE",
        "MESSAGE_REACTION_ADD",
    ];
    let rare = ["GUILD_CREATE", "CHANNEL_UPDATE", "INTERACTION_CREATE", "GUILD_SCHEDULED_EVENT_USER_REMOVE"];
    (0..KEPT as u64)
        .map(|n| {
            let often = names.iter().enumerate().map(|(i, name)| {
                let wave = ((n as f32 / (17.0 + 9.0 * i as f32)).sin() + 1.2) * 400.0 / (i as f32 + 1.0);
                (*name, wave as u32)
            });
            let now_and_then = rare.iter().enumerate().map(|(i, name)| (*name, (n as u32 * 7 + i as u32) % 40));
            sample(n, &often.chain(now_and_then).collect::<Vec<_>>())
        })
        .collect()
}

#[test]
fn a_chart_names_what_it_shows_and_says_it_in_words() {
    let svg = draw(ChartKind::Events, &half_an_hour(), 900);
    assert!(svg.starts_with("<svg ") && svg.contains(r#"role="img""#), "{svg}");
    assert!(svg.contains("<title>Events a second by type</title>"));
    let words = svg.split_once("<desc>").and_then(|(_, rest)| rest.split_once("</desc>")).expect("a description").0;
    assert!(words.starts_with("The last 30 minutes. Now ") && words.contains("MESSAGE_CREATE "), "{words}");
    for label in ["PRESENCE_UPDATE", "other", "now", "-10 min"] {
        assert!(svg.contains(&format!(">{label}<")), "{label} is missing: {svg}");
    }
    assert!(!svg.contains("GUILD_CREATE"), "only the six largest have a name");
}

#[test]
fn a_rate_is_a_count_by_its_seconds() {
    let history: Vec<Sample> = (0..60).map(|n| sample(n, &[("MESSAGE_CREATE", 500), ("TYPING_START", 50)])).collect();
    let words = series::of(ChartKind::Events, &history, 900).words;
    assert_eq!(words, "The last 5 minutes. Now 110 events a second: MESSAGE_CREATE 100, TYPING_START 10.");
}

#[test]
fn the_worst_moment_is_seen_however_narrow_the_picture() {
    let mut history = half_an_hour();
    history[200].latency_ms = Some(777.0);
    for width in [320, 900] {
        let latency = series::of(ChartKind::Latency, &history, width);
        assert!(latency.curves[0].values.contains(&Some(777.0)), "at {width}");
        assert!(latency.words.contains("at most 777 ms"), "{}", latency.words);
    }
}

#[test]
fn samples_stay_together_while_time_goes_on() {
    let history = half_an_hour();
    let values = |history: &[Sample]| series::of(ChartKind::Unconfirmed, history, 320).curves[0].values.clone();
    let (earlier, later) = (values(&history[..359]), values(&history));
    assert_eq!(earlier[1..earlier.len() - 1], later[1..earlier.len() - 1], "a peak dances");
}

#[test]
fn what_was_not_known_is_a_gap() {
    let mut history = half_an_hour();
    history[100..200].iter_mut().for_each(|sample| sample.latency_ms = None);
    let curve = &series::of(ChartKind::Latency, &history, 900).curves[0];
    assert!(curve.values.contains(&None));
    let svg = draw(ChartKind::Latency, &history, 900);
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn where_nobody_was_heard_is_a_gap_and_no_zero() {
    let mut history = half_an_hour();
    history[100..200].iter_mut().for_each(unheard);
    for kind in ChartKind::ALL {
        let told = series::of(kind, &history, 900);
        assert!(told.curves.iter().all(|curve| curve.values.contains(&None)), "{kind:?}");
        let svg = draw(kind, &history, 900);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
    history[300..].iter_mut().for_each(unheard);
    for kind in ChartKind::ALL {
        let words = series::of(kind, &history, 900).words;
        assert!(words.contains("Now not known") && !words.contains("Now 0"), "{words}");
    }
}

fn unheard(sample: &mut Sample) {
    *sample = Sample { at: sample.at, ..Sample::default() };
}

#[test]
fn nothing_that_came_is_said_so() {
    let silent = [sample(0, &[]), sample(1, &[("MESSAGE_CREATE", 0)])];
    for history in [&[][..], &silent] {
        let svg = draw(ChartKind::Events, history, 320);
        assert!(svg.contains(">No events yet<") && svg.contains("<desc>No events yet.</desc>"), "{svg}");
    }
    assert!(draw(ChartKind::Latency, &[], 320).contains(">Nothing published yet<"));
    assert!(draw(ChartKind::Unconfirmed, &[], 320).contains(">Nothing measured yet<"));
}

#[test]
fn names_are_text_whatever_they_hold() {
    let evil = "<script>alert(1)</script>\"'&\u{0}\u{8}";
    let long = "X".repeat(5000);
    let history = [sample(0, &[(evil, 5), (&long, 9)]), sample(1, &[(evil, 5)])];
    let svg = draw(ChartKind::Events, &history, 900);
    assert!(svg.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !svg.contains("<script"), "{svg}");
    assert!(!svg.contains(|c: char| c.is_control() && c != '\n'), "XML allows no control characters");
    assert!(svg.len() < 20_000, "a long name is cut");
}

#[test]
fn nothing_is_in_a_picture_that_a_strict_policy_refuses_or_a_dark_page_hides() {
    for kind in ChartKind::ALL {
        for history in [half_an_hour(), Vec::new()] {
            let svg = draw(kind, &history, 600);
            for refused in ["style", "href", "url(", "<image", "<foreignObject", "onload"] {
                assert!(!svg.contains(refused), "{refused} in {svg}");
            }
            assert!(svg.contains(r#"fill="currentColor""#), "text follows the page: {svg}");
            for hidden in [FRAME.hex(), "#FFF".to_owned(), "#000".to_owned(), "#464646".to_owned()] {
                assert!(!svg.to_uppercase().contains(&hidden.to_uppercase()), "{hidden} in {svg}");
            }
        }
    }
}

#[test]
fn a_picture_is_as_wide_as_asked_within_bounds_and_small() {
    let history = half_an_hour();
    for (asked, drawn) in [(0, 320), (320, 320), (900, 900), (u32::MAX, 1200)] {
        let svg = draw(ChartKind::Events, &history, asked);
        assert!(svg.contains(&format!("viewBox=\"0 0 {drawn} ")), "{}", &svg[..120]);
        assert!(svg.len() < 60_000, "{} bytes at {drawn}", svg.len());
    }
}

#[test]
fn extreme_samples_are_drawn_too() {
    let mut extreme = sample(0, &[("MESSAGE_CREATE", u32::MAX)]);
    (extreme.unconfirmed, extreme.latency_ms) = (u32::MAX, Some(f32::MAX));
    let mut odd = sample(1, &[("MESSAGE_CREATE", 1)]);
    odd.latency_ms = Some(f32::NAN);
    // Clocks jump, and samples of others may come from any time.
    let mut early = sample(2, &[]);
    early.at = 0;
    for history in [vec![extreme.clone()], vec![extreme, odd, early]] {
        for kind in ChartKind::ALL {
            let svg = draw(kind, &history, 320);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}

#[test]
fn every_kind_is_found_by_its_name() {
    for kind in ChartKind::ALL {
        assert_eq!(ChartKind::named(kind.name()), Some(kind));
    }
    assert_eq!(ChartKind::named("Events"), None);
}

/// Writes the pictures to a folder, to be looked at: `OPTIC_CHARTS=/tmp/charts cargo test --lib chart -- --ignored`.
#[test]
#[ignore = "for eyes"]
fn pictures() {
    let folder = std::env::var("OPTIC_CHARTS").expect("OPTIC_CHARTS is set");
    let history = half_an_hour();
    for kind in ChartKind::ALL {
        for width in [320, 900] {
            for (of, history) in [("full", &history[..]), ("short", &history[..40]), ("empty", &[])] {
                let name = format!("{folder}/{}-{of}-{width}.svg", kind.name());
                std::fs::write(name, draw(kind, history, width)).expect("a file");
            }
        }
    }
    let begin = std::time::Instant::now();
    for _ in 0..200 {
        std::hint::black_box(draw(ChartKind::Events, &history, 900));
    }
    println!(
        "{:?} a drawing of events, 900 px, {} bytes",
        begin.elapsed() / 200,
        draw(ChartKind::Events, &history, 900).len()
    );
}
