//! The pages below `/debug`: what they show, and to whom.

use std::net::UdpSocket;

use http::HeaderValue;
use serde_json::Value;
use test_support::{LONG, Lab, lab, start, within};

use crate::{
    Demo,
    web::{Answer, get, get_with},
};

const PAGES: [&str; 4] = [
    "/debug/calls",
    "/debug/connections",
    "/debug/procedures",
    "/debug/limits",
];

/// Asks for `page` until its answer is as `is_there` wants it.
async fn shown(address: &str, page: &str, is_there: impl Fn(&str) -> bool) -> Answer {
    within(async {
        loop {
            let answer = get(address, page).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            if is_there(answer.text()) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn calls_and_connections_are_shown_as_text_and_as_json() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let demo = Demo::start().await;
    let kv = demo.client().await;
    let sleeping = tokio::spawn({
        let kv = kv.clone();
        async move { kv.send_recv().timeout(LONG).sleep(u32::MAX).await }
    });
    // Both ends are in this process.
    let page = "/debug/calls?procedure=demo.kv.v1.Kv/rpc_sleep";
    let answer = shown(admin.address(), page, |text| text.contains(" running ")).await;
    assert!(answer.text().starts_with("2 calls\n"), "{}", answer.text());

    let answer = get(admin.address(), &format!("{page}&format=json")).await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    let served = json["calls"]
        .as_array()
        .unwrap()
        .iter()
        .find(|call| call["side"] == "server");
    let served = served.unwrap_or_else(|| panic!("{json}"));
    assert_eq!(served["procedure"], "demo.kv.v1.Kv/rpc_sleep");
    let (age, left) = (&served["age_seconds"], &served["remaining_seconds"]);
    let sum = age.as_f64().unwrap() + left.as_f64().unwrap();
    assert!((sum - LONG.as_secs_f64()).abs() < 5.0, "{served}");
    assert_eq!(json["left_out"], 0);

    let connection = &served["connection"];
    let by_header = get_with(
        admin.address(),
        "/debug/connections",
        "Accept: application/json\r\n",
    )
    .await;
    let json: Value = serde_json::from_slice(&by_header.body).unwrap();
    let connections = json["connections"].as_array().unwrap();
    let found = connections.iter().find(|one| one["id"] == *connection).unwrap();
    assert_eq!(found["peer"], served["peer"]);
    assert_eq!(found["calls_served"], 1);
    assert_eq!(found["transport"], "tcp");
    let text = get(admin.address(), "/debug/connections").await;
    assert!(
        text.text().contains(&format!("#{connection} ")),
        "{}",
        text.text()
    );

    let answer = get(admin.address(), &format!("{page}&slower_than=3600")).await;
    assert_eq!(answer.text(), "0 calls\n");
    let answer = get(admin.address(), &format!("{page}&most=1")).await;
    assert!(
        answer
            .text()
            .ends_with("and 1 more, which the bound of a list leaves out\n"),
        "{}",
        answer.text()
    );
    sleeping.abort();
    // Nothing is left of it.
    shown(admin.address(), page, |text| text == "0 calls\n").await;
    demo.stop().await;
    admin.stop().await;
}

#[tokio::test(crate = "test_support::gate", flavor = "multi_thread", worker_threads = 2)]
async fn a_procedure_that_blocks_its_thread_is_named() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    let blocking = start(&client, &lab::BLOCK, "a");
    let page = "/debug/calls?procedure=lab.v1.Lab/block";
    shown(admin.address(), page, |text| text.contains("blocks its thread")).await;
    lab.release();
    within(blocking).await.unwrap().unwrap();
    let page = "/debug/procedures";
    let is_there = |line: &str| line.contains("lab.v1.Lab/block ") && line.contains("blocked_their_thread=1");
    shown(admin.address(), page, |text| text.lines().any(is_there)).await;
    drop(client);
    server.stop().await;
    admin.stop().await;
}

#[tokio::test]
async fn limits_and_procedures_are_shown() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let demo = Demo::start().await;
    let kv = demo.client().await;
    kv.send_recv().ping("hello").await.unwrap();
    let limits = get(admin.address(), "/debug/limits?format=json").await;
    let json: Value = serde_json::from_slice(&limits.body).unwrap();
    let limits = json["limits"].as_array().unwrap();
    let of_demo = limits.iter().find(|limit| {
        limit["name"] == "max_connections" && limit["side"] == "server" && limit["owner"] == *demo.address
    });
    let limit = of_demo.unwrap_or_else(|| panic!("{json}"));
    assert!(
        limit["value"].as_u64().unwrap() > 0 && limit["unit"] == "count",
        "{limit}"
    );
    let of_admin = |name: &str| {
        let found = limits
            .iter()
            .find(|limit| limit["owner"] == *admin.address() && limit["name"] == name);
        found.unwrap_or_else(|| panic!("{json}"))
    };
    let body = of_admin("Http::max_body");
    assert!(
        body["value"] == 4 << 10 && body["unit"] == "bytes" && body["from"] == "program",
        "{body}"
    );
    let streams = of_admin("Http::max_streams");
    assert!(
        streams["value"] == 256 && streams["from"] == "default",
        "{streams}"
    );
    let time = of_admin("Http::header_timeout");
    assert!(time["value"] == 90.0 && time["unit"] == "seconds", "{time}");
    assert!(
        get(admin.address(), "/debug/limits")
            .await
            .text()
            .contains("max_connections")
    );

    let procedures = get(admin.address(), "/debug/procedures?format=json").await;
    let json: Value = serde_json::from_slice(&procedures.body).unwrap();
    let procedures = json["procedures"].as_array().unwrap();
    let ping = procedures
        .iter()
        .find(|one| one["procedure"] == "demo.kv.v1.Kv/rpc_ping" && one["side"] == "server");
    let ping = ping.unwrap_or_else(|| panic!("{json}"));
    assert!(ping["codes"]["OK"].as_u64().unwrap() >= 1, "{ping}");
    let (ended, errors) = (&ping["ended"], &ping["errors"]);
    assert!(ended.as_u64() >= Some(1) && errors.is_u64(), "{ping}");
    assert!(ping["rate"].as_f64().unwrap() > 0.0, "{ping}");
    let text = get(admin.address(), "/debug/procedures").await;
    assert!(text.text().contains("demo.kv.v1.Kv/rpc_ping"), "{}", text.text());
    drop(kv);
    demo.stop().await;
    admin.stop().await;
}

#[tokio::test(crate = "test_support::gate", flavor = "multi_thread", worker_threads = 2)]
async fn a_window_shows_the_calls_and_the_errors_within_it() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    let fail = async || start(&client, &lab::FAIL, "a").await.unwrap().unwrap_err();
    fail().await;
    // Calls go on until a window has some of them; those before it are not in it.
    let page = "/debug/procedures?window=0.05&format=json";
    let shown = within(async {
        loop {
            let (answer, _) = tokio::join!(get(admin.address(), page), fail());
            let json: Value = serde_json::from_slice(&answer.body).unwrap();
            let procedures = json["procedures"].as_array().unwrap().clone();
            let failed = procedures.into_iter().find(|one| {
                one["procedure"] == lab::FAIL.path() && one["side"] == "server" && one["ended"] != 0
            });
            if let Some(failed) = failed {
                return (failed, json["window_seconds"].as_f64().unwrap());
            }
        }
    });
    let (failed, window) = shown.await;
    let ended = failed["ended"].as_f64().unwrap();
    assert_eq!(failed["errors"].as_f64(), Some(ended), "{failed}");
    assert!(
        (failed["rate"].as_f64().unwrap() * window - ended).abs() < 0.01,
        "{failed} in {window}"
    );
    drop(client);
    server.stop().await;
    admin.stop().await;
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    for (page, problem) in [
        ("/debug/calls?slower=1", "has no parameter slower"),
        ("/debug/calls?most=all", "most=all is no whole number"),
        (
            "/debug/connections?format=yaml",
            "there is no format yaml: take text or json",
        ),
        ("/debug/limits?most=1", "has no parameter most"),
        (
            "/debug/procedures?window=9",
            "the window is too long: give a time of up to 8s",
        ),
    ] {
        let answer = get(admin.address(), page).await;
        assert_eq!(answer.status, 400, "{page}");
        assert!(answer.text().contains(problem), "{page}: {}", answer.text());
    }
    admin.stop().await;
}

#[tokio::test]
async fn requests_that_may_be_strangers_are_denied() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    for page in PAGES {
        for headers in [
            "X-Forwarded-For: 203.0.113.7\r\n",
            "Forwarded: for=203.0.113.7\r\n",
            "Via: 1.1 proxy\r\n",
            "Host: evil.example\r\n",
        ] {
            let answer = get_with(admin.address(), page, headers).await;
            assert_eq!(answer.status, 403, "{page} {headers}");
            assert!(
                answer.text().contains("rpc_admin::AdminBuilder::policy"),
                "{}",
                answer.text()
            );
        }
        assert_eq!(
            get_with(admin.address(), page, "Host: localhost:80\r\n")
                .await
                .status,
            200
        );
    }
    // The other pages are for everybody.
    for page in ["/metrics", "/healthz", "/readyz", "/"] {
        assert_eq!(
            get_with(admin.address(), page, "Host: evil.example\r\n")
                .await
                .status,
            200,
            "{page}"
        );
    }
    admin.stop().await;
}

/// The address of this machine in its network; none without one.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then(|| address.to_string())
}

#[tokio::test]
async fn peers_of_other_machines_need_a_policy() {
    let Some(own) = own_address() else {
        return eprintln!("this machine has no network, so nobody can come from elsewhere");
    };
    let open = |address: &str| address.replace("0.0.0.0", &own);
    let admin = rpc_admin::listen("tcp://0.0.0.0:0").await.unwrap();
    let address = open(admin.address());
    for page in PAGES {
        let answer = get(&address, page).await;
        assert_eq!(answer.status, 403, "{page}");
        assert!(
            answer.text().contains("rpc_admin::AdminBuilder::policy"),
            "{}",
            answer.text()
        );
    }
    for page in ["/metrics", "/healthz", "/readyz", "/"] {
        assert_eq!(get(&address, page).await.status, 200, "{page}");
    }
    admin.stop().await;

    let token = HeaderValue::from_static("Bearer 1234");
    let admin = rpc_admin::builder()
        .policy(move |peer, headers| !peer.is_local() && headers.get("authorization") == Some(&token))
        .listen("tcp://0.0.0.0:0")
        .await
        .unwrap();
    let address = open(admin.address());
    for (headers, status) in [
        ("", 403),
        ("Authorization: Bearer 123\r\n", 403),
        ("Authorization: Bearer 1234\r\n", 200),
    ] {
        assert_eq!(
            get_with(&address, "/debug/calls", headers).await.status,
            status,
            "{headers}"
        );
    }
    // A policy decides about this machine, too.
    let local = admin.address().replace("0.0.0.0", "127.0.0.1");
    assert_eq!(
        get_with(&local, "/debug/calls", "Authorization: Bearer 1234\r\n")
            .await
            .status,
        403
    );
    admin.stop().await;
}
