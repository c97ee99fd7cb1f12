//! What a person on call has to know, in words, the worst first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::shards::{self, Run, Shard};
use super::state::IdentifiesView;
use crate::cluster::ranges;
use crate::discord::ids::ShardId;
use crate::seen::Whole;
use crate::seen::report::{Mode, QueueReport, ShardState};
use crate::seen::sample::{KEPT, SECONDS};
use crate::seen::whole::{Process, Reach};

/// So many are told; the rest is among them somewhere on the page.
const MOST: usize = 10;

/// RabbitMQ confirms within milliseconds: who waits so long has a reason to look.
const LONG_LATENCY_MS: f64 = 1000.0;

/// The problems of this.
pub fn of(whole: &Whole, queues: &[&QueueReport], identifies: Option<&IdentifiesView>) -> Vec<String> {
    let shards = shards::of(whole);
    let mut told = refused(&shards);
    told.extend(brokers(whole));
    told.extend(no_bot(whole));
    told.extend(silent(whole, &shards));
    told.extend(unowned(whole, &shards));
    told.extend(unconnected(whole, &shards));
    told.extend(given_up(whole));
    told.extend(gaps(whole, &shards));
    told.extend(missing(whole));
    told.extend(latency(whole));
    told.extend(starts(whole, &shards, identifies));
    told.extend(unread(queues));
    let more = (told.len() > MOST).then(|| told.split_off(MOST - 1).len());
    told.extend(more.map(|more| format!("and {more} more")));
    told
}

/// Shards that never come back by themselves.
fn refused(shards: &[Shard<'_>]) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (id, run) in shards.iter().filter_map(|shard| Some((shard.id, shard.report()?))) {
        if run.state == ShardState::Ended {
            by_reason.entry(run.last_disconnect.as_deref().unwrap_or_default()).or_default().push(id);
        }
    }
    let told = |(reason, ids): (&str, Vec<u32>)| {
        let colon = if reason.is_empty() { "" } else { ": " };
        format!("{} ended for good{colon}{reason}", in_words(&ids))
    };
    by_reason.into_iter().map(told).collect()
}

fn brokers(whole: &Whole) -> Vec<String> {
    let told = |word: &str, says: &str| {
        let names: Vec<&str> = whole
            .processes
            .iter()
            .filter(|process| process.answers && process.report.broker == word)
            .map(|process| &*process.report.name)
            .collect();
        (!names.is_empty()).then(|| format!("{}: {says}", names_in_words(&names)))
    };
    let disconnected = told("disconnected", "the broker is not connected");
    disconnected.into_iter().chain(told("blocked", "the broker takes nothing: a memory or disk alarm")).collect()
}

/// Where a process without one serves the page, nobody else may be left to tell of.
fn no_bot(whole: &Whole) -> Option<String> {
    let bots = || whole.processes.iter().filter(|process| process.report.mode != Mode::NoBot);
    if whole.sight() != Reach::All || bots().any(|bot| bot.answers) {
        return None;
    }
    let silent = bots().map(|bot| (bot.heard_at, &*bot.report.name));
    let gone = whole.gone.iter().map(|gone| (gone.heard_at, &*gone.name));
    let (heard_at, name) = silent.chain(gone).max()?;
    Some(format!("no process with a bot answers: {name} was the last, {} ago", ago(whole.at, heard_at)))
}

/// In one line: while RabbitMQ is away all are.
fn silent(whole: &Whole, shards: &[Shard<'_>]) -> Option<String> {
    let silent: Vec<&Process> = whole.processes.iter().filter(|process| !process.answers).collect();
    match whole.sight() {
        Reach::Asking => return None,
        Reach::Away => {
            let is_unseen = |shard: &Shard<'_>| matches!(shard.run, Run::Unknown);
            let takes_nothing = whole.own().is_some_and(|own| own.broker == "blocked");
            let why = if takes_nothing { "takes nothing" } else { "is away" };
            return (!silent.is_empty() || shards.iter().any(is_unseen))
                .then(|| format!("the other processes cannot be asked while RabbitMQ {why}"));
        }
        Reach::All => {}
    }
    let longest = silent.iter().map(|process| process.heard_at).min()?;
    let names: Vec<&str> = silent.iter().map(|process| &*process.report.name).collect();
    let (verb, which, they) = if names.len() == 1 { ("has", "", "it") } else { ("have", ", the longest", "they") };
    let had: Vec<u32> =
        shards.iter().filter(|shard| matches!(shard.run, Run::Silent(..))).map(|shard| shard.id).collect();
    let had = if had.is_empty() { String::new() } else { format!("; {they} had {}", in_words(&had)) };
    let time = ago(whole.at, longest);
    Some(format!("{} {verb} not answered{which} for {time}{had}", names_in_words(&names)))
}

/// Messages that were lost, and are told by a gap.
fn given_up(whole: &Whole) -> Option<String> {
    let of = |process: &'_ Process| {
        let publishing = process.report.publishing?;
        Some((publishing.last_abandoned.filter(|at| is_recent(whole, *at))?, publishing.abandoned))
    };
    let recent: Vec<(&Process, (u64, u64))> =
        whole.processes.iter().filter_map(|process| Some((process, of(process)?))).collect();
    let last = recent.iter().map(|(_, (at, _))| *at).max()?;
    let count: u64 = recent.iter().map(|(_, (_, count))| count).sum();
    let names: Vec<&str> = recent.iter().map(|(process, _)| &*process.report.name).collect();
    let messages = if count == 1 { "message was" } else { "messages were" };
    let (names, time) = (names_in_words(&names), ago(whole.at, last));
    Some(format!("{names}: {count} {messages} given up since the start, the last {time} ago"))
}

/// Sessions that were lost, with what came in between.
fn gaps(whole: &Whole, shards: &[Shard<'_>]) -> Option<String> {
    let of = |shard: &Shard<'_>| shard.last_report()?.last_gap.filter(|at| is_recent(whole, *at));
    let recent: Vec<(u32, u64)> = shards.iter().filter_map(|shard| Some((shard.id, of(shard)?))).collect();
    let last = ago(whole.at, recent.iter().map(|(_, at)| *at).max()?);
    let ids: Vec<u32> = recent.iter().map(|(id, _)| *id).collect();
    let shards = in_words(&ids);
    Some(match ids.len() {
        1 => format!("{shards} lost its session: a gap was told {last} ago"),
        _ => format!("{shards} lost their sessions: gaps were told, the last {last} ago"),
    })
}

/// Whether it is as late as what the charts show.
fn is_recent(whole: &Whole, at: u64) -> bool {
    whole.at.saturating_sub(at) <= KEPT as u64 * SECONDS * 1000
}

fn unowned(whole: &Whole, shards: &[Shard<'_>]) -> Option<String> {
    let ids: Vec<u32> = shards.iter().filter(|shard| matches!(shard.run, Run::Nowhere)).map(|shard| shard.id).collect();
    let hint = match whole.processes.iter().find(|process| process.answers).map(|process| process.report.mode) {
        Some(Mode::Leased) => "the processes share them out, or there is none that can take them",
        _ => "no process that answers is set to run them",
    };
    let verb = if ids.len() == 1 { "runs" } else { "run" };
    (!ids.is_empty()).then(|| format!("{} {verb} nowhere: {hint}", in_words(&ids)))
}

fn unconnected(whole: &Whole, shards: &[Shard<'_>]) -> Vec<String> {
    let mut by_state: BTreeMap<ShardState, (Vec<u32>, u64)> = BTreeMap::new();
    for (id, run) in shards.iter().filter_map(|shard| Some((shard.id, shard.report()?))) {
        if !matches!(run.state, ShardState::Connected | ShardState::Ended) {
            let (ids, since) = by_state.entry(run.state).or_insert((Vec::new(), run.since));
            ids.push(id);
            *since = run.since.min(*since);
        }
    }
    let told = |(state, (ids, since)): (ShardState, (Vec<u32>, u64))| {
        let verb = if ids.len() == 1 { "is" } else { "are" };
        let longest = if ids.len() == 1 { "" } else { "the longest " };
        format!("{} {verb} {}, {longest}for {}", in_words(&ids), word(state), ago(whole.at, since))
    };
    let mut told: Vec<(usize, String)> = by_state.into_iter().map(|one| (one.1.0.len(), told(one))).collect();
    told.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    told.into_iter().map(|(_, text)| text).collect()
}

fn word(state: ShardState) -> &'static str {
    match state {
        ShardState::Connected => "connected",
        ShardState::Paused => "waiting for the broker",
        ShardState::Disconnected => "disconnected",
        ShardState::Connecting => "connecting",
        ShardState::Waiting => "waiting to identify",
        ShardState::Identifying => "identifying",
        ShardState::Resuming => "resuming",
        ShardState::Suspended => "suspended",
        ShardState::Ended => "ended",
    }
}

/// What processes miss beside shards and the broker.
fn missing(whole: &Whole) -> Vec<String> {
    let mut by_text: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for process in whole.processes.iter().filter(|process| process.answers) {
        for text in process.report.missing.iter().filter(|text| !is_told_otherwise(text)) {
            by_text.entry(text).or_default().push(&process.report.name);
        }
    }
    by_text.into_iter().map(|(text, names)| format!("{}: {text}", names_in_words(&names))).collect()
}

/// Readiness names shards that are not connected and how the broker is. Shards that others hold, it names, too.
fn is_told_otherwise(missing: &str) -> bool {
    missing.starts_with("the broker ") || (missing.starts_with("shard") && !missing.contains(" is held by "))
}

fn latency(whole: &Whole) -> Option<String> {
    let of = |process: &Process| process.report.publishing.filter(|_| process.answers)?.latency_ms;
    let longest = whole.processes.iter().filter_map(of).max_by(f64::total_cmp).filter(|ms| *ms >= LONG_LATENCY_MS)?;
    Some(format!("RabbitMQ takes {:.1} s to confirm a message", longest / 1000.0))
}

/// Fewer starts than there are shards: a restart that cannot resume would not bring all of them back.
fn starts(whole: &Whole, shards: &[Shard<'_>], identifies: Option<&IdentifiesView>) -> Option<String> {
    let identifies = identifies.filter(|told| (told.remaining as usize) < shards.len().min(told.total as usize))?;
    let until = Duration::from_millis(identifies.resets_at.saturating_sub(whole.at));
    let (left, of) = (identifies.remaining, identifies.total);
    (!until.is_zero()).then(|| format!("{left} of {of} identifies are left for the next {}", span(until)))
}

fn unread(queues: &[&QueueReport]) -> Vec<String> {
    let mut unread: Vec<&&QueueReport> =
        queues.iter().filter(|queue| queue.consumers == 0 && queue.messages > 0 && queue.event.is_some()).collect();
    unread.sort_by_key(|queue| std::cmp::Reverse(queue.messages));
    unread.iter().map(|queue| format!("{} has no consumer, and {} messages", queue.name, queue.messages)).collect()
}

/// `shard 3`, `shards 3, 7-9`; of many parts, the first few.
fn in_words(ids: &[u32]) -> String {
    const LONGEST: usize = 40;
    let text = ranges::to_text(&ids.iter().copied().map(ShardId::new).collect());
    let shards = if ids.len() == 1 { "shard" } else { "shards" };
    if text.len() <= LONGEST {
        return format!("{shards} {}", text.replace(',', ", "));
    }
    let cut = text[..LONGEST].rfind(',').unwrap_or(LONGEST);
    format!("{} shards ({}, …)", ids.len(), text[..cut].replace(',', ", "))
}

fn names_in_words(names: &[&str]) -> String {
    const NAMED: usize = 3;
    match names {
        [first @ .., last] if first.len() < NAMED && !first.is_empty() => format!("{} and {last}", first.join(", ")),
        [one] => (*one).to_owned(),
        names => {
            format!("{} and {} more", names[..NAMED.min(names.len())].join(", "), names.len().saturating_sub(NAMED))
        }
    }
}

fn ago(now: u64, then: u64) -> String {
    span(Duration::from_millis(now.saturating_sub(then)))
}

/// In the largest unit that is full.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::seen::report::Report;
    use crate::seen::simulated;

    fn told(change: impl FnOnce(&mut Whole)) -> Vec<String> {
        let mut whole = simulated::whole(2, 8);
        change(&mut whole);
        let queues: Vec<&QueueReport> =
            whole.processes.first().into_iter().flat_map(|one| &one.report.queues).collect();
        of(&whole, &queues, IdentifiesView::of(&whole).as_ref())
    }

    fn report(whole: &mut Whole, process: usize) -> &mut Report {
        Arc::make_mut(&mut whole.processes[process].report)
    }

    fn shard_is(whole: &mut Whole, process: usize, at: usize, state: ShardState, seconds: u64) {
        let now = whole.at;
        let shard = &mut report(whole, process).shards[at];
        (shard.state, shard.since) = (state, now - seconds * 1000);
    }

    #[test]
    fn a_cluster_that_is_well_has_none() {
        assert_eq!(told(|_| {}), [""; 0]);
    }

    #[test]
    fn the_worst_comes_first_and_each_is_told_once() {
        let told = told(|whole| {
            shard_is(whole, 0, 0, ShardState::Resuming, 40);
            shard_is(whole, 0, 1, ShardState::Resuming, 200);
            shard_is(whole, 0, 2, ShardState::Ended, 1);
            report(whole, 0).shards[2].last_disconnect = Some("4014: disallowed intents".to_owned());
            let missing =
                ["shards 0 and 1 are resuming", "the broker takes nothing: a memory or disk alarm", "it is stopping"];
            report(whole, 0).missing = missing.map(str::to_owned).into();
            let at = whole.at;
            report(whole, 0).shards[3].last_gap = Some(at - 29 * 60_000);
            report(whole, 1).shards[3].last_gap = Some(at - 31 * 60_000);
            report(whole, 0).queues[0].consumers = 0;
            report(whole, 0).queues[0].messages = 12;
            let publishing = report(whole, 0).publishing.as_mut().expect("it publishes");
            publishing.latency_ms = Some(2345.0);
            (publishing.abandoned, publishing.last_abandoned) = (3, Some(at - 300_000));
            whole.processes[1].answers = false;
            whole.processes[1].heard_at -= 12_000;
            report(whole, 0).identifies.as_mut().expect("it has a bot").remaining = 3;
        });
        let expected = [
            "shard 2 ended for good: 4014: disallowed intents",
            "optic-1 has not answered for 12 s; it had shards 4-7",
            "shards 0-1 are resuming, the longest for 3 min",
            "optic-0: 3 messages were given up since the start, the last 5 min ago",
            "shard 3 lost its session: a gap was told 29 min ago",
            "optic-0: it is stopping",
            "RabbitMQ takes 2.3 s to confirm a message",
            "3 of 1000 identifies are left for the next 23 h",
            "gateway:GUILD_CREATE has no consumer, and 12 messages",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn while_rabbitmq_is_away_nobody_else_is_told_of() {
        for (broker, expected) in [
            (
                "disconnected",
                ["optic-0: the broker is not connected", "the other processes cannot be asked while RabbitMQ is away"],
            ),
            (
                "blocked",
                [
                    "optic-0: the broker takes nothing: a memory or disk alarm",
                    "the other processes cannot be asked while RabbitMQ takes nothing",
                ],
            ),
        ] {
            let told = told(|whole| {
                report(whole, 0).broker = broker.to_owned();
                whole.processes[1].answers = false;
            });
            assert_eq!(told, expected);
        }
        // Who has all shards itself, and never heard of anybody else, does not guess.
        let told = told(|whole| {
            *whole = simulated::whole(1, 8);
            whole.reach = Reach::Away;
        });
        assert_eq!(told, [""; 0]);
    }

    #[test]
    fn many_that_are_silent_are_told_in_one_line() {
        let told = told(|whole| {
            *whole = simulated::whole(6, 12);
            for (process, seconds) in [(1, 20), (2, 90), (3, 10), (4, 10)] {
                whole.processes[process].answers = false;
                whole.processes[process].heard_at -= seconds * 1000;
            }
        });
        let expected =
            "optic-1, optic-2, optic-3 and 1 more have not answered, the longest for 90 s; they had shards 2-9";
        assert_eq!(told, [expected]);
    }

    #[test]
    fn losses_are_told_for_half_an_hour() {
        let told = told(|whole| {
            let at = whole.at;
            for process in 0..2 {
                let publishing = report(whole, process).publishing.as_mut().expect("it publishes");
                (publishing.abandoned, publishing.last_abandoned) = (1, Some(at - 31 * 60_000));
                report(whole, process).shards[1].last_gap = Some(at - 60_000 * (1 + process as u64));
            }
            report(whole, 1).publishing.as_mut().expect("it publishes").last_abandoned = Some(at - 3000);
        });
        let expected = [
            "optic-1: 1 message was given up since the start, the last 3 s ago",
            "shards 1, 5 lost their sessions: gaps were told, the last 60 s ago",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_page_without_a_bot_tells_that_nobody_has_one() {
        let without = |whole: &mut Whole| {
            report(whole, 0).mode = Mode::NoBot;
            report(whole, 0).shards.clear();
            report(whole, 0).identifies = None;
            report(whole, 0).shard_count = 0;
        };
        let told = told(|whole| {
            without(whole);
            whole.processes[1].answers = false;
            whole.processes[1].heard_at -= 12_000;
        });
        assert_eq!(told[0], "no process with a bot answers: optic-1 was the last, 12 s ago");
        assert_eq!(told[1], "optic-1 has not answered for 12 s; it had shards 4-7");
    }

    #[test]
    fn of_many_the_worst_are_told_and_how_many_more_there_are() {
        let told = told(|whole| {
            report(whole, 0).missing = (0..30).map(|n| format!("its part {n} is not there")).collect();
        });
        assert_eq!((told.len(), told.last().map(String::as_str)), (MOST, Some("and 21 more")));
    }

    #[test]
    fn shards_processes_and_times_are_named_in_few_words() {
        assert_eq!(in_words(&[3]), "shard 3");
        assert_eq!(in_words(&[0, 1, 7]), "shards 0-1, 7");
        let many: Vec<u32> = (0..100).map(|n| n * 2).collect();
        assert_eq!(in_words(&many), "100 shards (0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, …)");
        assert_eq!(names_in_words(&["a"]), "a");
        assert_eq!(names_in_words(&["a", "b", "c"]), "a, b and c");
        assert_eq!(names_in_words(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
        for (seconds, words) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")] {
            assert_eq!(span(Duration::from_secs(seconds)), words);
        }
    }
}
