//! All that connections share: sessions, limits, counts, switches. Sans-I/O; one lock guards it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{Settings, Start};
use super::limits::{Gate, SessionStarts};
use super::protocol::{Identify, Resume};
use super::received::Commands;
use super::session::{ConnectionId, Holder, ResumeError, Session, SessionView, What};
use super::shards::Shards;
use super::stats::Stats;
use super::template::{BOT, guild_id};
use super::traffic::Catalogue;
use crate::discord::ids::{Seq, SessionId};

/// The simulated Discord.
pub struct World {
    /// How it behaves.
    pub settings: Settings,
    /// What happened.
    pub stats: Stats,
    /// The traffic that runs or will run.
    pub traffic: Traffic,
    /// So many of the next resumes get op 9 false.
    pub refuse_resumes: u64,
    /// So many of the next connections get op 7 in place of Hello.
    pub reconnect_at_hello: u64,
    /// When each guild's members were asked for.
    pub members: Gate<u64>,
    /// How each shard fares.
    pub shards: Shards,
    /// The commands that came in.
    pub commands: Commands,
    catalogue: Arc<Catalogue>,
    sessions: BTreeMap<u64, Session>,
    by_id: HashMap<SessionId, u64>,
    next_session: u64,
    /// The session that gets the next paced event is the first after this one.
    turn: u64,
    identifies: Gate<u32>,
    starts: SessionStarts,
    token_reset: bool,
}

/// The traffic that runs.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Whether it does.
    pub running: bool,
    /// Events a second over all sessions; 0: a flood.
    pub rate: f64,
    /// Events that a session gets in all.
    pub events: Option<u64>,
}

/// What an identify that is well-formed deserves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identified {
    /// A session.
    Session(SessionId),
    /// Op 9 false: too early after another one of its key.
    TooEarly,
    /// 4004, and for every session there is: the day's starts are used up.
    TokenReset,
}

/// What a resume deserves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// The session from this number on; the connection that had it must go.
    Session(SessionId, Seq, Option<ConnectionId>),
    /// Op 9 false.
    Invalid,
    /// 4007.
    Ahead,
}

impl World {
    /// Without sessions.
    pub fn new(settings: Settings, catalogue: Arc<Catalogue>) -> Self {
        Self {
            stats: Stats::default(),
            traffic: Traffic { running: settings.start == Start::AtOnce, rate: settings.rate, events: settings.events },
            refuse_resumes: 0,
            reconnect_at_hello: 0,
            members: Gate::new(settings.members_window),
            shards: Shards::default(),
            commands: Commands::default(),
            catalogue,
            sessions: BTreeMap::new(),
            by_id: HashMap::new(),
            next_session: 0,
            turn: 0,
            identifies: Gate::new(settings.identify_window),
            starts: SessionStarts::new(settings.session_starts),
            token_reset: false,
            settings,
        }
    }

    /// Whether this is the bot's token.
    pub fn token_is_right(&self, token: &str) -> bool {
        let right = match &self.settings.token {
            Some(expected) => expected.expose() == token,
            None => !token.is_empty(),
        };
        right && !self.token_reset
    }

    /// Total, remaining and time until a reset, for `/gateway/bot`.
    pub fn session_starts(&mut self, now: Instant) -> (u32, u32, Duration) {
        (self.starts.total(), self.starts.remaining(now), self.starts.reset_after(now))
    }

    /// How many guilds this identify's shard has.
    pub fn guilds_of(&self, identify: &Identify) -> u64 {
        self.catalogue.guilds_of(identify.shard)
    }

    /// Starts a session: READY, then a GUILD_CREATE for each guild.
    pub fn identify(&mut self, identify: &Identify, by: ConnectionId, url: &str, now: Instant) -> Identified {
        let key = identify.shard.id().get() % self.settings.max_concurrency.max(1);
        if self.identifies.take(key, now).is_err() {
            self.stats.identifies_too_early += 1;
            return Identified::TooEarly;
        }
        if !self.starts.take(now) {
            self.token_reset = true;
            self.stats.mistake("identified with no session start left");
            self.sessions.clear();
            self.by_id.clear();
            return Identified::TokenReset;
        }
        self.stats.identifies += 1;
        self.shards.identified(identify.shard, by, now);
        self.next_session += 1;
        let number = self.next_session;
        let id = SessionId::new(format!("{:016x}{number:016x}", super::template::mix(number ^ self.settings.seed)));
        let plan = self.catalogue.plan(identify.shard, identify.intents);
        let mut session = Session::new(id.clone(), identify.shard, plan, by, self.settings.replay_events);
        let ready = ready(&session, identify, url);
        session.push("READY", What::Literal("READY".into(), ready.into_bytes().into()));
        if identify.intents.contains(crate::discord::intents::Intents::GUILDS) {
            for n in 0..session.plan.guilds() {
                session.push("GUILD_CREATE", What::Guild(n));
            }
        }
        self.stats.events += session.last().get();
        session.left = self.traffic.events;
        if self.settings.prebuilt && self.traffic.rate == 0.0 && self.traffic.events.is_some() {
            session.flood_after = Some(session.last());
        }
        self.by_id.insert(id.clone(), number);
        self.sessions.insert(number, session);
        Identified::Session(id)
    }

    /// Takes a session up again: what it held above `seq`, then RESUMED.
    pub fn resume(&mut self, resume: &Resume, by: ConnectionId, now: Instant) -> Resumed {
        self.expire(now);
        let refused = self.refuse_resumes > 0;
        self.refuse_resumes = self.refuse_resumes.saturating_sub(1);
        if refused {
            self.forget(&resume.session_id);
        }
        let Some(session) = self.session(&resume.session_id) else {
            self.stats.resumes_refused += 1;
            return Resumed::Invalid;
        };
        match session.after(resume.seq) {
            Err(ResumeError::Ahead) => Resumed::Ahead,
            Err(ResumeError::Lost) => {
                self.forget(&resume.session_id);
                self.stats.resumes_refused += 1;
                Resumed::Invalid
            }
            Ok(_) => {
                let former = match std::mem::replace(&mut session.held_by, Holder::Connection(by)) {
                    Holder::Connection(id) => Some(id),
                    Holder::Nobody(_) => None,
                };
                // What was not written yet is not a replay, but not prebuilt either.
                session.flood_after = None;
                session.push("RESUMED", What::Resumed(by));
                let shard = session.shard;
                self.shards.resumed(shard, by, former, now);
                self.stats.resumes += 1;
                Resumed::Session(resume.session_id.clone(), resume.seq, former)
            }
        }
    }

    /// A connection is gone; `ended`: the client closed with 1000 or 1001, so that its session is over.
    pub fn disconnected(&mut self, id: &SessionId, by: ConnectionId, ended: bool, now: Instant) {
        self.shards.gone(by, now);
        match self.session(id) {
            Some(session) if session.held_by == Holder::Connection(by) => {
                session.held_by = Holder::Nobody(now);
                if ended {
                    self.forget(id);
                }
            }
            _ => {}
        }
    }

    /// The session with this id.
    pub fn session(&mut self, id: &SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(self.by_id.get(id)?)
    }

    /// Adds an event that no traffic makes.
    pub fn push(&mut self, id: &SessionId, name: &str, what: What) {
        if let Some(session) = self.session(id) {
            session.push(name, what);
            self.stats.events += 1;
        }
    }

    /// Adds up to `most` events of the traffic to a session; how many it was.
    pub fn produce(&mut self, id: &SessionId, most: u64) -> u64 {
        let Some(number) = self.by_id.get(id) else { return 0 };
        let catalogue = Arc::clone(&self.catalogue);
        let Some(session) = self.sessions.get_mut(number) else { return 0 };
        let count = most.min(session.left.unwrap_or(u64::MAX));
        for made in 0..count {
            let plan = Arc::clone(&session.plan);
            let Some(name) = catalogue.name(&plan, session.next_traffic) else {
                // No event passes its intents.
                session.left = Some(0);
                self.stats.events += made;
                return made;
            };
            session.push(name, What::Traffic(session.next_traffic));
            session.next_traffic += 1;
        }
        if let Some(left) = &mut session.left {
            *left -= count;
        }
        self.stats.events += count;
        count
    }

    /// Adds one event of the traffic to the session whose turn it is; whether one could take it.
    pub fn produce_next(&mut self) -> bool {
        let away = self.settings.produce_while_away;
        let wants =
            |session: &Session| session.left != Some(0) && (away || matches!(session.held_by, Holder::Connection(_)));
        let mut round = self.sessions.range(self.turn + 1..).chain(self.sessions.range(..=self.turn));
        let Some((&number, session)) = round.find(|(_, session)| wants(session)) else { return false };
        let id = session.id.clone();
        self.turn = number;
        self.produce(&id, 1);
        true
    }

    /// Begins traffic anew: each session gets `events` more.
    pub fn start(&mut self, rate: f64, events: Option<u64>) {
        let built = self.settings.prebuilt && rate == 0.0;
        self.traffic = Traffic { running: true, rate, events };
        for session in self.sessions.values_mut() {
            if !(built && session.flood_after.is_some()) {
                session.left = events;
            }
            session.news.notify_one();
        }
    }

    /// Ends traffic.
    pub fn stop(&mut self) {
        self.traffic.running = false;
    }

    /// Forgets one session.
    pub fn forget(&mut self, id: &SessionId) {
        if let Some(number) = self.by_id.remove(id) {
            self.sessions.remove(&number);
        }
    }

    /// Forgets sessions, of one shard or all.
    pub fn forget_all(&mut self, shard: Option<u32>) {
        let gone: Vec<_> = self.ids(shard).collect();
        gone.iter().for_each(|id| self.forget(id));
    }

    /// Sessions' ids, of one shard or all.
    pub fn ids(&self, shard: Option<u32>) -> impl Iterator<Item = SessionId> + '_ {
        let wanted = move |session: &&Session| shard.is_none_or(|shard| session.shard.id().get() == shard);
        self.sessions.values().filter(wanted).map(|session| session.id.clone())
    }

    /// Every session, as shown.
    pub fn views(&self) -> Vec<SessionView> {
        self.sessions.values().map(Session::view).collect()
    }

    /// Forgets sessions that were without a connection for too long.
    pub fn expire(&mut self, now: Instant) {
        let lifetime = self.settings.session_lifetime;
        let is_over = |session: &&Session| match session.held_by {
            Holder::Nobody(since) => now.duration_since(since) >= lifetime,
            Holder::Connection(_) => false,
        };
        let over: Vec<_> = self.sessions.values().filter(is_over).map(|session| session.id.clone()).collect();
        self.stats.sessions_expired += over.len() as u64;
        over.iter().for_each(|id| self.forget(id));
    }
}

fn ready(session: &Session, identify: &Identify, url: &str) -> String {
    let guilds: Vec<_> = (0..session.plan.guilds())
        .map(|n| format!(r#"{{"unavailable":true,"id":"{}"}}"#, guild_id(session.plan.guild(n))))
        .collect();
    let shard = match identify.sharded {
        true => format!(r#""shard":[{},{}],"#, session.shard.id(), session.shard.count()),
        false => String::new(),
    };
    format!(
        concat!(
            r#"{{"v":{version},"user_settings":{{}},"user":{user},"session_type":"normal",{shard}"session_id":"{id}","#,
            r#""resume_gateway_url":{url},"relationships":[],"private_channels":[],"presences":[],"guilds":[{guilds}],"#,
            r#""guild_join_requests":[],"application":{{"id":"{bot}","flags":565248}},"_trace":["[\"optic-simulator\"]"]}}"#
        ),
        version = identify.version,
        user = user(),
        shard = shard,
        id = session.id,
        url = serde_json::Value::from(url),
        guilds = guilds.join(","),
        bot = BOT,
    )
}

/// The bot's user object.
pub fn user() -> String {
    format!(
        concat!(
            r#"{{"verified":true,"username":"Optician","mfa_enabled":true,"id":"{}","global_name":null,"flags":0,"#,
            r#""email":null,"discriminator":"4821","bot":true,"avatar":"85d04fcc20b6fa49ab8201846cbf8833"}}"#
        ),
        BOT
    )
}
