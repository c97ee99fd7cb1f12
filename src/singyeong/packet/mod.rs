//! Packets: what a client may say, and what the server says (spec/singyeong.md, "Packets").

pub mod dispatch;
pub mod outgoing;
