use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Buf, BufMut, Bytes};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    Priority,
    conn::{Time, outbox::remainders::MessageKind, tests::settings},
    wire::frame::{Encoded, Frame, Size, row::Row},
};

fn outbox() -> Outbox {
    let mut outbox = Outbox::new(&settings());
    outbox.accept_max_frame(64 * 1024);
    outbox
}

fn data() -> Header<'static> {
    Header::new(Kind::Data, 5)
}

fn message(bytes: &[u8]) -> Encoded {
    Encoded::plain(Bytes::copy_from_slice(bytes))
}

/// Puts a message as it is, and leaves its frame open.
fn put(outbox: &mut Outbox, header: Header<'_>, bytes: &[u8]) {
    let (start, message) = (outbox.end(), message(bytes));
    outbox.put_message(
        header,
        &message,
        message.size(),
        MessageKind::Data,
        Priority::Normal,
        Time::ZERO,
    );
    outbox.leave_open(&header, bytes.len(), start);
}

fn add(outbox: &mut Outbox, bytes: &[u8]) -> Option<Added> {
    outbox.add_to_frame(&message(bytes), bytes.len())
}

/// All frames of the output, each with the messages in it.
fn frames(outbox: &mut Outbox) -> Vec<(Frame, Vec<Bytes>)> {
    let mut bytes = outbox.out.copy_to_bytes(outbox.out.len());
    let mut frames = Vec::new();
    while bytes.has_remaining() {
        let len = bytes.get_u32() as usize;
        let frame = Frame::decode(bytes.split_to(len)).expect("it is a frame");
        let mut messages = Vec::new();
        if frame.flags.contains(Flags::PACKED) {
            let mut row = Row::new(frame.payload.clone());
            while let Some(message) = row.take().expect("the row is whole") {
                messages.push(message);
            }
        } else {
            messages.push(frame.payload.clone());
        }
        frames.push((frame, messages));
    }
    frames
}

#[test]
fn messages_share_the_frame_of_the_first_and_are_charged_by_what_the_row_grows() {
    for messages in [
        &[&b"one"[..], b"", b"three"][..],
        &[b"", b"two"],
        &[&[1; 200], &[2; 4096], &[3; 127]],
    ] {
        let mut outbox = outbox();
        put(&mut outbox, data(), messages[0]);
        let mut charged = messages[0].len();
        for message in &messages[1..] {
            let added = add(&mut outbox, message).unwrap();
            assert_eq!(added.end, outbox.end());
            charged += added.charged as usize;
            assert_eq!(outbox.open_frame().unwrap().key().id, 5);
        }
        assert_eq!(outbox.open_frame().unwrap().messages as usize, messages.len());
        let [(frame, read)] = &frames(&mut outbox)[..] else {
            panic!("one frame")
        };
        assert_eq!(
            (frame.kind, frame.id, frame.flags),
            (Kind::Data, 5, Flags::PACKED)
        );
        assert_eq!(
            (read, frame.payload.len()),
            (
                &messages.iter().map(|m| Bytes::copy_from_slice(m)).collect(),
                charged
            )
        );
    }
}

#[test]
fn what_stands_before_the_message_stays() {
    let mut outbox = outbox();
    let mut header = Header::new(Kind::Send, 9);
    (header.flags, header.procedure, header.timeout_us, header.depth) = (Flags::END, 7, 30_000_000, 3);
    put(&mut outbox, header, b"one");
    add(&mut outbox, b"two").unwrap();
    let [(frame, read)] = &frames(&mut outbox)[..] else {
        panic!("one frame")
    };
    let expected = Frame {
        kind: Kind::Send,
        id: 9,
        flags: Flags::END | Flags::PACKED,
        procedure: 7,
        timeout_us: 30_000_000,
        depth: 3,
        payload: Bytes::from_static(b"\x03one\x03two"),
        ..Frame::default()
    };
    assert_eq!((frame, read.len()), (&expected, 2));
}

#[test]
fn a_frame_takes_no_more_than_its_bound_and_no_long_message() {
    let mut outbox = outbox();
    put(&mut outbox, data(), b"first");
    assert_eq!(add(&mut outbox, &[1; PACKABLE + 1]), None);
    let mut count = 1;
    while add(&mut outbox, &[2; 1000]).is_some() {
        count += 1;
    }
    let [(frame, read)] = &frames(&mut outbox)[..] else {
        panic!("one frame")
    };
    assert_eq!(read.len(), count);
    assert!(frame.payload.len() <= PACK_UNTIL && frame.payload.len() + packed_len(1000) > PACK_UNTIL);
    put(&mut outbox, data(), &[1; PACKABLE + 1]);
    assert!(outbox.open_frame().is_none(), "a long message stays alone");
}

#[test]
fn nothing_is_added_behind_another_frame_nor_to_one_that_the_driver_has() {
    let mut outbox = outbox();
    put(&mut outbox, data(), b"first");
    outbox.put_ping(1);
    assert_eq!(add(&mut outbox, b"behind a ping"), None);
    put(&mut outbox, data(), b"second");
    let mut taken = Output::new();
    outbox.move_to(&mut taken);
    assert_eq!(add(&mut outbox, b"too late"), None);
    put(&mut outbox, data(), b"third");
    outbox.move_to(&mut taken);
    assert_eq!(add(&mut outbox, b"too late"), None);
    put(&mut outbox, data(), b"fourth");
    outbox.close_frame();
    assert_eq!(add(&mut outbox, b"closed"), None);
    outbox.move_to(&mut taken);
    outbox.out.append(&mut taken);
    let counts: Vec<_> = frames(&mut outbox).iter().map(|(_, read)| read.len()).collect();
    assert_eq!(counts, [1; 5]);
}

#[test]
fn nothing_is_packed_before_the_hello_of_the_peer_nor_with_metadata_or_compression() {
    let mut early = Outbox::new(&settings());
    put(&mut early, data(), b"early");
    assert!(early.open_frame().is_none());
    let metadata = [("a", "b")].into_iter().collect();
    let mut with_metadata = Header::new(Kind::Send, 1);
    with_metadata.metadata = Some(&metadata);
    let mut compressed = data();
    (compressed.encoding, compressed.length) = (2, 10);
    for header in [with_metadata, compressed] {
        let mut outbox = outbox();
        put(&mut outbox, header, b"alone");
        assert!(outbox.open_frame().is_none());
    }
}

/// A message whose code panics, or writes another length than it has said.
enum Bad {
    Panics,
    WritesLess,
    WritesMore,
}

impl Payload for Bad {
    fn size(&self) -> Size {
        Size::plain(3)
    }

    fn put(&self, out: &mut impl BufMut) {
        out.put_slice(b"a");
        match self {
            Self::Panics => panic!("on purpose"),
            Self::WritesLess => {}
            Self::WritesMore => out.put_slice(&[1; 70_000]),
        }
    }
}

#[test]
fn a_message_that_panics_leaves_the_frame_as_it_was() {
    for bad in [Bad::Panics, Bad::WritesLess, Bad::WritesMore] {
        for before in [&[&b"one"[..]][..], &[b"one", b"two"]] {
            let mut outbox = outbox();
            put(&mut outbox, data(), before[0]);
            for message in &before[1..] {
                add(&mut outbox, message).unwrap();
            }
            let end = outbox.end();
            let panicked = catch_unwind(AssertUnwindSafe(|| outbox.add_to_frame(&bad, 3)));
            assert!(panicked.is_err());
            if before.len() > 1 {
                outbox.lease(1000);
                let panicked = catch_unwind(AssertUnwindSafe(|| outbox.add_on_lease(5, &bad)));
                assert!(panicked.is_err());
                assert_eq!(outbox.end_lease(), Some((5, 0)));
            }
            assert_eq!(outbox.end(), end);
            // Into the same frame, or into another one if the tail had to be sealed.
            if add(&mut outbox, b"last").is_none() {
                put(&mut outbox, data(), b"last");
            }
            let read: Vec<_> = frames(&mut outbox)
                .into_iter()
                .flat_map(|(_, read)| read)
                .collect();
            assert_eq!(read, [before, &[b"last"]].concat());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn all_messages_come_out_in_order_whatever_is_taken_and_sealed(
        before in 0_usize..70_000,
        lens in vec((0_usize..6000, 0_u8..20), 1..100),
    ) {
        let mut outbox = outbox();
        let mut taken = Output::new();
        // The tail may have to be sealed within a frame.
        outbox.put_control_filler(before);
        let skipped = outbox.out.len();
        for (n, &(len, event)) in lens.iter().enumerate() {
            let bytes = vec![n as u8; len];
            // As the messages of a stream: most find a lease.
            if !outbox.add_on_lease(5, &message(&bytes)) {
                outbox.end_lease();
                match add(&mut outbox, &bytes) {
                    Some(_) => outbox.lease(u64::MAX),
                    None => put(&mut outbox, data(), &bytes),
                }
            }
            if event < 2 {
                outbox.end_lease();
            }
            match event {
                0 => outbox.move_to(&mut taken),
                1 => outbox.out.put(Bytes::from_static(&[0, 0, 0, 4, 8, 6, 16, 1])),
                _ => {}
            }
        }
        outbox.end_lease();
        outbox.move_to(&mut taken);
        taken.advance(skipped);
        outbox.out.append(&mut taken);
        let frames = frames(&mut outbox);
        let read = frames.iter().filter(|(frame, _)| frame.kind == Kind::Data).flat_map(|(_, read)| read);
        let lens = lens.iter().enumerate().map(|(n, &(len, _))| vec![n as u8; len]);
        prop_assert!(read.eq(lens.collect::<Vec<_>>().iter()));
    }
}

impl Outbox {
    /// Puts bytes that are no frame into the tail.
    fn put_control_filler(&mut self, len: usize) {
        self.out.put_slice(&vec![0; len]);
    }
}
