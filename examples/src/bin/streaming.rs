//! Streams: of replies, of requests, and both at once.
//!
//! `cargo run -p examples --bin streaming`

use std::error::Error;

use examples::weather::v1::{Reading, Summary, WatchRequest, Weather, WeatherClient, WeatherServer};
use rpc_runtime::{Context, Requests, Result, Stream, stream};

struct Station;

impl Weather for Station {
    async fn rpc_watch(
        &self,
        _: &Context,
        request: WatchRequest,
    ) -> Result<impl Stream<Item = Result<Reading>> + Send> {
        Ok(stream(async move |out| {
            for degrees in 20..20 + request.count {
                // Waits while the caller is a window behind.
                out.send(Reading { degrees }).await;
            }
            Ok(())
        }))
    }

    async fn rpc_upload(&self, _: &Context, mut requests: Requests<Reading>) -> Result<Summary> {
        let (mut count, mut lowest) = (0, i32::MAX);
        // `None` comes only after the caller's `finish`. A caller that goes away before that is an error.
        while let Some(reading) = requests.message().await? {
            count += 1;
            lowest = lowest.min(reading.degrees);
        }
        Ok(Summary { count, lowest })
    }

    async fn rpc_maximum(
        &self,
        _: &Context,
        mut requests: Requests<Reading>,
    ) -> Result<impl Stream<Item = Result<Reading>> + Send> {
        Ok(stream(async move |out| {
            let mut degrees = i32::MIN;
            while let Some(reading) = requests.message().await? {
                degrees = degrees.max(reading.degrees);
                out.send(Reading { degrees }).await;
            }
            Ok(())
        }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let weather = WeatherClient::in_process(WeatherServer::new(Station));

    let mut readings = weather.send_recv().watch(3).await?;
    while let Some(reading) = readings.message().await? {
        println!("watch: {} degrees", reading.degrees);
    }

    let (mut sender, summary) = weather.send_recv().upload().await?;
    for degrees in [18, 12, 15] {
        sender.send(Reading { degrees }).await?;
    }
    sender.finish(); // Dropping the sender without it would cancel the call.
    let Summary { count, lowest } = summary.await?;
    println!("upload: {count} readings, the lowest is {lowest} degrees");

    let (mut sender, mut maxima) = weather.send_recv().maximum().await?;
    for degrees in [18, 12, 25] {
        sender.send(Reading { degrees }).await?;
        let maximum = maxima.message().await?.ok_or("the stream ended early")?;
        println!("maximum: sent {degrees}, the highest is {}", maximum.degrees);
    }
    sender.finish();
    let has_ended = maxima.message().await?.is_none();
    println!("maximum: the stream has ended well: {has_ended}");
    Ok(weather.close().await?)
}
