//! Packing: short messages of a stream that wait together travel in one frame.

use super::{streams::Stream, *};
use crate::wire::frame::row::Row;

/// The messages of a DATA frame.
fn messages(frame: &Frame) -> Vec<Vec<u8>> {
    let mut row = Row::new(frame.payload.clone());
    if !frame.flags.contains(Flags::PACKED) {
        return vec![Vec::<u8>::decode(frame.payload.clone()).unwrap()];
    }
    std::iter::from_fn(|| row.take().expect("the row is whole"))
        .map(|message| Vec::<u8>::decode(message).unwrap())
        .collect()
}

impl Node {
    /// The frames of call `id` that were read, each with its messages.
    fn packed(&self, id: CallId) -> Vec<(Kind, Flags, Vec<Vec<u8>>)> {
        let of_call = self.seen.iter().filter(|frame| frame.id == id.number());
        let seen = of_call.map(|frame| match frame.kind {
            Kind::Data if !frame.flags.contains(Flags::END) => (frame.kind, frame.flags, messages(frame)),
            _ => (frame.kind, frame.flags, Vec::new()),
        });
        seen.collect()
    }
}

#[test]
fn messages_that_wait_together_travel_in_one_frame_and_the_end_stands_alone() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::Both);
    for message in [&b"1"[..], b"", b"3"] {
        pair.client.must_put(id, message, pair.now);
        pair.server.must_put(id, message, pair.now);
    }
    pair.client.conn.finish_data(id, pair.now);
    pair.server.conn.reply(id, &(), pair.now);
    pair.settle();
    let row = (
        Kind::Data,
        Flags::PACKED,
        vec![b"1".to_vec(), Vec::new(), b"3".to_vec()],
    );
    assert_eq!(
        pair.server.packed(id)[1..],
        [row.clone(), (Kind::Data, Flags::END, Vec::new())]
    );
    assert_eq!(
        pair.client.packed(id),
        [row, (Kind::Reply, Flags::NONE, Vec::new())]
    );
}

#[test]
fn a_message_alone_is_a_plain_frame() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    pair.server.must_put(id, b"dog", pair.now);
    pair.server.transmit(pair.now);
    assert_eq!(
        pair.server.wire[..],
        *b"\0\0\0\x0b\x08\x04\x10\x01\x7a\x05\x0a\x03dog"
    );
    // Once it is taken, the next one has a frame of its own.
    pair.server.must_put(id, b"cat", pair.now);
    pair.settle();
    let plain = |message: &[u8]| (Kind::Data, Flags::NONE, vec![message.to_vec()]);
    assert_eq!(pair.client.packed(id), [plain(b"dog"), plain(b"cat")]);
}

#[test]
fn frames_of_others_stay_between_the_messages_between_which_they_were_put() {
    let mut pair = Pair::new();
    let ids = [0, 1].map(|_| pair.open(Shape::ReplyStream).id);
    for turn in 0..3 {
        for id in ids {
            pair.server.must_put(id, &[turn], pair.now);
            pair.server.must_put(id, &[turn, turn], pair.now);
        }
    }
    let seen = pair.client.seen.len();
    pair.settle();
    let read: Vec<_> = pair.client.seen[seen..]
        .iter()
        .map(|frame| (frame.id, messages(frame)))
        .collect();
    let expected = (0..3).flat_map(|turn| ids.map(|id| (id.number(), vec![vec![turn], vec![turn; 2]])));
    assert_eq!(read, expected.collect::<Vec<_>>());
}

#[test]
fn a_long_message_travels_in_fragments_between_packed_frames() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    pair.server.must_put(id, b"1", pair.now);
    pair.server.must_put(id, b"2", pair.now);
    pair.server.must_put(id, &[3; 40_000], pair.now);
    pair.server.must_put(id, b"4", pair.now);
    pair.settle();
    let lens: Vec<Vec<usize>> = (pair.client.packed(id).iter())
        .map(|(_, flags, read)| {
            assert_eq!(flags.contains(Flags::PACKED), read.len() > 1);
            read.iter().map(Vec::len).collect()
        })
        .collect();
    assert_eq!(lens, [vec![1, 1], vec![40_000], vec![1]]);
}

#[test]
fn credit_is_charged_by_frame_and_to_the_byte() {
    for len in [0, 1, 60, 125, 126, 1000, 4092] {
        let mut pair = Pair::new();
        let Stream { id, .. } = pair.open(Shape::ReplyStream);
        let message = vec![1; len];
        let mut sent = 0;
        while pair.server.put(id, &message, pair.now).is_ready() {
            sent += 1;
        }
        pair.settle();
        assert!(
            pair.server.put(id, &message, pair.now).is_pending(),
            "no credit is left"
        );
        let frames: Vec<_> = pair
            .client
            .seen
            .iter()
            .filter(|frame| frame.kind == Kind::Data)
            .collect();
        assert_eq!(
            frames.iter().map(|frame| messages(frame).len()).sum::<usize>(),
            sent
        );
        let charged: usize = frames.iter().map(|frame| frame.payload.len() + 256).sum();
        let window = 64 << 10;
        // The last message of each kind may cost what it costs in a frame of its own.
        let least = charged - (message.encoded_len() + 3 + 256);
        assert!(
            charged >= window && least < window,
            "{charged} bytes for messages of {len}"
        );
    }
}
