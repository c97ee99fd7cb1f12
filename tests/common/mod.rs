//! What integration tests share: a RabbitMQ, consumers, Optic's process, and links that fail.
//!
//! `make test` starts one RabbitMQ for all; tests keep apart by groups of their own ([`unique_group`]). Who stops, kills or
//! blocks a broker starts a [`PrivateBroker`]. Nothing here waits a time: it waits for events, with [`PATIENCE`] as the end.
#![allow(dead_code, unused_imports)] // each test program uses its part

mod bed;
mod browser;
mod commands;
mod consumer;
mod faulty_link;
mod fleet;
mod gateway;
mod private_broker;
mod process;
mod program;
mod rest_stub;
mod singyeong;
mod worker;
mod worker_program;

use std::future::Future;
use std::time::Duration;

pub use bed::Bed;
pub use browser::{Browser, Look};
pub use commands::worker_commands;
pub use consumer::{Consumer, Received};
pub use faulty_link::FaultyLink;
pub use fleet::Fleet;
pub use gateway::{Gateway, Sent};
pub use private_broker::PrivateBroker;
pub use process::OpticProcess;
pub use program::Program;
pub use rest_stub::RestStub;
pub use singyeong::{SingyeongBed, SingyeongClient, SingyeongServer, lasting_address};
pub use worker::{Message, Worker};
pub use worker_program::WorkerProgram;

/// When a test gives up: far beyond what anything takes on a busy machine, and no measure of anything.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The AMQP URL of the RabbitMQ that all tests share.
pub fn broker() -> String {
    ["OPTIC_TEST_AMQP_URL", "AMQP_URL"].iter().find_map(|name| std::env::var(name).ok()).expect(
        "this test needs RabbitMQ: run it by `make test`, or first: export OPTIC_TEST_AMQP_URL=$(scripts/rabbitmq start)",
    )
}

/// Whether a test is to go without this program: scripts/test has found none, and says so at its end (`OPTIC_TEST_WITHOUT`).
/// Else it is an error that there is none.
pub fn is_without(program: &str) -> bool {
    let without = std::env::var("OPTIC_TEST_WITHOUT").unwrap_or_default();
    let is_without = without.split_whitespace().any(|missing| missing == program);
    if is_without {
        eprintln!("\n*** SKIPPED: there is no {program} here; scripts/setup installs what can be had\n");
    }
    is_without
}

/// A group that no other test has.
pub fn unique_group() -> String {
    format!("test-{:016x}", fastrand::u64(..))
}

/// Waits for something that must come.
///
/// # Panics
/// When it did not within [`PATIENCE`], saying what.
pub async fn must<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("gave up waiting: {what}"))
}

/// Looks again and again until it is so: for what nobody tells when it changes.
///
/// # Panics
/// When it did not come to be within [`PATIENCE`], saying what.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    must(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
