//! Packing: short messages of a stream that wait together travel in one frame.

use proptest::{collection::vec, prelude::*};

use super::{
    streams::{Stream, shaped},
    *,
};
use crate::wire::frame::{Encoded, row::Row};

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

impl Node {
    /// Sends a message as senders do, into a frame that is there already or into one of its own. True if there was one.
    fn send(&mut self, id: CallId, message: &[u8], now: Time) -> bool {
        let is_added = self.conn.add_data(id, &message.to_vec());
        if !is_added {
            self.must_put(id, message, now);
        }
        is_added
    }
}

#[test]
fn a_message_is_added_only_to_the_last_frame_and_only_of_its_stream() {
    let mut pair = Pair::new();
    let [one, two] = [0, 1].map(|_| pair.open(Shape::ReplyStream).id);
    let send = |pair: &mut Pair, id| pair.server.send(id, b"x", pair.now);
    assert!(!send(&mut pair, one), "there is no frame");
    assert!(send(&mut pair, one));
    assert!(!send(&mut pair, two), "it is of another stream");
    assert!(send(&mut pair, two));
    assert!(!send(&mut pair, one), "it is not the last one");
    pair.server.transmit(pair.now);
    assert!(!send(&mut pair, one), "the driver has it");
    assert!(send(&mut pair, one));
    pair.settle();
    let lens = |id| {
        pair.client
            .packed(id)
            .iter()
            .map(|(.., read)| read.len())
            .collect::<Vec<_>>()
    };
    assert_eq!((lens(one), lens(two)), (vec![2, 1, 2], vec![2]));
}

#[test]
fn nothing_is_added_to_a_stream_that_takes_no_more() {
    let add = |node: &mut Node, id: CallId| node.conn.add_data(id, &b"more".to_vec());
    let ends: [fn(&mut Pair, CallId); 4] = [
        |pair, id| {
            pair.server
                .inject(header(Kind::Cancel, id.number(), Flags::NONE), b"", pair.now)
        },
        |pair, id| {
            let status = Status::new(Code::Internal, "torn");
            pair.server.conn.break_stream(id, status, pair.now);
        },
        |pair, id| pair.server.conn.reply(id, &(), pair.now),
        |pair, _| pair.server.conn.handle_eof(pair.now),
    ];
    for (case, end) in ends.into_iter().enumerate() {
        let mut pair = Pair::new();
        let Stream { id, .. } = pair.open(Shape::Both);
        pair.server.must_put(id, b"one", pair.now);
        assert!(add(&mut pair.server, id));
        end(&mut pair, id);
        assert!(!add(&mut pair.server, id), "case {case}");
    }
    let ends: [fn(&mut Pair, CallId); 3] = [
        |pair, id| pair.client.conn.finish_data(id, pair.now),
        |pair, id| pair.client.conn.fail_call(id, Cause::Abandoned, pair.now),
        |pair, id| {
            pair.client
                .inject(header(Kind::Reply, id.number(), Flags::NONE), b"", pair.now)
        },
    ];
    for (case, end) in ends.into_iter().enumerate() {
        let mut pair = Pair::new();
        let Stream { id, .. } = pair.open(Shape::RequestStream);
        pair.client.must_put(id, b"one", pair.now);
        assert!(add(&mut pair.client, id));
        end(&mut pair, id);
        assert!(!add(&mut pair.client, id), "case {case} of the caller");
    }
}

#[test]
fn a_message_longer_than_the_peer_takes_is_not_added() {
    let small = Settings {
        max_message: 1000,
        ..settings()
    };
    let mut pair = Pair::with(settings(), small);
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    pair.client.must_put(id, b"one", pair.now);
    assert!(pair.client.conn.add_data(id, &vec![1; 997]));
    assert!(!pair.client.conn.add_data(id, &vec![1; 998]));
}

#[test]
fn a_message_without_credit_is_not_added() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    let message = vec![1; 1000];
    let mut sent = 0;
    while pair.server.conn.add_data(id, &message) || pair.server.put(id, &message, pair.now).is_ready() {
        sent += 1;
    }
    // As many as if each had gone the long way.
    let mut other = Pair::new();
    let Stream { id, .. } = other.open(Shape::ReplyStream);
    for _ in 0..sent {
        other.server.must_put(id, &message, other.now);
    }
    assert!(other.server.put(id, &message, other.now).is_pending());
}

#[test]
fn messages_that_were_added_on_a_lease_are_sent_and_charged_when_it_ends() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    assert!(!add_on_lease(&mut pair.server, id, b"none"), "there is no frame");
    pair.server.must_put(id, b"0", pair.now);
    for message in [&b"1"[..], b"", b"333", &[4; 300]] {
        assert!(add_on_lease(&mut pair.server, id, message));
        assert!(pair.server.conn.outbox.is_leased());
    }
    pair.server.conn.end_lease();
    pair.settle();
    let read = [&b"0"[..], b"1", b"", b"333", &[4; 300]].map(<[u8]>::to_vec);
    assert_eq!(
        pair.client.packed(id),
        [(Kind::Data, Flags::PACKED, read.to_vec())]
    );
    let (_, received, _) = credit(&mut pair.server, &mut pair.client, id);
    let sent: usize = read.iter().map(|message| message.encoded_len() + 1).sum();
    // The last one has a length of two bytes.
    assert_eq!(received, sent as u64 + 1 + 256);
}

#[test]
fn a_lease_is_for_one_stream_and_for_short_messages() {
    let mut pair = Pair::new();
    let [one, two] = [0, 1].map(|_| pair.open(Shape::ReplyStream).id);
    let begin = |pair: &mut Pair| {
        pair.server.must_put(one, b"x", pair.now);
        assert!(add_on_lease(&mut pair.server, one, b"x"));
    };
    begin(&mut pair);
    assert!(!add_on_lease(&mut pair.server, two, b"x"));
    assert!(
        !pair.server.conn.outbox.is_leased(),
        "the question ends the lease"
    );
    pair.settle();
    begin(&mut pair);
    assert!(!add_on_lease(&mut pair.server, one, &[1; 5000]));
    pair.settle();
    begin(&mut pair);
    let mut added = 2;
    while add_on_lease(&mut pair.server, one, &[1; 1000]) {
        added += 1;
    }
    pair.settle();
    let (.., read) = pair.client.packed(one).pop().expect("a frame");
    assert_eq!((read.len(), added), (added, 18), "a frame has a bound");
}

#[test]
fn a_stream_has_no_more_credit_on_a_lease() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    let message = vec![1; 100];
    let mut sent = 0;
    loop {
        if !add_on_lease(&mut pair.server, id, &message)
            && pair.server.put(id, &message, pair.now).is_pending()
        {
            break;
        }
        sent += 1;
    }
    // As many as if each had gone the long way.
    let mut other = Pair::new();
    let Stream { id, .. } = other.open(Shape::ReplyStream);
    for _ in 0..sent {
        other.server.must_put(id, &message, other.now);
    }
    assert!(other.server.put(id, &message, other.now).is_pending());
}

#[test]
fn a_peer_that_takes_only_short_messages_gives_no_lease() {
    let small = Settings {
        max_message: 1000,
        ..settings()
    };
    let mut pair = Pair::with(settings(), small);
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    pair.client.must_put(id, b"one", pair.now);
    assert!(add_on_lease(&mut pair.client, id, b"two"));
    assert!(!add_on_lease(&mut pair.client, id, &[1; 998]));
}

#[test]
fn no_frame_is_leased_beside_the_rest_of_a_long_message() {
    let mut pair = Pair::new();
    let [long, short] = [0, 1].map(|_| pair.open(Shape::ReplyStream).id);
    pair.server.open_window = 0;
    pair.server.must_put(long, &[1; 500_000], pair.now);
    assert!(!pair.server.conn.outbox.remainders().is_empty());
    pair.server.must_put(short, b"one", pair.now);
    // Each short message is to be noted, so that the long one is paced.
    assert!(add_on_lease(&mut pair.server, short, b"two"));
    assert!(!pair.server.conn.outbox.is_leased());
}

#[test]
fn a_compressed_message_is_not_added_on_a_lease() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    pair.server.must_put(id, b"one", pair.now);
    assert!(add_on_lease(&mut pair.server, id, b"two"));
    let compressed = Encoded::new(Bytes::from_static(b"packed"), 1, 100);
    assert!(pair.server.conn.outbox.is_leased());
    assert!(!pair.server.conn.add_on_lease(id, &compressed));
}

fn add_on_lease(node: &mut Node, id: CallId, message: &[u8]) -> bool {
    node.conn.add_on_lease(id, &message.to_vec())
}

#[test]
fn a_message_that_is_added_to_a_frame_keeps_its_stream_from_being_idle() {
    let mut pair = Pair::new();
    let request = Request {
        idle: Some(secs(5)),
        ..shaped(Shape::RequestStream)
    };
    let Stream { id, .. } = pair.open_as(&request);
    // The peer takes nothing: what is put stays here.
    pair.client.open_window = 0;
    for _ in 0..3 {
        pair.client.send(id, b"x", pair.now);
        pair.now += secs(4);
        pair.client.conn.handle_deadlines(pair.now);
    }
    assert!(pair.client.conn.ours.is_waiting(id.number()));
}

/// What both ends of a stream have counted: how many bytes `from` may send to `to`, how many it has sent, and how many `to` still
/// owes it.
fn credit(from: &mut Node, to: &mut Node, id: CallId) -> (u64, u64, u64) {
    let (outgoing, _) = from.conn.call(id.number()).flow().expect("it is open");
    let sender = outgoing.outflow.as_ref().expect("it sends").credit();
    let (incoming, _) = to.conn.call(id.number()).flow().expect("it is open");
    let (granted, received, owed) = incoming.inflow.as_ref().expect("it reads").credit();
    assert_eq!(
        sender,
        (granted, received),
        "what may be sent, and what is sent, at both ends"
    );
    (granted, received, owed)
}

/// The sender of a stream and its reader.
fn ends(pair: &mut Pair, from_client: bool) -> (&mut Node, &mut Node) {
    match from_client {
        true => (&mut pair.client, &mut pair.server),
        false => (&mut pair.server, &mut pair.client),
    }
}

/// Puts messages of these lengths, as far as there is credit, and reads all of them: several at once if they go `ahead`.
fn round(pair: &mut Pair, from_client: bool, id: CallId, lens: &[usize], ahead: bool) {
    let now = pair.now;
    let (from, _) = ends(pair, from_client);
    for &len in lens {
        let message = vec![5; len];
        if !from.conn.add_on_lease(id, &message) && from.put(id, &message, now).is_pending() {
            break;
        }
    }
    from.conn.end_lease();
    pair.settle();
    let (_, to) = ends(pair, from_client);
    let mut taken = VecDeque::new();
    loop {
        let more = ahead.then_some(&mut taken);
        if poll(|cx| to.conn.poll_message(id, more, now, cx)).is_pending() {
            break;
        }
        taken.clear();
    }
    pair.settle();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn both_ends_of_a_stream_agree_on_its_credit_to_the_byte(
        rounds in vec((vec(prop_oneof![0_usize..300, 0..5000_usize, 0..40_000_usize], 1..60), any::<bool>(), 0..2000_u64), 1..20),
    ) {
        let mut pair = Pair::new();
        let Stream { id, .. } = pair.open(Shape::Both);
        let mut windows = [64 << 10; 2];
        for (lens, ahead, millis) in rounds {
            for (from_client, least) in [true, false].into_iter().zip(&mut windows) {
                round(&mut pair, from_client, id, &lens, ahead);
                let (from, to) = ends(&mut pair, from_client);
                let (granted, received, owed) = credit(from, to, id);
                // All is read, so nothing is missing: the window never shrinks.
                let window = granted + owed - received;
                prop_assert!(window >= *least && owed < window, "a window of {window} bytes, and {owed} are owed");
                *least = window;
                let begins_with_row = lens.len() > 1 && lens[..2].iter().all(|&len| len < 4000);
                let has_row = to.seen.drain(..).any(|frame| frame.flags.contains(Flags::PACKED));
                prop_assert!(has_row || !begins_with_row, "short messages did not share a frame");
            }
            pair.now += ms(millis);
        }
    }
}
