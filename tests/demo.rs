//! `optic demo`, as a newcomer runs it: what was sent arrived, the last line says so, and nothing is left behind.

mod common;

use common::{OpticProcess, broker};
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};

/// The numbers of `sent=N published=N confirmed=N received=N`.
fn numbers(line: &str) -> Vec<u64> {
    let names = ["sent=", "published=", "confirmed=", "received="];
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words.len(), names.len(), "{line}");
    let number = |(word, name): (&&str, &str)| word.strip_prefix(name).and_then(|text| text.parse().ok()).expect(line);
    words.iter().zip(names).map(number).collect()
}

/// The group that the demo says it has.
fn group(optic: &OpticProcess) -> String {
    let line = optic.stderr().into_iter().find(|line| line.contains("group=\"optic-demo-")).expect("it says so");
    line.split("group=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a name in quotes").to_owned()
}

/// Whether an exchange of this name exists.
async fn exists(exchange: &str) -> bool {
    let connection = Connection::connect(&broker(), ConnectionProperties::default()).await.expect("reachable");
    let channel = connection.create_channel().await.expect("a channel");
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    channel.exchange_declare(exchange.into(), ExchangeKind::Direct, passive, FieldTable::default()).await.is_ok()
}

#[tokio::test]
async fn the_demo_ends_by_itself_with_equal_numbers_and_leaves_nothing_behind() {
    let url = broker();
    let environment = [("AMQP_URL", url.as_str()), ("DEMO_SECONDS", "5"), ("BROKER_GROUP", "not-used")];
    let mut optic = OpticProcess::spawn(&["demo", "--rate", "200"], &environment);
    let status = optic.wait().await;
    let lines = optic.stdout();
    assert_eq!(status.code(), Some(0), "{:?}\n{}", lines.last(), optic.stderr().join("\n"));
    let numbers = numbers(lines.last().expect("a summary"));
    assert!(numbers[0] > 0 && numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
    // Beside the summary a line an event, as none came twice.
    assert_eq!(lines.len() as u64, numbers[3] + 1);
    assert!(!exists(&group(&optic)).await);
}

#[tokio::test]
async fn an_interrupt_ends_it_with_the_summary_too() {
    let url = broker();
    let mut optic = OpticProcess::spawn(&["demo", "--quiet"], &[("AMQP_URL", url.as_str())]);
    optic.wait_for_line("session started").await;
    optic.interrupt().await;
    assert_eq!(optic.wait().await.code(), Some(0), "{}", optic.stderr().join("\n"));
    let [summary] = &optic.stdout()[..] else { panic!("nothing but a summary: {:?}", optic.stdout()) };
    assert_eq!(numbers(summary).len(), 4);
    assert!(!exists(&group(&optic)).await);
}

#[tokio::test]
async fn without_rabbitmq_it_says_what_is_missing() {
    let mut optic = OpticProcess::spawn(&["demo"], &[]);
    assert_eq!(optic.wait().await.code(), Some(78));
    assert!(optic.stderr().join("\n").contains("AMQP_URL is not set"), "{:?}", optic.stderr());
}
