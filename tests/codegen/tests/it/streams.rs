//! Streams in each direction, between generated clients and servers.

use std::sync::Arc;

use codegen_tests::golden::tape::v1::{
    GuessReply, PlayRequest, RecogniseReply, RecordReply, Recorder, RecorderClient, RecorderServer, Sound,
    Speed, Tape, TapeClient, TapeServer,
};
use rpc_runtime::{
    Bytes, Client, Code, Context, Error, Open, Requests, Result, Server, Status, Stream, Streaming,
    server::{Handler, Incoming, Procedure, Service},
    stream,
};

/// A tape with three sounds. Its streams borrow from it.
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
        speed: Open<Speed>,
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

    async fn rpc_recognise(&self, _: &Context, mut requests: Requests<Sound>) -> Result<Open<Speed>> {
        let first = requests.message().await?;
        Ok(if first.is_none() {
            Speed::Normal.into()
        } else {
            Speed::Double.into()
        })
    }

    async fn rpc_guess(&self, _: &Context, mut requests: Requests<Sound>) -> Result<Option<Open<Speed>>> {
        let first = requests.message().await?;
        Ok(first.map(|_| Speed::Double.into()))
    }

    async fn rpc_echo(
        &self,
        _: &Context,
        requests: Requests<Sound>,
    ) -> Result<impl Stream<Item = Result<Sound>> + Send> {
        // The requests are a stream too, so they can be returned as the replies.
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
        Tape::rpc_play(self, cx, request.from, request.speed().into()).await
    }

    async fn rpc_record(&self, _: &Context, requests: Requests<Sound>) -> Result<RecordReply> {
        Ok(RecordReply {
            length: length(requests).await?,
        })
    }

    async fn rpc_copy(
        &self,
        _: &Context,
        mut requests: Requests<Sound>,
    ) -> Result<impl Stream<Item = Result<RecordReply>> + Send> {
        Ok(stream(async move |out| {
            while let Some(sound) = requests.message().await? {
                let length = sound.samples.len() as u64;
                out.send(RecordReply { length }).await;
            }
            Ok(())
        }))
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
async fn each_direction_streams_in_one_process() {
    // An `Arc` of a service is a service too.
    let tape = TapeClient::in_process(TapeServer::new(Arc::new(Cassette::new())));
    each_direction_streams(tape).await;
}

#[tokio::test]
async fn each_direction_streams_over_a_transport() {
    let server = Server::builder()
        .service(TapeServer::new(Cassette::new()))
        .listener("mem:tape")
        .signals(false);
    let serving = tokio::spawn(server.bind().await.unwrap().serve());
    let tape = TapeClient::connect("mem:tape").await.unwrap();
    each_direction_streams(tape.clone()).await;
    let report = tape.terminate().await.unwrap();
    assert!(report.is_clean(), "{report}");
    serving.await.unwrap().unwrap();
}

async fn each_direction_streams(tape: TapeClient) {
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

    for (messages, expected) in [(0, None), (1, Some(Speed::Double))] {
        #[expect(deprecated, reason = "the .proto file marks it deprecated")]
        let (mut sender, speed) = tape.send_recv().guess().await.unwrap();
        for _ in 0..messages {
            sender.send(sound("la")).await.unwrap();
        }
        sender.finish();
        assert_eq!(speed.await.unwrap(), expected.map(Open::from));
    }

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
    let (mut sender, mut lengths) = recorder.send_recv().copy().await.unwrap();
    sender.send(sound("four")).await.unwrap();
    assert_eq!(lengths.message().await.unwrap(), Some(RecordReply { length: 4 }));
    sender.finish();
    assert_eq!(lengths.message().await.unwrap(), None);
}

/// Replies with speeds that only a later version knows.
struct Newer;

impl Service for Newer {
    fn name(&self) -> &'static str {
        "tape.v1.Tape"
    }

    fn procedures(&self) -> &'static [Procedure] {
        TapeServer::new(Cassette::new()).procedures()
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        match self.procedures()[index].path() {
            "tape.v1.Tape/rpc_recognise" => {
                call.handle_request_stream(async |_, _: Requests<Sound>| Ok(RecogniseReply { speed: 9 }))
            }
            "tape.v1.Tape/rpc_guess" => {
                call.handle_request_stream(async |_, _: Requests<Sound>| Ok(GuessReply { speed: Some(9) }))
            }
            _ => call.unknown(),
        }
    }
}

#[tokio::test]
async fn an_enum_value_of_a_later_version_goes_with_streams_of_either_kind() {
    let tape = TapeClient::in_process(TapeServer::new(Cassette::new()));
    let sounds = tape.send_recv().play(0, Open::from_number(7)).await.unwrap();
    assert_eq!(all(sounds).await.unwrap(), ["la", "le", "lu"]);
    let newer = TapeClient::from(Client::in_process(Newer));
    let (sender, speed) = newer.send_recv().recognise().await.unwrap();
    sender.finish();
    assert_eq!(speed.await.unwrap(), Open::from_number(9));
    #[expect(deprecated, reason = "the .proto file marks it deprecated")]
    let (sender, speed) = newer.send_recv().guess().await.unwrap();
    sender.finish();
    assert_eq!(speed.await.unwrap(), Some(Open::from_number(9)));
}

#[test]
fn a_server_carries_its_file_wherever_the_code_is_written() {
    // This code is in a folder of its own, below `OUT_DIR`.
    let set = TapeServer::new(Cassette::new()).descriptors();
    assert!(set.windows(10).any(|part| part == b"tape.proto"));
}
