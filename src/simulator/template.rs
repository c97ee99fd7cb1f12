//! An example packet cut at what varies, so that an event costs a few copies and no tree.
//!
//! What varies: the guild's id, ids of what belongs to it (shifted by the guild's number, so that they fit its
//! GUILD_CREATE), the event's own id, times, avatars and a message's content.

use std::io::Write;

use serde_json::Value;

/// The guild of every example.
pub const GUILD: u64 = 1_500_621_592_580_050_945;
/// The bot of every example, and its application.
pub const BOT: u64 = 1_371_343_803_441_934_368;

/// 2026-08-04T19:00:00Z, when the examples were made.
const EPOCH_MS: u64 = 1_785_870_000_000;
/// Between two events of a session.
const STEP_MS: u64 = 37;
const DISCORD_EPOCH_MS: u64 = 1_420_070_400_000;

/// The id of the bot's guild with this number. Consecutive guilds fall to consecutive shards.
pub const fn guild_id(number: u64) -> u64 {
    ((GUILD >> 22) + number) << 22 | GUILD & 0x3f_ffff
}

/// The number of the guild with this id, if it is one of ours.
pub fn guild_number(id: u64) -> Option<u64> {
    let number = (id >> 22).checked_sub(GUILD >> 22)?;
    (guild_id(number) == id).then_some(number)
}

/// What an event's varying parts are made from.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// The guild's number.
    pub guild: u64,
    /// The event's number in its session.
    pub index: u64,
    /// Random bits of the event.
    pub random: u64,
}

/// An example packet's `d`, ready to be filled in.
#[derive(Debug)]
pub struct Template {
    parts: Vec<Part>,
    /// Whether it belongs to a guild.
    pub has_guild: bool,
    /// Its length as in the example.
    pub len: usize,
}

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Guild,
    /// An id of the guild's.
    Shifted(u64),
    /// An id of someone's.
    Anyone(u64),
    /// The event's own id.
    Own,
    Timestamp,
    Millis(u64),
    Hash,
    Content(Box<str>),
    /// Where further members go.
    Members,
}

/// Whether the ids of this event are those of any user there is: they come for everyone.
fn is_about_anyone(event: &str) -> bool {
    event == "PRESENCE_UPDATE"
}

impl Template {
    /// Cuts an example's `d`. Content is emptied as Discord does without MESSAGE_CONTENT if `blank`.
    ///
    /// # Panics
    ///
    /// If the packet is not one of Discord's: examples are part of the program.
    pub fn new(event: &str, packet: &str, blank: bool) -> Self {
        let start = packet.find(r#""d":"#).expect("an example has a d") + 4;
        let d = packet[start..].strip_suffix('}').expect("d is an example's last field");
        let blanked;
        let d = if blank {
            blanked = without_content(d);
            &blanked
        } else {
            d
        };
        let mut template = Self { parts: Vec::new(), has_guild: false, len: d.len() };
        template.cut(event, d);
        template
    }

    /// Writes `d`, with so many further members where it has any.
    pub fn render(&self, out: &mut Vec<u8>, seed: Seed, members: u32) {
        let at = EPOCH_MS + seed.index * STEP_MS;
        for part in &self.parts {
            let written = match part {
                Part::Text(text) => out.write_all(text.as_bytes()),
                Part::Guild => write!(out, "{}", guild_id(seed.guild)),
                Part::Shifted(id) => write!(out, "{}", id + seed.guild),
                Part::Anyone(id) => write!(out, "{}", id - ((seed.random % 50_000) << 22)),
                Part::Own => write!(out, "{}", ((at - DISCORD_EPOCH_MS) << 22) | (seed.index & 0x3f_ffff)),
                Part::Timestamp => write_timestamp(out, at),
                Part::Millis(ms) => write!(out, "{}", ms + seed.random % 10_000_000),
                Part::Hash => write!(out, "{:016x}{:016x}", seed.random, mix(seed.random)),
                Part::Content(usual) => write_content(out, usual, seed.random),
                Part::Members if members == 0 => Ok(()),
                Part::Members => write_members(out, seed.guild, 0..members).and_then(|()| out.write_all(b",")),
            };
            written.expect("a Vec takes everything");
        }
    }

    fn cut(&mut self, event: &str, d: &str) {
        let bytes = d.as_bytes();
        let (mut depth, mut at, mut copied) = (0, 0, 0);
        let mut key = "";
        while at < bytes.len() {
            match bytes[at] {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                b'"' => {
                    let end = string_end(bytes, at);
                    let text = &d[at + 1..end];
                    if bytes.get(end + 1) == Some(&b':') {
                        key = text;
                        if event == "GUILD_CREATE" && depth == 1 && key == "members" {
                            // After `"members":[`.
                            self.text(&d[copied..end + 3]);
                            self.parts.push(Part::Members);
                            copied = end + 3;
                        }
                    } else if let Some(part) = string_part(event, depth, key, text) {
                        self.text(&d[copied..at + 1]);
                        self.parts.push(part);
                        copied = end;
                    }
                    self.ids(event, d, &mut copied, at + 1, end);
                    at = end;
                }
                b'0'..=b'9' => {
                    let end = at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                    if end - at == 13 {
                        self.text(&d[copied..at]);
                        self.parts.push(Part::Millis(d[at..end].parse().expect("digits")));
                        copied = end;
                    }
                    at = end - 1;
                }
                _ => {}
            }
            at += 1;
        }
        self.text(&d[copied..]);
        self.has_guild = self.parts.iter().any(|part| matches!(part, Part::Guild));
    }

    /// Cuts the ids and hashes within a string that stands at `from..to`.
    fn ids(&mut self, event: &str, d: &str, copied: &mut usize, from: usize, to: usize) {
        let bytes = d.as_bytes();
        let mut at = from.max(*copied);
        while at < to {
            let end = at + bytes[at..to].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let word = &d[at..end];
            let part = match word.parse::<u64>() {
                Ok(GUILD) => Some(Part::Guild),
                Ok(BOT) => None,
                Ok(id) if (17..=20).contains(&word.len()) => {
                    Some(if is_about_anyone(event) { Part::Anyone(id) } else { Part::Shifted(id) })
                }
                Ok(_) => None,
                Err(_) => (word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(Part::Hash),
            };
            if let Some(part) = part {
                self.text(&d[*copied..at]);
                self.parts.push(part);
                *copied = end;
            }
            at = end + 1;
            while !d.is_char_boundary(at) {
                at += 1;
            }
        }
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.parts.push(Part::Text(text.into()));
        }
    }
}

/// Writes member objects, joined by commas.
pub fn write_members(out: &mut Vec<u8>, guild: u64, numbers: std::ops::Range<u32>) -> std::io::Result<()> {
    for number in numbers.clone() {
        if number > numbers.start {
            out.push(b',');
        }
        let random = mix(guild << 32 | u64::from(number));
        write!(
            out,
            concat!(
                r#"{{"user":{{"username":"member_{n}","public_flags":0,"primary_guild":null,"id":"{id}","#,
                r#""global_name":"Member {n} 🌿","discriminator":"0","collectibles":null,"#,
                r#""avatar_decoration_data":null,"avatar":"{hash:032x}"}},"roles":["{role}"],"premium_since":null,"#,
                r#""nick":null,"mute":false,"joined_at":"2025-0{month}-1{day}T12:{minute:02}:00.123000+00:00","flags":0,"#,
                r#""deaf":false,"communication_disabled_until":null,"collectibles":null,"banner":null,"#,
                r#""avatar_decoration_data":null,"avatar":null,"pending":false}}"#
            ),
            n = number,
            id = member_id(guild, number),
            hash = u128::from(random) << 64 | u128::from(mix(random)),
            role = 1_459_265_731_968_303_106 + guild,
            month = random % 9 + 1,
            day = random / 16 % 10,
            minute = random / 256 % 60,
        )?;
    }
    Ok(())
}

/// The user id of a guild's member with this number.
pub fn member_id(guild: u64, number: u32) -> u64 {
    1_200_000_000_000_000_000 + ((guild << 20 | u64::from(number)) << 12)
}

/// Spreads bits (SplitMix64's finisher).
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn string_part(event: &str, depth: u32, key: &str, text: &str) -> Option<Part> {
    match key {
        _ if depth != 1 => None,
        "content" if !text.is_empty() => Some(Part::Content(text.into())),
        "timestamp" => Some(Part::Timestamp),
        "id" | "nonce" if matches!(event, "MESSAGE_CREATE" | "INTERACTION_CREATE" | "GUILD_AUDIT_LOG_ENTRY_CREATE") => {
            Some(Part::Own)
        }
        _ => None,
    }
}

/// The closing quote of the string that opens at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while bytes[at] != b'"' {
        at += 1 + usize::from(bytes[at] == b'\\');
    }
    at
}

fn without_content(d: &str) -> String {
    let mut d: Value = serde_json::from_str(d).expect("an example is JSON");
    blank_message(&mut d);
    if let Some(message) = d.get_mut("referenced_message").filter(|message| message.is_object()) {
        blank_message(message);
    }
    d.to_string()
}

fn blank_message(message: &mut Value) {
    // Its own messages a bot always sees.
    if message["author"]["id"].as_str().and_then(|id| id.parse().ok()) == Some(BOT) {
        return;
    }
    if message.get("content").is_some() {
        message["content"] = "".into();
    }
    for list in ["embeds", "attachments", "components"] {
        if message.get(list).is_some() {
            message[list] = Value::Array(Vec::new());
        }
    }
    if let Some(message) = message.as_object_mut() {
        message.remove("poll");
    }
}

/// Most messages are short, some long: the example's, then words of no meaning.
fn write_content(out: &mut Vec<u8>, usual: &str, random: u64) -> std::io::Result<()> {
    const WORDS: [&str; 16] = [
        "fern", "lantern", "moss", "the", "and", "hello", "okay", "wasser", "что", "水", "maybe", "tomorrow", "link",
        "game", "lol", "🌱",
    ];
    out.write_all(usual.as_bytes())?;
    let words = match random % 100 {
        0..50 => 0,
        50..90 => random / 100 % 24,
        90..99 => random / 100 % 120,
        _ => random / 100 % 300,
    };
    let mut bits = random;
    for _ in 0..words {
        bits = mix(bits);
        write!(out, " {}", WORDS[(bits % 16) as usize])?;
    }
    Ok(())
}

/// As Discord writes times: `2026-08-04T19:00:00.000090+00:00`.
fn write_timestamp(out: &mut Vec<u8>, unix_ms: u64) -> std::io::Result<()> {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days to a date, by eras of 400 years that begin on 1 March (Howard Hinnant's "chrono-compatible date algorithms").
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    write!(out, "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}000+00:00", ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::super::payloads;
    use super::*;

    fn rendered(event: &str, variant: usize, blank: bool, seed: Seed) -> Value {
        let packet = payloads::find(event).expect("an example").packets[variant];
        let mut out = Vec::new();
        Template::new(event, packet, blank).render(&mut out, seed, 0);
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn every_example_is_json_for_any_seed_and_has_the_fields_it_had() {
        for example in payloads::ALL {
            for packet in example.packets {
                let original: Value = serde_json::from_str(packet).expect("JSON");
                let template = Template::new(example.name, packet, false);
                for index in [0, 1, 99_999] {
                    let mut out = Vec::new();
                    template.render(&mut out, Seed { guild: index % 7, index, random: mix(index) }, 2);
                    let value: Value = serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {packet}"));
                    let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
                    assert_eq!(keys(&value), keys(&original["d"]), "{}", example.name);
                }
            }
        }
    }

    #[test]
    fn ids_follow_the_guild_and_the_event() {
        let a = rendered("MESSAGE_CREATE", 0, false, Seed { guild: 0, index: 0, random: 0 });
        let b = rendered("MESSAGE_CREATE", 0, false, Seed { guild: 3, index: 1, random: 0 });
        assert_eq!(a["guild_id"], GUILD.to_string());
        assert_eq!(b["guild_id"], guild_id(3).to_string());
        assert_eq!(a["channel_id"], "1446959190111268874");
        assert_eq!(b["channel_id"], "1446959190111268877");
        assert_ne!(a["id"], b["id"]);
        assert_eq!(a["timestamp"], "2026-08-04T19:00:00.000000+00:00");
        assert_eq!(b["timestamp"], "2026-08-04T19:00:00.037000+00:00");
        assert_eq!(guild_number(guild_id(3)), Some(3));
        assert_eq!(guild_number(guild_id(3) + 1), None);
    }

    #[test]
    fn content_is_empty_when_it_may_not_be_seen() {
        let message = rendered("MESSAGE_CREATE", 0, true, Seed { guild: 0, index: 0, random: 60 });
        assert_eq!(message["content"], "");
        let message = rendered("MESSAGE_CREATE", 0, false, Seed { guild: 0, index: 0, random: 0 });
        assert!(message["content"].as_str().expect("text").starts_with("Morning!"));
    }
}
