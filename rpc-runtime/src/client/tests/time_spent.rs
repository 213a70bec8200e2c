//! Where the time of a late call went.

use super::*;
use crate::Executed;

/// So many milliseconds.
const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Makes a call that has `timeout`.
fn call_within(client: &Client, timeout: Duration) -> Pending {
    let client = client.clone();
    tokio::spawn(async move {
        let call = client.call().timeout(timeout);
        call.send_recv(&ECHO, Bytes::from_static(b"x")).await
    })
}

#[tokio::test(start_paused = true)]
async fn a_late_call_says_how_long_it_waited_before_and_after_it_was_sent() {
    let _hand = Hand::new("mem:spent-late").await;
    let client = Client::builder("mem:spent-late").connect_lazy();
    // As many as may go ahead of the peer's HELLO, which never comes.
    let sent: Vec<_> = (0..16).map(|_| call_within(&client, ms(50))).collect();
    settle().await;
    let unsent = done(call_within(&client, ms(20))).await.unwrap_err();
    for call in sent {
        let error = done(call).await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        let spent = error.time_spent().expect("it is late");
        // Tokio's timers are exact to a millisecond.
        let since = spent.since_sent().expect("it was sent");
        assert!(
            spent.queued_here() <= ms(2) && since >= ms(48) && since <= ms(53),
            "{error}"
        );
        assert_eq!((spent.queued_there(), spent.ran()), (None, None));
        assert!(error.to_string().contains(&format!("spent: {spent}")), "{error}");
    }
    let spent = unsent.time_spent().expect("it is late");
    assert_eq!(spent.since_sent(), None, "{unsent}");
    assert!(
        spent.queued_here() >= ms(20) && spent.queued_here() <= ms(23),
        "{unsent}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drops_a_late_call_tells_its_part() {
    let hand = Hand::new("mem:spent-told").await;
    let (client, far) = connected(&hand, "mem:spent-told").await;
    let pending = call_within(&client, LONG);
    let id = far.request().await.id;
    tokio::time::sleep(ms(30)).await;
    far.shared.with(|conn, now| conn.started(id, now)).unwrap();
    tokio::time::sleep(ms(10)).await;
    let status = Status::new(Code::DeadlineExceeded, "handler dropped at its deadline");
    let end = End::Reported {
        status: &status,
        executed: Executed::Maybe,
    };
    far.shared.with(|conn, now| conn.end(id, end, now));
    let error = done(pending).await.unwrap_err();
    let spent = error.time_spent().expect("it is late");
    let (queued, ran) = (spent.queued_there().unwrap(), spent.ran().unwrap());
    assert!(queued >= ms(29) && queued <= ms(32), "{error}");
    assert!(ran >= ms(9) && ran <= ms(12), "{error}");
    assert!(spent.on_the_wire().unwrap() <= ms(3), "{error}");
}

#[tokio::test(start_paused = true)]
async fn only_a_late_call_says_it() {
    let hand = Hand::new("mem:spent-other").await;
    let (client, far) = connected(&hand, "mem:spent-other").await;
    for code in [Code::NotFound, Code::DeadlineExceeded] {
        let pending = call_within(&client, LONG);
        let id = far.started().await;
        // The handler's own answer, of a deadline of its own perhaps.
        far.fail(id, code);
        assert_eq!(done(pending).await.unwrap_err().time_spent(), None, "{code}");
    }
}
