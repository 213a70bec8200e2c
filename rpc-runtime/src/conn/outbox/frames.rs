//! Frames about the connection itself: HELLO, PING, PONG, CREDIT, CANCEL, GOAWAY.

use bytes::Bytes;
use prost::Message;

use super::Outbox;
use crate::{
    conn::{Settings, Time, types::VERSION},
    wire::frame::{
        Flags, Header, Kind, MAX_TEXT,
        control::{Entry, Goaway, Hello, Pong, Progress, Reason},
        cut,
    },
};

impl Outbox {
    /// Encodes a frame that carries no message of a user.
    pub(in crate::conn) fn put_frame(&mut self, header: Header<'_>) {
        header.encode_bytes(Bytes::new(), &mut self.out);
    }

    /// Encodes the HELLO: the first bytes of the stream. `challenge` is for this connection alone.
    pub(in crate::conn) fn put_hello(&mut self, settings: &Settings, challenge: Bytes) {
        let hello = Hello {
            magic: Hello::MAGIC,
            version_min: VERSION,
            version_max: VERSION,
            max_frame: settings.max_frame,
            max_message: settings.max_message,
            max_calls: settings.max_calls,
            call_bytes: settings.call_bytes,
            send_bytes: settings.send_bytes,
            stream_window: settings.stream_window,
            encodings: settings.encodings.clone(),
            features: 0,
            instance_id: settings.instance_id.clone(),
            software: settings.software.clone(),
            metadata: Entry::list(&settings.metadata),
            ping_floor_ms: u32::try_from(settings.ping_floor.as_millis()).unwrap_or(u32::MAX),
            challenge,
        };
        self.put_control(Kind::Hello, &hello);
    }

    /// Encodes a GOAWAY; `account` is what became of the peer's one-way requests, if it is the last one.
    pub(in crate::conn) fn put_goaway(
        &mut self,
        reason: Reason,
        last_id: u64,
        text: &str,
        drain: Time,
        account: Option<Progress>,
    ) {
        let goaway = Goaway {
            reason: reason.number(),
            last_id,
            text: cut(text, MAX_TEXT).into_owned(),
            drain_ms: u64::try_from(drain.as_millis()).unwrap_or(u64::MAX),
            resume_in_ms: 0,
            account,
        };
        self.put_control(Kind::Goaway, &goaway);
    }

    /// Encodes the answer to a PING, with what became of the peer's one-way requests.
    pub(in crate::conn) fn put_pong(&mut self, ping: [u8; 8], progress: Progress) {
        let pong = Pong {
            ping: Bytes::copy_from_slice(&ping),
            progress: Some(progress),
        };
        self.put_control(Kind::Pong, &pong);
    }

    /// Encodes a PING with this number.
    pub(in crate::conn) fn put_ping(&mut self, ping: u64) {
        let payload = Bytes::copy_from_slice(&ping.to_le_bytes());
        Header::new(Kind::Ping, 0).encode_bytes(payload, &mut self.out);
    }

    /// Encodes credit for the stream of call `id`, or for one-way requests if that is 0.
    pub(in crate::conn) fn put_credit(&mut self, id: u64, bytes: u64) {
        let mut header = Header::new(Kind::Credit, id);
        header.length = bytes;
        self.put_frame(header);
    }

    /// Encodes a CANCEL of call `id`.
    pub(in crate::conn) fn put_cancel(&mut self, id: u64) {
        self.put_frame(Header::new(Kind::Cancel, id));
    }

    /// Encodes the END of the stream of call `id`.
    pub(in crate::conn) fn put_end(&mut self, id: u64) {
        let mut header = Header::new(Kind::Data, id);
        header.flags = Flags::END;
        self.put_frame(header);
    }

    fn put_control<M: Message>(&mut self, kind: Kind, message: &M) {
        Header::new(kind, 0).encode(message, message.encoded_len(), &mut self.out);
    }
}
