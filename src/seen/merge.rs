//! The reports of all processes as one [`Whole`]: who answers, who does not any more, and who is forgotten.
//!
//! Sans-I/O: the time is handed in. It goes by rounds: in each, all are asked, and whoever answers is heard. Only rounds in which
//! the question went out count against a process: while RabbitMQ takes no messages nobody can answer, and nobody is forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::history::History;
use super::question::{Since, Told};
use super::report::{Mode, Report};
use super::whole::{Gone, Process, Reach, Whole};
use crate::cluster::node::NodeId;

/// Who has not been heard for so many rounds does not answer.
const SILENT: u32 = 3;

/// Who was asked in so many rounds and did not answer is forgotten: a minute, with a round every other second.
const FORGOTTEN: u32 = 30;

/// More processes than a bot ever has: what comes beyond them is passed over.
const MOST_PROCESSES: usize = 1024;

/// So many are asked for more than the others in one round.
const MOST_BEHIND: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Merge {
    own: NodeId,
    known: BTreeMap<NodeId, Known>,
    history: History,
    /// Whether this round's question went out; none: there was no round yet.
    is_asked: Option<bool>,
    reach: Reach,
    /// The process with a bot that was forgotten last, as long as no other is heard.
    gone: Option<Gone>,
}

#[derive(Debug)]
struct Known {
    report: Arc<Report>,
    /// Unix milliseconds, by our clock.
    heard_at: u64,
    /// In this round.
    is_heard: bool,
    /// Rounds in a row without an answer,
    silent: u32,
    /// and those of them whose question went out.
    in_vain: u32,
}

impl Merge {
    /// Knows nobody yet. `own` is this process, which is not asked.
    pub fn new(own: NodeId) -> Self {
        Self {
            own,
            known: BTreeMap::new(),
            history: History::default(),
            is_asked: None,
            reach: Reach::Asking,
            gone: None,
        }
    }

    /// Ends a round and begins the next: what all are to be asked.
    pub fn begin(&mut self, at: u64) -> Since {
        let is_asked = match self.is_asked.replace(false) {
            Some(false) => {
                self.cannot_ask();
                false
            }
            was_asked => was_asked.is_some(),
        };
        for (_, known) in self.known.iter_mut().filter(|(node, _)| **node != self.own) {
            if std::mem::take(&mut known.is_heard) {
                (known.silent, known.in_vain) = (0, 0);
            } else {
                known.silent = known.silent.saturating_add(1);
                known.in_vain += u32::from(is_asked);
            }
        }
        let Self { known, own, .. } = self;
        let began = |name: &str, after: u64| {
            known.values().any(|known| known.report.name == name && known.report.started_at > after)
        };
        let is_forgotten = |node: &NodeId, known: &Known| {
            // It was started anew.
            let is_replaced = known.silent > 0 && began(&known.report.name, known.heard_at);
            node != own && (known.in_vain >= FORGOTTEN || is_replaced)
        };
        let forgotten: Vec<NodeId> =
            known.iter().filter(|(node, known)| is_forgotten(node, known)).map(|(node, _)| node.clone()).collect();
        for node in forgotten {
            if let Some(known) = self.known.remove(&node).filter(|known| has_bot(&known.report))
                && self.gone.as_ref().is_none_or(|gone| gone.heard_at <= known.heard_at)
            {
                let Known { report, heard_at, .. } = known;
                self.gone = Some(Gone { name: report.name.clone(), heard_at, shard_count: report.shard_count });
            }
        }
        self.since(at)
    }

    /// What is lacking of all, and of single ones more than that.
    fn since(&self, at: u64) -> Since {
        let now = at / 1000;
        let latest = || {
            let others = self.known.keys().filter(|node| **node != self.own);
            others.map(|node| (node, self.history.latest(node).min(now)))
        };
        // Before anybody is known, all of them are asked for all.
        let samples_after = latest().map(|(_, at)| at).max().unwrap_or_default();
        let behind = latest().filter(|(_, at)| *at < samples_after).take(MOST_BEHIND);
        Since { samples_after, behind: behind.map(|(node, at)| (node.clone(), at)).collect() }
    }

    /// What is lacking of this process itself.
    pub fn own_since(&self) -> u64 {
        self.history.latest(&self.own)
    }

    /// This round's question went out.
    pub fn asked(&mut self) {
        self.is_asked = Some(true);
        if self.reach == Reach::Away {
            self.reach = Reach::Asking;
        }
    }

    /// There is no way to ask.
    pub fn cannot_ask(&mut self) {
        self.reach = Reach::Away;
    }

    /// Who was asked in this round has had the time to answer.
    pub fn settle(&mut self) {
        if self.reach == Reach::Asking && self.is_asked == Some(true) {
            self.reach = Reach::All;
        }
    }

    /// Whether nobody knows yet who is there.
    pub fn is_asking(&self) -> bool {
        self.reach == Reach::Asking
    }

    /// Takes an answer in, of whichever round.
    pub fn take(&mut self, told: Told, at: u64) {
        let node = told.report.node.clone();
        if self.known.len() >= MOST_PROCESSES && !self.known.contains_key(&node) {
            return;
        }
        if has_bot(&told.report) {
            self.gone = None;
        }
        self.history.take(&node, told.samples_after, &told.samples, at / 1000);
        let known = Known { report: Arc::new(told.report), heard_at: at, is_heard: true, silent: 0, in_vain: 0 };
        self.known.insert(node, known);
    }

    /// Whether all that answer have done so in this round.
    pub fn is_complete(&self) -> bool {
        let others = self.known.iter().filter(|(node, _)| **node != self.own);
        others.map(|(_, known)| known).all(|known| known.is_heard || known.silent > 0)
    }

    /// Whether any process serves 신경; none while no other process is known.
    pub fn serves_singyeong(&self) -> Option<bool> {
        let knows_others = self.known.keys().any(|node| *node != self.own);
        knows_others.then(|| self.known.values().any(|known| known.report.singyeong.is_some()))
    }

    /// Nobody looks: who is there now will not be known when somebody looks again. The history goes on where it was.
    pub fn close(&mut self) {
        self.known.clear();
        (self.is_asked, self.reach, self.gone) = (None, Reach::Asking, None);
    }

    /// All that is known.
    pub fn whole(&mut self, at: u64) -> Whole {
        let mut processes: Vec<Process> = self
            .known
            .values()
            .map(|known| Process {
                report: known.report.clone(),
                heard_at: known.heard_at,
                answers: known.silent < SILENT,
            })
            .collect();
        processes.sort_by(|a, b| (&a.report.name, &a.report.node).cmp(&(&b.report.name, &b.report.node)));
        let (here, history) = (self.own.clone(), self.history.shown(at / 1000));
        Whole { at, here, processes, reach: self.reach, gone: self.gone.clone(), history }
    }
}

fn has_bot(report: &Report) -> bool {
    report.mode != Mode::NoBot
}

#[cfg(test)]
mod tests {
    use super::super::question::VERSION;
    use super::super::sample::Sample;
    use super::*;
    use crate::seen::simulated::idle;

    const AT: u64 = 1_000_000_000;

    /// Of a process that began before all that happens here.
    fn report(name: &str) -> Report {
        Report { started_at: 1000, at: 2000, ..idle(name) }
    }

    fn node(name: &str) -> NodeId {
        report(name).node
    }

    fn told(name: &str, after: u64, samples: &[u64]) -> Told {
        let samples =
            samples.iter().map(|at| Sample { at: *at, connected: 1, heard: 1, ..Sample::default() }).collect();
        Told { version: VERSION, report: report(name), samples_after: after, samples }
    }

    /// Who is shown, and whether it answers.
    fn shown(merge: &mut Merge) -> Vec<(String, bool)> {
        let whole = merge.whole(AT);
        whole.processes.into_iter().map(|process| (process.report.name.clone(), process.answers)).collect()
    }

    /// A round in which the question goes out and these answer.
    fn round(merge: &mut Merge, answering: &[&str]) -> Since {
        let since = merge.begin(AT);
        merge.asked();
        merge.take(told("own", merge.own_since(), &[]), AT);
        for name in answering {
            merge.take(told(name, since.after(&node(name)), &[]), AT);
        }
        since
    }

    fn merge() -> Merge {
        Merge::new(node("own"))
    }

    #[test]
    fn who_is_silent_for_three_rounds_does_not_answer_and_is_forgotten_after_a_minute() {
        let mut merge = merge();
        let names = |b: &[(&str, bool)]| -> Vec<(String, bool)> {
            b.iter().map(|(name, answers)| ((*name).to_owned(), *answers)).collect()
        };
        round(&mut merge, &["b", "a"]);
        assert_eq!(shown(&mut merge), names(&[("a", true), ("b", true), ("own", true)]));
        for _ in 0..SILENT {
            round(&mut merge, &["a"]);
            assert_eq!(shown(&mut merge), names(&[("a", true), ("b", true), ("own", true)]));
        }
        for _ in SILENT..FORGOTTEN {
            round(&mut merge, &["a"]);
            assert_eq!(shown(&mut merge), names(&[("a", true), ("b", false), ("own", true)]));
        }
        round(&mut merge, &["a"]);
        assert_eq!(shown(&mut merge), names(&[("a", true), ("own", true)]));
        round(&mut merge, &["a", "b"]);
        assert_eq!(shown(&mut merge), names(&[("a", true), ("b", true), ("own", true)]));
    }

    #[test]
    fn nobody_is_forgotten_while_nobody_can_be_asked() {
        let mut merge = merge();
        round(&mut merge, &["a"]);
        for _ in 0..10 * FORGOTTEN {
            merge.begin(AT);
            merge.take(told("own", merge.own_since(), &[]), AT);
        }
        assert_eq!(shown(&mut merge), [("a".to_owned(), false), ("own".to_owned(), true)]);
        round(&mut merge, &["a"]);
        assert_eq!(shown(&mut merge), [("a".to_owned(), true), ("own".to_owned(), true)]);
    }

    #[test]
    fn who_is_not_there_is_known_once_all_could_answer() {
        let mut merge = merge();
        let reach = |merge: &mut Merge| merge.whole(AT).reach;
        assert_eq!(reach(&mut merge), Reach::Asking);
        merge.begin(AT);
        merge.settle();
        assert_eq!(reach(&mut merge), Reach::Asking, "the question is on its way");
        merge.asked();
        assert_eq!(reach(&mut merge), Reach::Asking, "and the answers are");
        merge.settle();
        assert_eq!(reach(&mut merge), Reach::All);
        merge.begin(AT);
        assert_eq!(reach(&mut merge), Reach::All);
        merge.begin(AT);
        merge.settle();
        assert_eq!(reach(&mut merge), Reach::Away, "the last question did not go out");
        merge.asked();
        assert_eq!(reach(&mut merge), Reach::Asking);
        merge.settle();
        assert_eq!(reach(&mut merge), Reach::All);
        merge.close();
        assert_eq!(reach(&mut merge), Reach::Asking);
    }

    #[test]
    fn the_last_process_with_a_bot_is_remembered_until_there_is_another() {
        let own = Told { report: Report { mode: Mode::NoBot, ..report("own") }, ..told("own", 0, &[]) };
        let (mut merge, mut at) = (merge(), AT);
        let mut round = |merge: &mut Merge, answering: &[&str]| {
            at += 2000;
            merge.begin(at);
            merge.asked();
            merge.take(own.clone(), at);
            for name in answering {
                let report = Report { shard_count: 8, ..report(name) };
                merge.take(Told { report, ..told(name, 0, &[]) }, at);
            }
            merge.whole(at).gone
        };
        assert_eq!(round(&mut merge, &["a", "b"]), None);
        round(&mut merge, &["b"]);
        let gone = (0..=FORGOTTEN).map(|_| round(&mut merge, &[])).last().flatten();
        assert_eq!(gone, Some(Gone { name: "b".to_owned(), heard_at: AT + 4000, shard_count: 8 }));
        assert_eq!(round(&mut merge, &["c"]), None);
    }

    #[test]
    fn who_was_started_anew_takes_the_place_of_its_former_run() {
        let mut merge = merge();
        let again = || {
            let report = Report { node: NodeId::of_run("a", 2), started_at: AT + 500, ..report("a") };
            Told { report, ..told("a", 0, &[]) }
        };
        round(&mut merge, &["a", "b"]);
        round(&mut merge, &["b"]);
        merge.take(again(), AT + 1000);
        assert_eq!(merge.whole(AT).processes.len(), 4);
        round(&mut merge, &["b"]);
        let nodes: Vec<NodeId> = merge.whole(AT).processes.iter().map(|process| process.report.node.clone()).collect();
        assert_eq!(nodes, [NodeId::of_run("a", 2), node("b"), node("own")]);
    }

    #[test]
    fn a_round_is_complete_when_all_that_answered_before_have() {
        let mut merge = merge();
        round(&mut merge, &["a", "b"]);
        assert!(merge.is_complete());
        let since = merge.begin(AT);
        merge.asked();
        merge.take(told("a", since.after(&node("a")), &[]), AT);
        assert!(!merge.is_complete());
        // The next one is not waited for once more.
        round(&mut merge, &["a"]);
        assert!(merge.is_complete());
    }

    #[test]
    fn each_is_asked_for_the_samples_that_are_lacking() {
        let (mut merge, now) = (merge(), AT / 1000);
        assert_eq!(merge.begin(AT), Since::default());
        merge.take(told("a", 0, &[now - 20, now - 15]), AT);
        merge.take(told("b", 0, &[now - 20]), AT);
        merge.take(told("own", 0, &[now - 10]), AT);
        let since = merge.begin(AT);
        assert_eq!(since, Since { samples_after: now - 15, behind: [(node("b"), now - 20)].into() });
        // One that is new heard of the question, too: of it there is more to come.
        merge.take(told("c", since.after(&node("c")), &[now - 10]), AT);
        let since = merge.begin(AT);
        assert_eq!(since.behind, [(node("b"), now - 20), (node("c"), 0)].into());
        merge.take(told("c", 0, &[now - 15, now - 10]), AT);
        let connected: Vec<u32> = merge.whole(AT).history.iter().map(|sample| sample.connected).collect();
        assert_eq!(connected, [2, 2, 2], "a and b, a and c, c and our own");
    }

    #[test]
    fn after_a_pause_the_history_goes_on() {
        let (mut merge, now) = (merge(), AT / 1000);
        merge.begin(AT);
        merge.take(told("a", 0, &[now - 15]), AT);
        merge.close();
        assert_eq!(merge.whole(AT).processes, []);
        assert_eq!(merge.begin(AT), Since::default(), "who is there now may be others");
        merge.take(told("a", 0, &[now - 15, now - 10]), AT);
        let connected: Vec<u32> = merge.whole(AT).history.iter().map(|sample| sample.connected).collect();
        assert_eq!(connected, [1, 1]);
    }

    #[test]
    fn processes_are_bounded() {
        let mut merge = merge();
        for n in 0..MOST_PROCESSES + 10 {
            merge.take(told(&n.to_string(), 0, &[]), AT);
        }
        assert_eq!(merge.whole(AT).processes.len(), MOST_PROCESSES);
    }

    #[test]
    fn whether_clients_are_served_is_known_once_others_are() {
        let mut merge = merge();
        merge.take(told("own", 0, &[]), AT);
        assert_eq!(merge.serves_singyeong(), None);
        merge.take(told("a", 0, &[]), AT);
        assert_eq!(merge.serves_singyeong(), Some(false));
        let report = Report { singyeong: Some(Default::default()), ..report("b") };
        merge.take(Told { report, ..told("b", 0, &[]) }, AT);
        assert_eq!(merge.serves_singyeong(), Some(true));
    }
}
