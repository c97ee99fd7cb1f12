//! The gateway's opcodes and who may send them.
//!
//! Discord's documentation: "Opcodes and Status Codes", "Gateway".

/// What a gateway packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// An event; the only packet with `s` and `t`.
    Dispatch = 0,
    /// Sent: I am alive, and my last sequence number. Received: answer at once with one.
    Heartbeat = 1,
    /// Starts a session.
    Identify = 2,
    /// Sets the bot's presence.
    PresenceUpdate = 3,
    /// Joins, moves or leaves a voice channel.
    VoiceStateUpdate = 4,
    /// Takes up a session on a new connection.
    Resume = 6,
    /// Please reconnect and resume.
    Reconnect = 7,
    /// Asks for members of a guild.
    RequestGuildMembers = 8,
    /// The session is invalid; `d` says whether it can be resumed.
    InvalidSession = 9,
    /// The first packet of a connection: the heartbeat interval.
    Hello = 10,
    /// A heartbeat was received.
    HeartbeatAck = 11,
    /// Asks for guilds' soundboard sounds.
    RequestSoundboardSounds = 31,
    /// Asks for channels' ephemeral data.
    RequestChannelInfo = 43,
}

/// Which way an opcode travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Only Discord sends it.
    Receive,
    /// Only clients send it.
    Send,
    /// Either side may.
    Both,
}

impl Opcode {
    /// Every opcode, in order.
    pub const ALL: [Self; 13] = [
        Self::Dispatch,
        Self::Heartbeat,
        Self::Identify,
        Self::PresenceUpdate,
        Self::VoiceStateUpdate,
        Self::Resume,
        Self::Reconnect,
        Self::RequestGuildMembers,
        Self::InvalidSession,
        Self::Hello,
        Self::HeartbeatAck,
        Self::RequestSoundboardSounds,
        Self::RequestChannelInfo,
    ];

    /// The opcode with this number, if the gateway knows it for bots.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|op| u64::from(op.code()) == code)
    }

    /// The number on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Who sends it.
    pub const fn direction(self) -> Direction {
        match self {
            Self::Heartbeat => Direction::Both,
            Self::Dispatch | Self::Reconnect | Self::InvalidSession | Self::Hello | Self::HeartbeatAck => {
                Direction::Receive
            }
            Self::Identify
            | Self::PresenceUpdate
            | Self::VoiceStateUpdate
            | Self::Resume
            | Self::RequestGuildMembers
            | Self::RequestSoundboardSounds
            | Self::RequestChannelInfo => Direction::Send,
        }
    }

    /// Whether a worker may have it sent: what clients send, less what the session itself is made of.
    pub const fn is_command(self) -> bool {
        match self {
            Self::PresenceUpdate
            | Self::VoiceStateUpdate
            | Self::RequestGuildMembers
            | Self::RequestSoundboardSounds
            | Self::RequestChannelInfo => true,
            Self::Dispatch
            | Self::Heartbeat
            | Self::Identify
            | Self::Resume
            | Self::Reconnect
            | Self::InvalidSession
            | Self::Hello
            | Self::HeartbeatAck => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_and_directions_are_those_of_the_reference() {
        let tables = crate::discord::reference();
        let listed = tables["opcodes"].as_array().expect("opcodes");
        assert_eq!(listed.len(), Opcode::ALL.len());
        for row in listed {
            let op = Opcode::from_code(row["code"].as_u64().expect("code")).expect("a known opcode");
            let direction = match row["direction"].as_str().expect("direction") {
                "receive" => Direction::Receive,
                "send" => Direction::Send,
                _ => Direction::Both,
            };
            assert_eq!(op.direction(), direction, "{op:?}");
        }
    }

    #[test]
    fn a_worker_may_not_heartbeat_identify_or_resume() {
        let commands: Vec<u8> = Opcode::ALL.iter().filter(|op| op.is_command()).map(|op| op.code()).collect();
        assert_eq!(commands, [3, 4, 8, 31, 43]);
    }
}
