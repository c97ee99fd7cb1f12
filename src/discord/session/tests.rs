//! The rules of spec/discord.md, one by one.

use std::time::Duration;

use super::scenario::{AT_ONCE, Did, INTERVAL, Resumes, Scenario, record, settings};
use super::*;
use crate::broker::GapReason;
use crate::discord::close_code::{CloseCode, Fate, KEEP_SESSION};
use crate::discord::intents::Intents;

mod closes;
mod ends;
mod heartbeats;
mod life;
mod opcodes;
mod resuming;

const SECOND: Duration = Duration::from_secs(1);
const TO_GATEWAY: Did = Did::Connect("gateway", Resumes::Nothing);
const TO_RESUME: Did = Did::Connect("resume", Resumes::Session);

fn dropped(cause: Cause, resumes: Resumes) -> Did {
    Did::Disconnected(cause, resumes)
}

#[test]
fn the_sections_that_code_and_tests_name_are_in_the_spec() {
    let spec = include_str!("../../../spec/discord.md");
    let rooms = [
        include_str!("tests/closes.rs"),
        include_str!("tests/ends.rs"),
        include_str!("tests/heartbeats.rs"),
        include_str!("tests/life.rs"),
        include_str!("tests/opcodes.rs"),
        include_str!("tests/resuming.rs"),
        include_str!("heartbeat.rs"),
        include_str!("known.rs"),
        include_str!("../command.rs"),
        include_str!("../gateway_url.rs"),
        include_str!("../identify_queue.rs"),
        include_str!("../ids.rs"),
        include_str!("../send_limit.rs"),
    ];
    for line in rooms.iter().flat_map(|room| room.lines()) {
        let Some((_, named)) = line.split_once("spec/discord.md, \"") else { continue };
        // Every second piece between quotes is a title.
        for title in format!("\"{named}").split('"').skip(1).step_by(2).filter(|title| !title.is_empty()) {
            assert!(spec.lines().any(|line| line == format!("## {title}")), "no section {title:?}: {line}");
        }
    }
}
