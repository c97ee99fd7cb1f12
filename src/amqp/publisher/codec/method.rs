//! The methods a publishing connection speaks: those a broker sends, parsed; those we send, appended.

use super::frame::{FRAME_END, FrameKind};
use super::reader::{Reader, table_text};
use super::{CHANNEL, ProtocolError};

/// What a connection begins with.
pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// A sign of life, whole.
pub const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, FRAME_END];

/// Why a broker closed a channel or the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReason<'a> {
    /// The reply code.
    pub code: u16,
    /// The reply text.
    pub text: &'a str,
    /// The class of the method that was to blame, or 0.
    pub class: u16,
    /// That method, or 0.
    pub method: u16,
}

/// A method from the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// `connection.start`
    ConnectionStart {
        /// Major and minor version.
        version: (u8, u8),
        /// What it says of itself, as a field table.
        properties: &'a [u8],
        /// SASL mechanisms, parted by spaces.
        mechanisms: &'a [u8],
    },
    /// `connection.tune`
    ConnectionTune {
        /// 0: no limit.
        channel_max: u16,
        /// 0: no limit.
        frame_max: u32,
        /// In seconds; 0: none.
        heartbeat: u16,
    },
    /// `connection.open-ok`
    ConnectionOpenOk,
    /// `connection.close`
    ConnectionClose(CloseReason<'a>),
    /// `connection.close-ok`
    ConnectionCloseOk,
    /// `connection.blocked`, with the reason.
    Blocked(&'a str),
    /// `connection.unblocked`
    Unblocked,
    /// `connection.update-secret-ok`
    UpdateSecretOk,
    /// `channel.open-ok`
    ChannelOpenOk,
    /// `channel.flow`: whether we may send.
    ChannelFlow(bool),
    /// `channel.close`
    ChannelClose(CloseReason<'a>),
    /// `channel.close-ok`
    ChannelCloseOk,
    /// `exchange.declare-ok`
    ExchangeDeclareOk,
    /// `confirm.select-ok`
    ConfirmSelectOk,
    /// `basic.return`: no queue took a mandatory message.
    Return {
        /// The reply code.
        code: u16,
        /// The exchange.
        exchange: &'a str,
        /// The routing key.
        routing_key: &'a str,
    },
    /// `basic.ack`
    Ack {
        /// The delivery tag.
        tag: u64,
        /// Whether all before it are meant too.
        multiple: bool,
    },
    /// `basic.nack`
    Nack {
        /// The delivery tag.
        tag: u64,
        /// Whether all before it are meant too.
        multiple: bool,
    },
}

impl<'a> Method<'a> {
    /// Reads a method frame's payload.
    ///
    /// # Errors
    /// When it is cut short, or none that a broker may send us.
    pub fn parse(payload: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut r = Reader::new(payload, "a method");
        let (class, method) = (r.u16()?, r.u16()?);
        Ok(match (class, method) {
            (60, 80) => Self::Ack { tag: r.u64()?, multiple: r.u8()? & 1 != 0 },
            (60, 120) => Self::Nack { tag: r.u64()?, multiple: r.u8()? & 1 != 0 },
            (60, 50) => {
                let code = r.u16()?;
                let _text = r.short_str()?;
                Self::Return { code, exchange: r.short_str()?, routing_key: r.short_str()? }
            }
            (10, 10) => {
                Self::ConnectionStart { version: (r.u8()?, r.u8()?), properties: r.long()?, mechanisms: r.long()? }
            }
            (10, 30) => Self::ConnectionTune { channel_max: r.u16()?, frame_max: r.u32()?, heartbeat: r.u16()? },
            (10, 41) => Self::ConnectionOpenOk,
            (10, 50) => Self::ConnectionClose(close_reason(&mut r)?),
            (10, 51) => Self::ConnectionCloseOk,
            (10, 60) => Self::Blocked(r.short_str()?),
            (10, 61) => Self::Unblocked,
            (10, 71) => Self::UpdateSecretOk,
            (20, 11) => Self::ChannelOpenOk,
            (20, 20) => Self::ChannelFlow(r.u8()? & 1 != 0),
            (20, 40) => Self::ChannelClose(close_reason(&mut r)?),
            (20, 41) => Self::ChannelCloseOk,
            (40, 11) => Self::ExchangeDeclareOk,
            (85, 11) => Self::ConfirmSelectOk,
            _ => return Err(ProtocolError::UnknownMethod { class, method }),
        })
    }
}

fn close_reason<'a>(r: &mut Reader<'a>) -> Result<CloseReason<'a>, ProtocolError> {
    Ok(CloseReason { code: r.u16()?, text: r.short_str()?, class: r.u16()?, method: r.u16()? })
}

/// What a message's header frame says about the length of the body that follows.
///
/// # Errors
/// When it is cut short.
pub fn content_body_size(payload: &[u8]) -> Result<u64, ProtocolError> {
    let mut r = Reader::new(payload, "a content header");
    r.bytes(4)?;
    r.u64()
}

/// The broker's name and version, from what it says of itself.
pub fn product_of(properties: &[u8]) -> Result<String, ProtocolError> {
    let product = table_text(properties, "product")?.unwrap_or("unknown broker");
    let version = table_text(properties, "version")?.unwrap_or_default();
    Ok(format!("{product} {version}").trim_end().to_owned())
}

/// Appends a method frame of fields that the caller writes.
fn method(channel: u16, class: u16, method: u16, out: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(FrameKind::Method.byte());
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&class.to_be_bytes());
    out.extend_from_slice(&method.to_be_bytes());
    fields(out);
    let length = (out.len() - at - 7) as u32;
    out[at + 3..at + 7].copy_from_slice(&length.to_be_bytes());
    out.push(FRAME_END);
}

/// Cuts at 255 bytes, on a character's edge; names that matter are checked before they come here.
fn put_short_str(text: &str, out: &mut Vec<u8>) {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.push(end as u8);
    out.extend_from_slice(&text.as_bytes()[..end]);
}

fn put_long_str(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text);
}

fn put_table(out: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    fields(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// What a client can do that a broker may make use of.
const CAPABILITIES: [&str; 5] = [
    "publisher_confirms",
    "basic.nack",
    "connection.blocked",
    "authentication_failure_close",
    "consumer_cancel_notify",
];

/// Appends `connection.start-ok`.
pub fn start_ok(connection_name: &str, mechanism: &str, response: &[u8], out: &mut Vec<u8>) {
    method(0, 10, 11, out, |out| {
        put_table(out, |out| {
            for (name, text) in [
                ("product", "optic"),
                ("version", env!("CARGO_PKG_VERSION")),
                ("platform", "Rust"),
                ("connection_name", connection_name),
            ] {
                put_short_str(name, out);
                out.push(b'S');
                put_long_str(text.as_bytes(), out);
            }
            put_short_str("capabilities", out);
            out.push(b'F');
            put_table(out, |out| {
                for capability in CAPABILITIES {
                    put_short_str(capability, out);
                    out.extend_from_slice(b"t\x01");
                }
            });
        });
        put_short_str(mechanism, out);
        put_long_str(response, out);
        put_short_str("en_US", out);
    });
}

/// Appends `connection.tune-ok`.
pub fn tune_ok(channel_max: u16, frame_max: u32, heartbeat: u16, out: &mut Vec<u8>) {
    method(0, 10, 31, out, |out| {
        out.extend_from_slice(&channel_max.to_be_bytes());
        out.extend_from_slice(&frame_max.to_be_bytes());
        out.extend_from_slice(&heartbeat.to_be_bytes());
    });
}

/// Appends `connection.open`.
pub fn open(vhost: &str, out: &mut Vec<u8>) {
    method(0, 10, 40, out, |out| {
        put_short_str(vhost, out);
        out.extend_from_slice(&[0, 0]);
    });
}

/// Appends `connection.close` for "we are done", or for `code` and `text`.
pub fn close(code: u16, text: &str, out: &mut Vec<u8>) {
    method(0, 10, 50, out, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        put_short_str(text, out);
        out.extend_from_slice(&[0; 4]);
    });
}

/// Appends `connection.close-ok`.
pub fn close_ok(out: &mut Vec<u8>) {
    method(0, 10, 51, out, |_| {});
}

/// Appends `channel.open`.
pub fn channel_open(out: &mut Vec<u8>) {
    method(CHANNEL, 20, 10, out, |out| put_short_str("", out));
}

/// Appends `channel.flow-ok`.
pub fn flow_ok(active: bool, out: &mut Vec<u8>) {
    method(CHANNEL, 20, 21, out, |out| out.push(u8::from(active)));
}

/// Appends `channel.close-ok`.
pub fn channel_close_ok(out: &mut Vec<u8>) {
    method(CHANNEL, 20, 41, out, |_| {});
}

/// Appends `exchange.declare` of a durable direct exchange without arguments.
pub fn exchange_declare(name: &str, out: &mut Vec<u8>) {
    const DURABLE: u8 = 1 << 1;
    method(CHANNEL, 40, 10, out, |out| {
        out.extend_from_slice(&[0, 0]);
        put_short_str(name, out);
        put_short_str("direct", out);
        out.push(DURABLE);
        out.extend_from_slice(&[0; 4]);
    });
}

/// Appends `confirm.select`.
pub fn confirm_select(out: &mut Vec<u8>) {
    method(CHANNEL, 85, 10, out, |out| out.push(0));
}
