use proptest::{collection::vec, prelude::*};

use super::*;

/// The segments that a vectored write of any length gets.
fn segments(output: &Output) -> Vec<&[u8]> {
    let mut slices = [IoSlice::new(&[]); 64];
    let count = output.chunks_vectored(&mut slices);
    let sealed = output.sealed.iter().map(|segment| &segment[..]);
    let tail = &output.tail[output.head..];
    let segments: Vec<_> = sealed.chain((!tail.is_empty()).then_some(tail)).collect();
    assert!(
        slices[..count]
            .iter()
            .map(|slice| &slice[..])
            .eq(segments.iter().copied().take(64))
    );
    segments
}

fn output(bytes: &[u8]) -> Output {
    let mut output = Output::new();
    output.put_slice(bytes);
    output
}

#[test]
fn long_bytes_stay_whole() {
    let long = Bytes::from(vec![1; 64 * 1024]);
    let mut output = output(b"before");
    output.put(long.clone());
    output.put_slice(b"after");
    let segments = segments(&output);
    assert_eq!((segments[0], segments[2]), (&b"before"[..], &b"after"[..]));
    assert_eq!(
        (segments[1].as_ptr(), segments[1].len()),
        (long.as_ptr(), long.len())
    );
}

#[test]
fn short_bytes_share_one_segment() {
    let mut output = Output::new();
    for _ in 0..3 {
        output.put(Bytes::from(vec![1; Output::BY_REFERENCE - 1]));
    }
    assert_eq!(segments(&output).len(), 1);
}

#[test]
fn message_keeps_its_long_fields_whole() {
    let long = Bytes::from(vec![1; 64 * 1024]);
    let mut output = Output::new();
    prost::Message::encode(&long, &mut output).unwrap();
    assert_eq!(segments(&output)[1].as_ptr(), long.as_ptr());
}

#[test]
fn splitting_copies_nothing() {
    let long = Bytes::from(vec![1; 64 * 1024]);
    let mut output = output(b"before");
    output.put(long.clone());
    output.put_slice(b"after");

    let mut front = output.split_to(6 + 16 * 1024);
    assert_eq!((front.len(), output.len()), (6 + 16 * 1024, 48 * 1024 + 5));
    assert_eq!((front.written(), output.written()), (0, front.end()));
    assert_eq!(segments(&front)[1].as_ptr(), long.as_ptr());
    assert_eq!(segments(&output)[0].as_ptr(), long[16 * 1024..].as_ptr());
    let rest = output.split_to(output.len());
    assert_eq!(
        (rest.len(), output.len(), output.written()),
        (48 * 1024 + 5, 0, output.end())
    );

    front.append(&mut { rest });
    assert_eq!(
        front.copy_to_bytes(front.len()),
        [b"before", &long[..], b"after"].concat()
    );
}

#[test]
fn appending_moves_long_segments() {
    let long = Bytes::from(vec![1; 64 * 1024]);
    let mut first = output(b"first");
    let mut second = output(b"second");
    second.put(long.clone());
    first.append(&mut second);
    assert_eq!(segments(&first)[0], b"firstsecond");
    assert_eq!(segments(&first)[1].as_ptr(), long.as_ptr());
    assert_eq!(
        (second.len(), second.written(), second.end()),
        (0, second.end(), 6 + 64 * 1024)
    );
}

#[test]
fn appending_to_an_empty_output_swaps_the_buffers() {
    let mut to_write = output(b"written long ago");
    to_write.advance(16);
    let mut encoded = output(b"next");
    let (idle, busy) = (to_write.tail.as_ptr(), encoded.tail.as_ptr());
    to_write.append(&mut encoded);
    assert_eq!((to_write.chunk().as_ptr(), encoded.tail.as_ptr()), (busy, idle));
    assert_eq!((to_write.written(), to_write.end()), (16, 20));
    assert_eq!((encoded.written(), encoded.end()), (4, 4));
}

#[test]
fn appending_a_long_tail_moves_it() {
    let mut first = output(b"first");
    let mut second = output(&[1; Output::BY_REFERENCE + 1]);
    let tail = second.tail.as_ptr();
    second.advance(1);
    first.append(&mut second);
    assert_eq!(segments(&first)[1].as_ptr(), tail.wrapping_add(1));
    assert_eq!(first.len(), 5 + Output::BY_REFERENCE);
}

#[test]
fn partial_writes_keep_the_offsets() {
    let mut output = output(b"0123456789");
    assert_eq!((output.written(), output.end()), (0, 10));
    output.advance(4);
    output.put_slice(b"ab");
    assert_eq!(
        (output.chunk(), output.written(), output.end()),
        (&b"456789ab"[..], 4, 12)
    );
    output.advance(8);
    assert_eq!(
        (output.is_empty(), output.written(), output.end()),
        (true, 12, 12)
    );
}

#[test]
fn written_tail_is_used_again() {
    let mut output = output(&[1; 1000]);
    let buffer = output.tail.as_ptr();
    for _ in 0..100 {
        output.advance(output.len());
        output.put_slice(&[2; 1000]);
    }
    assert_eq!(output.tail.as_ptr(), buffer);
}

#[test]
fn tail_is_sealed_instead_of_growing_without_end() {
    let mut output = Output::new();
    for _ in 0..1000 {
        output.put_slice(&[1; 1000]);
    }
    assert!(
        output
            .sealed
            .iter()
            .all(|segment| segment.len() > Output::CHUNK_MAX / 2)
    );
    assert!(output.tail.capacity() <= Output::CHUNK_MAX);
}

#[test]
fn buffers_larger_than_a_chunk_are_not_kept() {
    let mut output = output(&vec![1; 1 << 20]);
    output.advance(1 << 20);
    assert_eq!(output.tail.capacity(), 0);
}

#[test]
fn released_output_holds_no_memory() {
    let mut output = output(b"bytes");
    output.release();
    assert_eq!(output.len(), 5, "not while something is unwritten");
    output.advance(5);
    output.release();
    assert_eq!(
        (output.tail.capacity(), output.sealed.capacity(), output.end()),
        (0, 0, 5)
    );
}

#[test]
#[should_panic(expected = "cannot advance an output of 3 bytes by 4")]
fn advancing_too_far_is_a_mistake_of_ours() {
    output(b"abc").advance(4);
}

#[derive(Clone, Debug)]
enum Step {
    Slice(Vec<u8>),
    Put(Vec<u8>),
    Byte(u8),
    Append(Vec<Vec<u8>>),
    Advance(usize),
    Split(usize),
    Copy(usize),
    Release,
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let len =
        prop_oneof![4 => 0_usize..50, 2 => 0_usize..9000, 1 => 16_380_usize..16_390, 1 => 0_usize..70_000];
    (len, any::<u8>()).prop_map(|(len, seed)| (0..len).map(|index| seed.wrapping_add(index as u8)).collect())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        piece().prop_map(Step::Slice),
        piece().prop_map(Step::Put),
        any::<u8>().prop_map(Step::Byte),
        vec(piece(), 0..4).prop_map(Step::Append),
        (0_usize..100_000).prop_map(Step::Advance),
        (0_usize..100_000).prop_map(Step::Split),
        (0_usize..100_000).prop_map(Step::Copy),
        Just(Step::Release),
    ]
}

fn concat(output: &Output) -> Vec<u8> {
    segments(output).concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn output_holds_what_a_plain_buffer_holds(steps in vec(step(), 1..30)) {
        let mut output = Output::new();
        let mut model: Vec<u8> = Vec::new();
        let mut consumed = 0;
        for step in steps {
            match step {
                Step::Slice(bytes) => {
                    output.put_slice(&bytes);
                    model.extend(bytes);
                }
                Step::Put(bytes) => {
                    model.extend(&bytes);
                    output.put(Bytes::from(bytes));
                }
                Step::Byte(byte) => {
                    output.put_u8(byte);
                    model.push(byte);
                }
                Step::Append(pieces) => {
                    let mut other = Output::new();
                    for piece in pieces {
                        model.extend(&piece);
                        other.put(Bytes::from(piece.clone()));
                    }
                    output.append(&mut other);
                    prop_assert_eq!((other.len(), other.written()), (0, other.end()));
                }
                Step::Advance(count) => {
                    let count = count.min(model.len());
                    output.advance(count);
                    model.drain(..count);
                    consumed += count;
                }
                Step::Split(count) => {
                    let count = count.min(model.len());
                    let front: Vec<u8> = model.drain(..count).collect();
                    prop_assert_eq!(concat(&output.split_to(count)), front);
                    consumed += count;
                }
                Step::Copy(count) => {
                    let count = count.min(model.len());
                    let front: Vec<u8> = model.drain(..count).collect();
                    prop_assert_eq!(output.copy_to_bytes(count), front);
                    consumed += count;
                }
                Step::Release => output.release(),
            }
            prop_assert_eq!(output.len(), model.len());
            prop_assert_eq!(output.written(), consumed as u64);
            prop_assert_eq!(output.chunk().is_empty(), model.is_empty());
        }
        prop_assert_eq!(concat(&output), model);
    }
}

#[test]
fn truncated_output_is_as_if_the_rest_had_not_been_put() {
    let pieces = [10, 20_000, 5, 70_000, 0, 40_000, 3];
    let total: usize = pieces.iter().sum();
    for consumed in [0, 7, 10, 30_000] {
        for keep in (consumed..=total).step_by(997).chain([consumed, total]) {
            let mut output = Output::new();
            for (n, len) in pieces.into_iter().enumerate() {
                output.put(Bytes::from(vec![n as u8; len]));
            }
            let all = pieces
                .into_iter()
                .enumerate()
                .flat_map(|(n, len)| vec![n as u8; len]);
            output.advance(consumed);
            output.truncate(keep as u64);
            assert_eq!((output.end(), output.len()), (keep as u64, keep - consumed));
            output.put_slice(b"more");
            let rest: Vec<u8> = all.take(keep).skip(consumed).chain(*b"more").collect();
            let len = output.len();
            assert!(
                output.copy_to_bytes(len) == rest,
                "{keep} of {total} after {consumed}"
            );
        }
    }
}
