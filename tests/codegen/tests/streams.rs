//! Streams in each direction, by generated servers and clients.

use std::sync::Arc;

use codegen_tests::tape::v1::{PlayRequest, RecordReply};
use codegen_tests::tape::v1::{
    Recorder, RecorderClient, RecorderServer, Sound, Speed, Tape, TapeClient, TapeServer,
};
use rpc_runtime::{
    Bytes, Code, Context, Error, Executed, Requests, Result, Status, Stream, Streaming, stream,
};

/// A tape with something on it; its streams borrow from it.
struct Cassette {
    sounds: Vec<Bytes>,
}

impl Cassette {
    fn new() -> Self {
        Self {
            sounds: ["la", "le", "lu"].map(Bytes::from).to_vec(),
        }
    }
}

async fn length(mut requests: Requests<Sound>) -> Result<u64> {
    let mut length = 0;
    while let Some(sound) = requests.message().await? {
        length += sound.samples.len() as u64;
    }
    Ok(length)
}

impl Tape for Cassette {
    async fn rpc_play(
        &self,
        cx: &Context,
        from: u64,
        speed: Speed,
    ) -> Result<impl Stream<Item = Result<Sound>> + Send> {
        if from > self.sounds.len() as u64 {
            return Err(Status::new(Code::OutOfRange, "the tape is shorter"));
        }
        let step = if speed == Speed::Double { 2 } else { 1 };
        Ok(stream(async move |out| {
            for samples in self.sounds.iter().skip(from as usize).step_by(step) {
                assert!(!cx.is_draining());
                out.send(Sound {
                    samples: samples.clone(),
                })
                .await;
            }
            Ok(())
        }))
    }

    async fn rpc_record(&self, _: &Context, requests: Requests<Sound>) -> Result<u64> {
        length(requests).await
    }

    async fn rpc_recognise(&self, _: &Context, mut requests: Requests<Sound>) -> Result<Speed> {
        let first = requests.message().await?;
        Ok(if first.is_none() {
            Speed::Normal
        } else {
            Speed::Double
        })
    }

    async fn rpc_echo(
        &self,
        _: &Context,
        requests: Requests<Sound>,
    ) -> Result<impl Stream<Item = Result<Sound>> + Send> {
        // What comes goes back as it is: the requests are a stream themselves.
        Ok(requests)
    }

    async fn rpc_tick(&self, _: &Context) -> Result<impl Stream<Item = Result<()>> + Send> {
        Ok(stream(async |out| {
            out.send(()).await;
            out.send(()).await;
            Ok(())
        }))
    }

    async fn rpc_beat(&self, _: &Context) -> Result<()> {
        Ok(())
    }
}

impl Recorder for Cassette {
    async fn rpc_play(
        &self,
        cx: &Context,
        request: PlayRequest,
    ) -> Result<impl Stream<Item = Result<Sound>> + Send> {
        Tape::rpc_play(self, cx, request.from, request.speed()).await
    }

    async fn rpc_record(&self, _: &Context, requests: Requests<Sound>) -> Result<RecordReply> {
        Ok(RecordReply {
            length: length(requests).await?,
        })
    }
}

fn sound(text: &'static str) -> Sound {
    Sound { samples: text.into() }
}

async fn all(mut sounds: Streaming<Sound>) -> Result<Vec<Bytes>, Error> {
    let mut all = Vec::new();
    while let Some(sound) = sounds.message().await? {
        all.push(sound.samples);
    }
    Ok(all)
}

#[tokio::test]
async fn each_direction_streams() {
    // An `Arc` is served as well.
    let tape = TapeClient::in_process(TapeServer::new(Arc::new(Cassette::new())));
    let sounds = tape.send_recv().play(0, Speed::Normal).await.unwrap();
    assert_eq!(all(sounds).await.unwrap(), ["la", "le", "lu"]);
    let sounds = tape.send_recv().play(0, Speed::Double).await.unwrap();
    assert_eq!(all(sounds).await.unwrap(), ["la", "lu"]);
    let late = tape.send_recv().play(9, Speed::Normal).await.unwrap();
    assert_eq!(all(late).await.unwrap_err().code(), Code::OutOfRange);

    let (mut sender, length) = tape.send_recv().record().await.unwrap();
    for text in ["1", "22", "333"] {
        sender.send(sound(text)).await.unwrap();
    }
    sender.finish();
    assert_eq!(length.await.unwrap(), 6);

    let (sender, speed) = tape.send_recv().recognise().await.unwrap();
    sender.finish();
    assert_eq!(speed.await.unwrap(), Speed::Normal);

    let (mut sender, mut echo) = tape.send_recv().echo().await.unwrap();
    for text in ["ping", "pong"] {
        sender.send(sound(text)).await.unwrap();
        assert_eq!(echo.message().await.unwrap(), Some(sound(text)));
    }
    sender.finish();
    assert_eq!(echo.message().await.unwrap(), None);

    let mut ticks = tape.send_recv().tick().await.unwrap();
    let mut count = 0;
    while let Some(()) = ticks.message().await.unwrap() {
        count += 1;
    }
    assert_eq!(count, 2);
    tape.send_recv().beat().await.unwrap();
    tape.send().beat().await.unwrap();
}

#[tokio::test]
async fn messages_stay_messages_without_flatten() {
    let recorder = RecorderClient::in_process(RecorderServer::new(Cassette::new()));
    let request = PlayRequest {
        from: 1,
        ..PlayRequest::default()
    };
    let sounds = recorder.send_recv().play(request).await.unwrap();
    assert_eq!(all(sounds).await.unwrap(), ["le", "lu"]);
    let (sender, reply) = recorder.send_recv().record().await.unwrap();
    sender.finish();
    assert_eq!(reply.await.unwrap(), RecordReply { length: 0 });
}

#[tokio::test]
async fn an_argument_without_its_enum_value_is_refused_before_the_stream() {
    let tape = TapeClient::in_process(TapeServer::new(Cassette::new()));
    static PLAY: rpc_runtime::Procedure =
        rpc_runtime::Procedure::new("tape.v1.Tape/rpc_play", 0xa4fb_3e85_f397_f032).with_reply_stream();
    let request = PlayRequest { from: 0, speed: 7 };
    let sounds = tape.client().call().reply_stream(&PLAY, request).await.unwrap();
    let error = all(sounds).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::InvalidArgument, Executed::No)
    );
}
