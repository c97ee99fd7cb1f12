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
