//! From the first byte to "ready to publish": logging in, tuning, the channel, the exchange, confirms.
//!
//! Sans-I/O: frames in, bytes to send out. What is refused on the way becomes a [`ConnectError`] that says what to change.

use super::codec::frame::{Frame, FrameKind};
use super::codec::method::{self, CloseReason, Method};
use super::codec::{CHANNEL, FRAME_MAX_SIZE, FRAME_MIN_SIZE, ProtocolError};
use super::error::ConnectError;
use crate::amqp::address::{Address, AuthMechanism};

/// The heartbeat we ask for when the address names none: a peer is given up after twice as many seconds of silence. Less
/// than that of the connection that holds the leases: RabbitMQ drops a paused process's events first.
const HEARTBEAT_SECONDS: u16 = 10;

/// What was agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// No frame may be longer.
    pub frame_max: usize,
    /// Seconds between signs of life; 0: none.
    pub heartbeat: u16,
    /// Whether an alarm is on already.
    pub blocked: bool,
    /// Name and version of the broker.
    pub product: String,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Start,
    Tune,
    OpenOk,
    ChannelOpenOk,
    DeclareOk,
    SelectOk,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "greeting",
            Self::Tune => "logging in",
            Self::OpenOk => "opening the virtual host",
            Self::ChannelOpenOk => "opening a channel",
            Self::DeclareOk => "declaring the exchange",
            Self::SelectOk => "asking for confirms",
        }
    }
}

/// A handshake under way.
#[derive(Debug)]
pub struct Handshake<'a> {
    address: &'a Address,
    exchange: &'a str,
    connection_name: &'a str,
    stage: Stage,
    agreed: Ready,
}

impl<'a> Handshake<'a> {
    /// Begins one; the first bytes to send are appended to `out`.
    pub fn new(address: &'a Address, exchange: &'a str, connection_name: &'a str, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(method::PROTOCOL_HEADER);
        let agreed = Ready { frame_max: FRAME_MAX_SIZE, heartbeat: 0, blocked: false, product: String::new() };
        Self { address, exchange, connection_name, stage: Stage::Start, agreed }
    }

    /// What is awaited, in words that follow "while".
    pub const fn stage(&self) -> &'static str {
        self.stage.name()
    }

    /// Takes a frame; what there is to answer is appended to `out`. `Some` once all is agreed.
    ///
    /// # Errors
    /// When the broker refuses; the connection is of no use then.
    pub fn handle(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<Option<Ready>, ConnectError> {
        match frame.kind {
            FrameKind::Heartbeat => return Ok(None),
            FrameKind::Method => {}
            FrameKind::Header | FrameKind::Body => return Err(self.unexpected(&frame.kind)),
        }
        let method = Method::parse(frame.payload).map_err(|error| self.bad_bytes(error))?;
        match (self.stage, method) {
            (_, Method::ConnectionClose(reason)) => {
                method::close_ok(out);
                return Err(self.refused(reason));
            }
            (_, Method::ChannelClose(reason)) => {
                method::channel_close_ok(out);
                method::close(200, "the channel was refused", out);
                return Err(self.refused(reason));
            }
            (_, Method::Blocked(_)) => self.agreed.blocked = true,
            (_, Method::Unblocked) => self.agreed.blocked = false,
            (Stage::Start, Method::ConnectionStart { version, properties, mechanisms }) => {
                self.start(version, properties, mechanisms, out)?;
            }
            (Stage::Tune, Method::ConnectionTune { channel_max, frame_max, heartbeat }) => {
                self.tune(channel_max, frame_max, heartbeat, out)?;
            }
            (Stage::OpenOk, Method::ConnectionOpenOk) => {
                method::channel_open(out);
                self.stage = Stage::ChannelOpenOk;
            }
            (Stage::ChannelOpenOk, Method::ChannelOpenOk) if frame.channel == CHANNEL => {
                method::exchange_declare(self.exchange, out);
                self.stage = Stage::DeclareOk;
            }
            (Stage::DeclareOk, Method::ExchangeDeclareOk) if frame.channel == CHANNEL => {
                method::confirm_select(out);
                self.stage = Stage::SelectOk;
            }
            (Stage::SelectOk, Method::ConfirmSelectOk) if frame.channel == CHANNEL => {
                return Ok(Some(self.agreed.clone()));
            }
            (_, other) => return Err(self.unexpected(&other)),
        }
        Ok(None)
    }

    /// What it means that the bytes are no frames.
    pub fn bad_bytes(&self, error: ProtocolError) -> ConnectError {
        match self.stage {
            Stage::Start => ConnectError::NotAmqp(error.to_string()),
            _ => error.into(),
        }
    }

    fn start(
        &mut self,
        version: (u8, u8),
        properties: &[u8],
        mechanisms: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ConnectError> {
        if version != (0, 9) {
            return Err(ConnectError::NotAmqp(format!("it speaks version {}-{}", version.0, version.1)));
        }
        let wanted = self.address.auth_mechanism().name();
        if !mechanisms.split(|byte| *byte == b' ').any(|offered| offered == wanted.as_bytes()) {
            let offered = String::from_utf8_lossy(mechanisms).into_owned();
            return Err(ConnectError::NoMechanism { wanted, offered });
        }
        self.agreed.product = method::product_of(properties)?;
        let response = match self.address.auth_mechanism() {
            AuthMechanism::Plain => format!("\0{}\0{}", self.address.user(), self.address.password().expose()),
            AuthMechanism::External => String::new(),
        };
        method::start_ok(self.connection_name, wanted, response.as_bytes(), out);
        self.stage = Stage::Tune;
        Ok(())
    }

    fn tune(
        &mut self,
        channel_max: u16,
        frame_max: u32,
        heartbeat: u16,
        out: &mut Vec<u8>,
    ) -> Result<(), ConnectError> {
        self.agreed.frame_max = match frame_max as usize {
            0 => FRAME_MAX_SIZE,
            size if size < FRAME_MIN_SIZE => {
                let what = format!("a frame_max of {size}, below the {FRAME_MIN_SIZE} that everyone takes,");
                return Err(ProtocolError::Unexpected { what, during: self.stage() }.into());
            }
            size => size.min(FRAME_MAX_SIZE),
        };
        let wanted = self.address.heartbeat().unwrap_or(HEARTBEAT_SECONDS);
        // 0 from the broker is "none of mine", not "none of yours".
        self.agreed.heartbeat = if heartbeat == 0 { wanted } else { wanted.min(heartbeat) };
        let channel_max = if channel_max == 0 { CHANNEL } else { channel_max.min(CHANNEL) };
        method::tune_ok(channel_max, self.agreed.frame_max as u32, self.agreed.heartbeat, out);
        method::open(self.address.vhost(), out);
        self.stage = Stage::OpenOk;
        Ok(())
    }

    fn refused(&self, reason: CloseReason<'_>) -> ConnectError {
        const ACCESS_REFUSED: u16 = 403;
        const PRECONDITION_FAILED: u16 = 406;
        let text = reason.text.to_owned();
        match (self.stage, reason.code) {
            (Stage::Tune, ACCESS_REFUSED) => ConnectError::AccessRefused(text),
            // Not allowed, and what other versions and plugins say instead.
            (Stage::OpenOk, 402..=530) => ConnectError::VhostRefused { vhost: self.address.vhost().to_owned(), text },
            (Stage::DeclareOk, PRECONDITION_FAILED) => {
                ConnectError::ExchangeMismatch { exchange: self.exchange.to_owned(), text }
            }
            (Stage::DeclareOk, ACCESS_REFUSED) => {
                ConnectError::ExchangeRefused { exchange: self.exchange.to_owned(), text }
            }
            (_, code) => ConnectError::Closed { during: self.stage(), code, text },
        }
    }

    fn unexpected(&self, what: &dyn std::fmt::Debug) -> ConnectError {
        ProtocolError::Unexpected { what: format!("{what:?}"), during: self.stage() }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(channel: u16, payload: &[u8]) -> Frame<'_> {
        Frame { kind: FrameKind::Method, channel, payload }
    }

    const START: &[u8] =
        b"\0\x0a\0\x0a\0\x09\0\0\0\x15\x07productS\0\0\0\x08RabbitMQ\0\0\0\x0ePLAIN AMQPLAIN\0\0\0\x05en_US";

    /// Walks as far as the broker's frames go.
    fn walk(url: &str, frames: &[(u16, &[u8])]) -> (Result<Option<Ready>, ConnectError>, Vec<u8>) {
        let address = Address::parse(url).expect(url);
        let mut out = Vec::new();
        let mut handshake = Handshake::new(&address, "gateway", "optic", &mut out);
        let mut last = Ok(None);
        for (channel, payload) in frames {
            out.clear();
            last = handshake.handle(frame(*channel, payload), &mut out);
        }
        (last, out)
    }

    const TUNE: &[u8] = b"\0\x0a\0\x1e\x07\xff\0\x02\0\0\0\x3c";
    const OPEN_OK: &[u8] = b"\0\x0a\0\x29\0";
    const CHANNEL_OPEN_OK: &[u8] = b"\0\x14\0\x0b\0\0\0\0";
    const DECLARE_OK: &[u8] = b"\0\x28\0\x0b";
    const SELECT_OK: &[u8] = b"\0\x55\0\x0b";

    fn close(class: u16, method: u16, code: u16, text: &str) -> Vec<u8> {
        let mut payload = Vec::new();
        for number in [class, method, code] {
            payload.extend_from_slice(&number.to_be_bytes());
        }
        payload.push(text.len() as u8);
        payload.extend_from_slice(text.as_bytes());
        payload.extend_from_slice(&[0; 4]);
        payload
    }

    #[test]
    fn the_whole_way_ends_ready() {
        let (last, _) = walk(
            "amqp://host",
            &[(0, START), (0, TUNE), (0, OPEN_OK), (1, CHANNEL_OPEN_OK), (1, DECLARE_OK), (1, SELECT_OK)],
        );
        let ready = Ready { frame_max: 131_072, heartbeat: 10, blocked: false, product: "RabbitMQ".to_owned() };
        assert_eq!(last.expect("ready"), Some(ready));
    }

    #[test]
    fn we_log_in_as_the_address_says() {
        let (_, out) = walk("amqp://me:hunter2@host", &[(0, START)]);
        let response = b"\x05PLAIN\0\0\0\x0b\0me\0hunter2\x05en_US";
        assert!(out.windows(response.len()).any(|window| window == response));
        let (last, _) = walk("amqps://host?auth_mechanism=external", &[(0, START)]);
        assert!(matches!(last, Err(ConnectError::NoMechanism { wanted: "EXTERNAL", .. })), "{last:?}");
    }

    #[test]
    fn the_lower_limit_holds() {
        let (_, out) = walk("amqp://host?heartbeat=5", &[(0, START), (0, b"\0\x0a\0\x1e\0\0\0\0\x20\0\0\x3c")]);
        assert_eq!(out[..20], *b"\x01\0\0\0\0\0\x0c\0\x0a\0\x1f\0\x01\0\0\x20\0\0\x05\xce");
        let (last, _) = walk("amqp://host", &[(0, START), (0, b"\0\x0a\0\x1e\0\0\0\0\x01\0\0\x3c")]);
        assert!(matches!(last, Err(ConnectError::Protocol(_))), "{last:?}");
    }

    #[test]
    fn what_is_refused_says_what_to_change() {
        let password = close(10, 50, 403, "ACCESS_REFUSED - Login was refused");
        let (last, _) = walk("amqp://host", &[(0, START), (0, &password)]);
        assert!(matches!(&last, Err(error @ ConnectError::AccessRefused(_)) if error.needs_a_person()), "{last:?}");

        let vhost = close(10, 50, 530, "NOT_ALLOWED - vhost v not found");
        let (last, _) = walk("amqp://host/v", &[(0, START), (0, TUNE), (0, &vhost)]);
        assert!(last.expect_err("refused").to_string().contains("the virtual host `v`: NOT_ALLOWED"));

        let exchange = close(20, 40, 406, "PRECONDITION_FAILED - inequivalent arg 'type'");
        let way: [(u16, &[u8]); 5] = [(0, START), (0, TUNE), (0, OPEN_OK), (1, CHANNEL_OPEN_OK), (1, &exchange)];
        let (last, _) = walk("amqp://host", &way);
        let text = last.expect_err("refused").to_string();
        assert!(text.contains("`gateway`") && text.contains("inequivalent") && text.contains("BROKER_GROUP"), "{text}");
    }

    #[test]
    fn another_protocol_is_recognised_by_its_first_bytes() {
        let address = Address::parse("amqp://host").expect("an address");
        let handshake = Handshake::new(&address, "gateway", "optic", &mut Vec::new());
        let error = Frame::first(b"HTTP/1.1 400 Bad Request\r\n", 4096).expect_err("not a frame");
        assert!(matches!(handshake.bad_bytes(error), ConnectError::NotAmqp(_)));
    }
}
