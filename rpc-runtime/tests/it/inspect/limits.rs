//! Limits in force, and their use.

use std::time::Duration;

use rpc_runtime::{
    Client, Limits,
    inspect::{self, LimitSource, LimitValue, LimitView, Side},
};
use test_support::{lab::*, within};

use super::{found, only};

pub(super) fn limit(side: Side, owner: &str, name: &str) -> LimitView {
    let all = inspect::limits().into_iter();
    let mut own = all.filter(|one| one.side() == side && one.owner() == owner && one.name() == name);
    own.next()
        .unwrap_or_else(|| panic!("{owner} has no limit {name}"))
}

#[tokio::test(crate = "test_support::gate")]
async fn a_limit_tells_its_value_where_it_came_from_and_its_use() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:inspect-limits", |server| {
            server
                .max_buffered_bytes(32 << 20)
                .max_waiting_handlers(50)
                .lame_duck(Duration::from_secs(5))
                .limits(Limits::default().max_calls(20))
        })
        .await;
    let client: Client = Client::builder(&server.address)
        .limits(Limits::default().max_message(1 << 20))
        .connect()
        .await
        .unwrap();
    let calls = [start(&client, &WAIT, "one"), start(&client, &WAIT, "two")];
    lab.logged("one began").await;
    lab.logged("two began").await;
    let of = |name| limit(Side::Server, "mem:inspect-limits", name);
    let (program, machine, default) = (LimitSource::Program, LimitSource::Machine, LimitSource::Default);
    for (name, value, source, used) in [
        (
            "max_buffered_bytes",
            LimitValue::Bytes(32 << 20),
            program,
            Some(0),
        ),
        ("max_waiting_handlers", LimitValue::Count(50), program, Some(2)),
        ("max_handshakes", LimitValue::Count(256), default, Some(0)),
        (
            "lame_duck",
            LimitValue::Time(Duration::from_secs(5)),
            program,
            None,
        ),
        // Nobody has set it: it is what is left of the time that Kubernetes gives.
        (
            "drain_timeout",
            LimitValue::Time(Duration::from_secs(21)),
            default,
            None,
        ),
        ("max_calls", LimitValue::Count(20), program, Some(2)),
        ("max_message", LimitValue::Bytes(4 << 20), default, None),
        ("max_age", LimitValue::Unlimited, default, None),
    ] {
        let limit = of(name);
        assert_eq!(
            (limit.value(), limit.source(), limit.used()),
            (value, source, used),
            "{limit}"
        );
    }
    let connections = of("max_connections");
    assert_eq!(
        (connections.source(), connections.used()),
        (machine, Some(1)),
        "{connections}"
    );
    let calls_limit = of("max_calls");
    assert_eq!(calls_limit.used_by(), Some(only(&server).id()));
    assert_eq!(of("max_waiting_handlers").used_by(), Some(only(&server).id()));
    assert_eq!(of("max_connections").used_by(), None);
    assert_eq!(calls_limit.used_part(), Some(0.1));
    assert!(calls_limit.to_string().contains(" 10%"), "{calls_limit}");
    let of_client = limit(Side::Client, "mem:inspect-limits", "max_message");
    assert_eq!(
        (of_client.value(), of_client.source()),
        (LimitValue::Bytes(1 << 20), program)
    );
    assert_eq!(
        limit(Side::Client, "mem:inspect-limits", "connect_timeout").source(),
        default
    );
    lab.release();
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
    found(|| (of("max_calls").used() == Some(0)).then_some(())).await;
    drop(client);
    server.stop().await;
    found(|| {
        let all = inspect::limits().into_iter();
        (!all.into_iter().any(|one| one.owner() == "mem:inspect-limits")).then_some(())
    })
    .await;
}
