//! What each packet of a client deserves: the rules of one connection.
//!
//! Sans-I/O: packets and `now` go in, answers come out. Discord's documentation: "Gateway", "Gateway Events",
//! "Opcodes and Status Codes"; where it is silent, docs/simulator.md says what is done here.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::limits::SlidingWindow;
use super::received::Received;
use super::session::{ConnectionId, Holder, What};
use super::template::{guild_id, guild_number, member_id};
use super::terms;
use super::traffic::{CHUNK, members_chunk};
use super::websocket::{Kind, MAX_MESSAGE};
use super::world::{Identified, Resumed, World};
use crate::discord::close_code::CloseCode;
use crate::discord::compression::Encoding;
use crate::discord::ids::{Seq, SessionId, Shard, ShardId};
use crate::discord::intents::Intents;
use crate::discord::opcode::{Direction, Opcode};

/// API versions that Discord still speaks.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 9..=10;

/// What a packet deserves, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A packet that is no event.
    Packet(String),
    /// From now on the session's events above this number.
    Attach {
        /// The session.
        session: SessionId,
        /// The number.
        after: Seq,
        /// Whether payloads are to be compressed.
        compress: bool,
    },
    /// The connection that had the session must go.
    Evict(ConnectionId),
    /// Every connection must go, by 4004.
    EvictAll,
    /// The end of this connection.
    Close(CloseCode, &'static str),
}

/// A well-formed identify.
#[derive(Clone, Debug)]
pub struct Identify {
    /// Its shard, `[0, 1]` where it has none.
    pub shard: Shard,
    /// Whether it said so.
    pub sharded: bool,
    /// Its intents.
    pub intents: Intents,
    /// The connection's API version.
    pub version: u32,
}

/// A well-formed resume.
#[derive(Clone, Debug, Deserialize)]
pub struct Resume {
    token: String,
    /// Which session.
    pub session_id: SessionId,
    /// The last number that the client has.
    pub seq: Seq,
}

/// One connection's rules.
pub struct Protocol {
    id: ConnectionId,
    version: u32,
    encoding: Encoding,
    url: String,
    session: Option<SessionId>,
    sends: SlidingWindow,
    presences: SlidingWindow,
    last_heartbeat: Instant,
    patience: Duration,
}

/// A packet's end: what to close with.
type Refusal = (CloseCode, &'static str);

/// Why a connection must go that had a session until another one resumed it.
pub const TAKEN_UP: &str = "the session was taken up by another connection";

/// Updates of presence, and within which time; more are ignored.
const PRESENCES: (usize, Duration) = (5, Duration::from_secs(20));

impl Protocol {
    /// A fresh connection that called us `url`.
    pub fn new(id: ConnectionId, version: u32, encoding: Encoding, url: String, world: &World, now: Instant) -> Self {
        let settings = &world.settings;
        Self {
            id,
            version,
            encoding,
            url,
            session: None,
            sends: SlidingWindow::new(settings.send_limit, settings.send_window),
            presences: SlidingWindow::new(PRESENCES.0, PRESENCES.1),
            last_heartbeat: now,
            patience: settings.heartbeat_interval * 3 / 2,
        }
    }

    /// Op 10.
    pub fn hello(&self, world: &World) -> Answer {
        let interval = world.settings.heartbeat_interval.as_millis();
        Answer::Packet(format!(
            r#"{{"t":null,"s":null,"op":10,"d":{{"heartbeat_interval":{interval},"_trace":["[\"optic-simulator\"]"]}}}}"#
        ))
    }

    /// When the client must have sent a heartbeat.
    pub fn deadline(&self) -> Instant {
        self.last_heartbeat + self.patience
    }

    /// Gives the client a whole interval again: it could not be heard.
    pub fn pardon(&mut self, now: Instant) {
        self.last_heartbeat = now;
    }

    /// Takes a message.
    pub fn handle(&mut self, kind: Kind, message: &[u8], now: Instant, world: &mut World) -> Vec<Answer> {
        world.stats.packets += 1;
        let mut answers = Vec::new();
        if let Err((code, why)) = self.packet(kind, message, now, world, &mut answers) {
            answers.push(Answer::Close(code, why));
        }
        answers
    }

    fn packet(
        &mut self,
        kind: Kind,
        message: &[u8],
        now: Instant,
        world: &mut World,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Refusal> {
        if !self.sends.take(now) {
            return Err((CloseCode::RateLimited, "over 120 packets in 60 seconds"));
        }
        if message.len() > MAX_MESSAGE {
            return Err((CloseCode::DecodeError, "message is over 4,096 bytes"));
        }
        let packet = self.read(kind, message).map_err(|why| (CloseCode::DecodeError, why))?;
        let packet = packet.as_object().ok_or((CloseCode::DecodeError, "packet is not an object"))?;
        let op = packet.get("op").and_then(Value::as_u64).and_then(Opcode::from_code);
        let op = op.filter(|op| op.direction() != Direction::Receive);
        let op = op.ok_or((CloseCode::UnknownOpcode, "unknown opcode"))?;
        let d = packet.get("d").unwrap_or(&Value::Null);
        match op {
            Opcode::Heartbeat => self.heartbeat(d, now, world, answers),
            Opcode::Identify => self.identify(d, now, world, answers),
            Opcode::Resume => self.resume(d, now, world, answers),
            _ => {
                let not_yet = (CloseCode::NotAuthenticated, "sent before identify or resume");
                let id = self.session.clone().ok_or(not_yet)?;
                let Some(session) = world.session(&id) else {
                    return Err((CloseCode::NotAuthenticated, "the session was invalidated"));
                };
                if session.held_by != Holder::Connection(self.id) {
                    return Err((CloseCode::UnknownError, TAKEN_UP));
                }
                let shard = session.shard.id().get();
                self.command(op, d, &id, now, world)?;
                world.commands.push(Received { at: now, connection: self.id, shard, op, d: d.clone() });
                Ok(())
            }
        }
    }

    fn read(&self, kind: Kind, message: &[u8]) -> Result<Value, &'static str> {
        match (self.encoding, kind) {
            (Encoding::Json, Kind::Text) => serde_json::from_slice(message).map_err(|_| "packet is not JSON"),
            (Encoding::Json, Kind::Binary) => Err("JSON goes in text messages"),
            (Encoding::Etf, Kind::Binary) => terms::read(message),
            (Encoding::Etf, Kind::Text) => Err("ETF goes in binary messages"),
        }
    }

    fn heartbeat(
        &mut self,
        d: &Value,
        now: Instant,
        world: &mut World,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Refusal> {
        if !(d.is_null() || d.is_u64()) {
            return Err(wrong("a heartbeat's d is a sequence number or null"));
        }
        world.stats.heartbeats += 1;
        self.last_heartbeat = now;
        if let Some(session) = self.session.as_ref().and_then(|id| world.session(id))
            && session.held_by == Holder::Connection(self.id)
        {
            session.heartbeat = d.as_u64();
        }
        answers.push(Answer::Packet(r#"{"t":null,"s":null,"op":11,"d":null}"#.to_owned()));
        Ok(())
    }

    fn identify(
        &mut self,
        d: &Value,
        now: Instant,
        world: &mut World,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Refusal> {
        if self.session.is_some() {
            return Err((CloseCode::AlreadyAuthenticated, "identified twice"));
        }
        let identify = self.read_identify(d, world)?;
        match world.identify(&identify, self.id, &self.url, now) {
            Identified::Session(session) => {
                self.session = Some(session.clone());
                let compress = d["compress"] == true;
                answers.push(Answer::Attach { session, after: Seq::ZERO, compress });
            }
            Identified::TooEarly => answers.push(invalid_session()),
            Identified::TokenReset => answers.push(Answer::EvictAll),
        }
        Ok(())
    }

    fn read_identify(&self, d: &Value, world: &World) -> Result<Identify, Refusal> {
        let settings = &world.settings;
        let token = d["token"].as_str().ok_or(wrong("identify: token is a string"))?;
        if !world.token_is_right(token) {
            return Err((CloseCode::AuthenticationFailed, "wrong token"));
        }
        if !d["properties"].is_object() {
            return Err(wrong("identify: properties is an object"));
        }
        if !d["compress"].is_null() && !d["compress"].is_boolean() {
            return Err(wrong("identify: compress is a boolean"));
        }
        let threshold = &d["large_threshold"];
        if !threshold.is_null() && !threshold.as_u64().is_some_and(|number| (50..=250).contains(&number)) {
            return Err(wrong("identify: large_threshold is from 50 to 250"));
        }
        if !d["presence"].is_null() && !is_presence(&d["presence"]) {
            return Err(wrong("identify: presence is not valid"));
        }
        let (id, count) = match &d["shard"] {
            Value::Null => (0, 1),
            shard => <(u32, u32)>::deserialize(shard).map_err(|_| wrong("identify: shard is [id, count]"))?,
        };
        let shard =
            Shard::new(ShardId::new(id), count).filter(|_| count.is_multiple_of(settings.shard_multiple.max(1)));
        let shard = shard.ok_or((CloseCode::InvalidShard, "no such shard"))?;
        let intents = d["intents"].as_i64().ok_or(wrong("identify: intents is an integer"))?;
        let intents = Intents::from_bits(intents as u64);
        if !Intents::ALL.contains(intents) {
            return Err((CloseCode::InvalidIntents, "intents hold a bit that does not exist"));
        }
        if !settings.granted.contains(intents.intersection(Intents::PRIVILEGED)) {
            return Err((CloseCode::DisallowedIntents, "a privileged intent is not granted"));
        }
        let identify = Identify { shard, sharded: !d["shard"].is_null(), intents, version: self.version };
        if world.guilds_of(&identify) > settings.guilds_per_shard {
            return Err((CloseCode::ShardingRequired, "too many guilds on this shard"));
        }
        Ok(identify)
    }

    fn resume(&mut self, d: &Value, now: Instant, world: &mut World, answers: &mut Vec<Answer>) -> Result<(), Refusal> {
        if self.session.is_some() {
            return Err((CloseCode::AlreadyAuthenticated, "resumed on a connection that has a session"));
        }
        let resume = Resume::deserialize(d).map_err(|_| wrong("resume: token, session_id and seq are needed"))?;
        if !world.token_is_right(&resume.token) {
            return Err((CloseCode::AuthenticationFailed, "wrong token"));
        }
        match world.resume(&resume, self.id, now) {
            Resumed::Session(session, after, former) => {
                self.session = Some(session.clone());
                answers.extend(former.map(Answer::Evict));
                answers.push(Answer::Attach { session, after, compress: false });
            }
            Resumed::Invalid => answers.push(invalid_session()),
            Resumed::Ahead => return Err((CloseCode::InvalidSeq, "seq is above the session's last")),
        }
        Ok(())
    }

    /// Ops 3, 4, 8, 31 and 43.
    fn command(
        &mut self,
        op: Opcode,
        d: &Value,
        id: &SessionId,
        now: Instant,
        world: &mut World,
    ) -> Result<(), Refusal> {
        match op {
            Opcode::PresenceUpdate => {
                if !is_presence(d) {
                    return Err(wrong("presence update: since, activities, status and afk are needed"));
                }
                if !self.presences.take(now) {
                    world.stats.mistake("over 5 presence updates in 20 seconds");
                }
            }
            Opcode::VoiceStateUpdate => voice_state(d, id, world)?,
            Opcode::RequestGuildMembers => request_members(d, id, now, world)?,
            Opcode::RequestSoundboardSounds => {
                let guilds = d["guild_ids"].as_array().ok_or(wrong("soundboard sounds: guild_ids is a list"))?;
                for guild in guilds {
                    answer_for_guild(guild, "SOUNDBOARD_SOUNDS", id, world, |guild| {
                        format!(r#"{{"soundboard_sounds":[],"guild_id":"{}"}}"#, guild_id(guild))
                    })?;
                }
            }
            Opcode::RequestChannelInfo => {
                answer_for_guild(&d["guild_id"], "CHANNEL_INFO", id, world, |guild| {
                    format!(r#"{{"guild_id":"{}","channels":[]}}"#, guild_id(guild))
                })?;
            }
            _ => return Err((CloseCode::UnknownOpcode, "unknown opcode")),
        }
        Ok(())
    }
}

fn invalid_session() -> Answer {
    Answer::Packet(r#"{"t":null,"s":null,"op":9,"d":false}"#.to_owned())
}

fn wrong(what: &'static str) -> Refusal {
    (CloseCode::UnknownOpcode, what)
}

fn is_presence(d: &Value) -> bool {
    let status = d["status"].as_str();
    d.is_object()
        && (d["since"].is_null() || d["since"].is_number())
        && (d["activities"].is_array() || d["activities"].is_null())
        && status.is_some_and(|status| matches!(status, "online" | "dnd" | "idle" | "invisible" | "offline"))
        && (d["afk"].is_boolean() || d["afk"].is_null())
}

fn snowflake(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The guild's number if it is on the session's shard. Discord does not answer for others.
fn guild_of(value: &Value, id: &SessionId, world: &mut World) -> Result<Option<u64>, Refusal> {
    let guild = snowflake(value).ok_or(wrong("guild_id is a snowflake"))?;
    let plan = world.session(id).map(|session| session.plan.clone());
    let number = guild_number(guild).filter(|number| plan.is_some_and(|plan| plan.has_guild(*number)));
    if number.is_none() {
        world.stats.mistake("asked for a guild that is not on the shard");
    }
    Ok(number)
}

fn answer_for_guild(
    guild: &Value,
    event: &str,
    id: &SessionId,
    world: &mut World,
    d: impl Fn(u64) -> String,
) -> Result<(), Refusal> {
    if let Some(guild) = guild_of(guild, id, world)? {
        world.push(id, event, What::Literal(event.into(), d(guild).into_bytes().into()));
    }
    Ok(())
}

fn voice_state(d: &Value, id: &SessionId, world: &mut World) -> Result<(), Refusal> {
    let channel = &d["channel_id"];
    let is_flag = |name: &str| d[name].is_boolean() || d[name].is_null();
    if !(channel.is_null() || snowflake(channel).is_some()) || !is_flag("self_mute") || !is_flag("self_deaf") {
        return Err(wrong("voice state: channel_id is a snowflake or null, self_mute and self_deaf are booleans"));
    }
    let channel = snowflake(channel);
    answer_for_guild(&d["guild_id"], "VOICE_STATE_UPDATE", id, world, |guild| {
        let channel = channel.map_or("null".to_owned(), |channel| format!(r#""{channel}""#));
        format!(
            concat!(
                r#"{{"user_id":"{bot}","suppress":false,"session_id":"{voice:032x}","self_video":false,"#,
                r#""self_mute":{mute},"self_deaf":{deaf},"request_to_speak_timestamp":null,"mute":false,"#,
                r#""member":{{"user":{user},"roles":[],"premium_since":null,"nick":null,"mute":false,"#,
                r#""joined_at":"2025-01-01T00:00:00.000000+00:00","flags":0,"deaf":false,"avatar":null}},"#,
                r#""guild_id":"{guild}","deaf":false,"channel_id":{channel}}}"#
            ),
            bot = super::template::BOT,
            voice = super::template::mix(guild),
            mute = d["self_mute"] == true,
            deaf = d["self_deaf"] == true,
            user = super::world::user(),
            guild = guild_id(guild),
            channel = channel,
        )
    })?;
    if channel.is_some() {
        answer_for_guild(&d["guild_id"], "VOICE_SERVER_UPDATE", id, world, |guild| {
            let guild = guild_id(guild);
            format!(r#"{{"token":"simulated","guild_id":"{guild}","endpoint":"voice.simulator.invalid:2096"}}"#)
        })?;
    }
    Ok(())
}

fn request_members(d: &Value, id: &SessionId, now: Instant, world: &mut World) -> Result<(), Refusal> {
    let nonce = d["nonce"].as_str().filter(|nonce| nonce.len() <= 32).map(str::to_owned);
    let users = match &d["user_ids"] {
        Value::Null => None,
        Value::Array(ids) => Some(ids.clone()),
        id => Some(vec![id.clone()]),
    };
    let query = d["query"].as_str();
    let limit = d["limit"].as_u64();
    let intents_allow =
        world.session(id).is_some_and(|session| session.plan.intents().contains(Intents::GUILD_MEMBERS));
    let is_everyone = users.is_none() && query == Some("") && limit == Some(0);
    match (&users, query, limit) {
        (Some(_), _, _) if d["query"].is_null() || query == Some("") => {}
        (None, Some(_), Some(0..=100)) => {}
        _ => return Err(wrong("guild members: either user_ids, or query and a limit up to 100")),
    }
    if users.as_ref().is_some_and(|users| users.len() > 100) {
        return Err(wrong("guild members: at most 100 user_ids"));
    }
    if is_everyone && !intents_allow {
        return Err(wrong("guild members: all of them need the intent GUILD_MEMBERS"));
    }
    // Since one guild a request is the rule, a list of one is what older libraries send.
    let guild = match &d["guild_id"] {
        Value::Array(ids) if ids.len() == 1 => &ids[0],
        id => id,
    };
    let Some(guild) = guild_of(guild, id, world)? else { return Ok(()) };
    if is_everyone && let Err(wait) = world.members.take(guild, now) {
        world.stats.mistake("asked for all members of a guild too soon");
        let nonce = nonce.map_or(String::new(), |nonce| format!(r#","nonce":{}"#, Value::from(nonce)));
        let d = format!(
            r#"{{"opcode":8,"retry_after":{:.3},"meta":{{"guild_id":"{}"{nonce}}}}}"#,
            wait.as_secs_f64(),
            guild_id(guild)
        );
        world.push(id, "RATE_LIMITED", What::Literal("RATE_LIMITED".into(), d.into_bytes().into()));
        return Ok(());
    }
    let all = world.settings.members;
    let mut chunk = |members: std::ops::Range<u32>, index, count, not_found: &[Value]| {
        let mut out = Vec::new();
        members_chunk(&mut out, guild, members, index, count, nonce.as_deref());
        if !not_found.is_empty() {
            out.pop();
            out.extend_from_slice(br#","not_found":"#);
            out.extend(Value::from(not_found).to_string().into_bytes());
            out.push(b'}');
        }
        world.push(id, "GUILD_MEMBERS_CHUNK", What::Literal("GUILD_MEMBERS_CHUNK".into(), out.into()));
    };
    if is_everyone {
        let count = all.div_ceil(CHUNK).max(1);
        for index in 0..count {
            chunk(index * CHUNK..all.min((index + 1) * CHUNK), index, count, &[]);
        }
    } else if let Some(users) = users {
        let number = |user: &Value| (0..all).find(|&number| Some(member_id(guild, number)) == snowflake(user));
        let missing: Vec<Value> = users.iter().filter(|user| number(user).is_none()).cloned().collect();
        // Ids are consecutive, so what is found is told by its first.
        let first = users.iter().find_map(number).unwrap_or(0);
        chunk(first..first + (users.len() - missing.len()) as u32, 0, 1, &missing);
    } else {
        // Every member's name begins alike: a prefix either fits all or none.
        let fits = query.is_some_and(|query| "member_".starts_with(&query.to_lowercase()));
        let count = if fits { limit.unwrap_or(0).min(u64::from(all)) as u32 } else { 0 };
        chunk(0..count, 0, 1, &[]);
    }
    Ok(())
}
