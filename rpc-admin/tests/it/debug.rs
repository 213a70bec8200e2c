//! The pages below `/debug`: what they show, and to whom.

use std::{net::IpAddr, time::Duration};

use http::HeaderValue;
use rpc_admin::AdminBuilder;
use rpc_http::{Grpc, Http};
use rpc_runtime::{Client, Server, server::Endpoint};
use serde_json::Value;
use test_support::{LONG, Lab, Running, lab, serve, start, within};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    Demo,
    web::{Answer, ask_over, get, get_with},
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

/// A server that shows the pages to peers of which a proxy on this machine tells, and what ends it.
async fn behind_a_proxy(pages: AdminBuilder) -> Running {
    let server = Server::builder()
        .service(Lab::default())
        .guest(Http::new().grpc().routes(pages.routes()))
        .listener(Endpoint::new("tcp://127.0.0.1:0").behind_proxies(["127.0.0.0/8"]))
        .signals(false);
    serve(server).await
}

/// Asks for a page as a proxy does for a client at `client`: by a header of the PROXY protocol.
async fn get_for(client: [u8; 4], address: &str, page: &str, headers: &str) -> Answer {
    let socket = address.strip_prefix("tcp://").unwrap();
    let mut stream = TcpStream::connect(socket).await.unwrap();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client);
    header.extend([127, 0, 0, 1]);
    header.extend([0x12, 0x34, 0x23, 0x45]);
    stream.write_all(&header).await.unwrap();
    ask_over(stream, "GET", page, &format!("Host: {socket}\r\n{headers}")).await
}

/// No machine has this address.
const ELSEWHERE: [u8; 4] = [203, 0, 113, 7];

#[tokio::test]
async fn peers_of_other_machines_need_a_policy() {
    let server = behind_a_proxy(rpc_admin::builder()).await;
    let address = &server.address;
    for page in PAGES {
        let answer = get_for(ELSEWHERE, address, page, "").await;
        assert_eq!(answer.status, 403, "{page}");
        // The request is in order otherwise, so no other rule can have denied it.
        assert!(
            answer
                .text()
                .starts_with("the debug pages answer peers of this machine only"),
            "{}",
            answer.text()
        );
        assert!(answer.text().contains("rpc_admin::AdminBuilder::policy"));
    }
    for page in ["/metrics", "/healthz", "/readyz", "/"] {
        assert_eq!(get_for(ELSEWHERE, address, page, "").await.status, 200, "{page}");
    }
    // A proxy that names this machine as the client proves nothing.
    let answer = get_for([127, 0, 0, 1], address, "/debug/calls", "").await;
    assert_eq!(answer.status, 403);
    server.stop().await;

    let token = HeaderValue::from_static("Bearer 1234");
    let pages = rpc_admin::builder().policy(move |peer, headers| {
        peer.socket_addr()
            .is_some_and(|socket| socket.ip() == IpAddr::from(ELSEWHERE))
            && headers.get("authorization") == Some(&token)
    });
    let server = behind_a_proxy(pages).await;
    for (client, headers, status) in [
        (ELSEWHERE, "", 403),
        (ELSEWHERE, "Authorization: Bearer 123\r\n", 403),
        (ELSEWHERE, "Authorization: Bearer 1234\r\n", 200),
        // A policy decides about this machine, too.
        ([127, 0, 0, 1], "Authorization: Bearer 1234\r\n", 403),
    ] {
        let answer = get_for(client, &server.address, "/debug/calls", headers).await;
        assert_eq!(answer.status, status, "{client:?} {headers}");
    }
    server.stop().await;
}

/// The connections of `server` on its own side.
async fn own_connections(admin: &str, server: &Running) -> Vec<Value> {
    let answer = get(admin, "/debug/connections?most=1000&format=json").await;
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    let connections = json["connections"].as_array().unwrap().iter();
    let own = connections.filter(|one| one["side"] == "server" && one["owner"] == *server.address);
    own.cloned().collect()
}

#[tokio::test(crate = "test_support::gate")]
async fn missed_deadlines_are_shown() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    let patient = start(&client, &lab::WAIT, "x");
    lab.logged("x began").await;
    let before = own_connections(admin.address(), &server).await;
    assert_eq!(before[0]["missed_deadlines"], 0, "{before:?}");
    let (line, missed) = within(async {
        loop {
            let call = client.call().timeout(Duration::from_millis(20));
            let missed = call.send_recv::<_, String>(&lab::WAIT, "y".to_owned());
            missed.await.unwrap_err();
            // The client gives up at the same moment. The server counts a call that its own clock has ended first.
            let own = own_connections(admin.address(), &server).await;
            let missed = &own[0]["missed_deadlines"];
            if *missed != 0 {
                let text = get(admin.address(), "/debug/connections?most=1000").await;
                let number = format!("#{} ", own[0]["id"]);
                let mut lines = text.text().lines();
                let line = lines.find(|line| line.starts_with(&number)).unwrap();
                break (line.to_owned(), missed.to_string());
            }
        }
    })
    .await;
    assert!(line.contains(&format!(" missed_deadlines={missed}")), "{line}");
    lab.release();
    within(patient).await.unwrap().unwrap();
    drop(client);
    server.stop().await;
    admin.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn the_round_trip_of_a_grpc_peer_is_shown() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let http = Http::new().grpc().keep_alive(Duration::from_millis(10));
    let server = Lab::default()
        .serve_with("tcp://127.0.0.1:0", |server| server.guest(http))
        .await;
    // It says nothing, and answers PINGs.
    let client = Client::builder(server.address.replacen("tcp", "grpc", 1)).protocol(Grpc::new());
    let client: Client = within(client.connect()).await.unwrap();
    within(async {
        while own_connections(admin.address(), &server)
            .await
            .iter()
            .all(|one| one["round_trip_seconds"].is_null())
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    server.stop().await;
    admin.stop().await;
}
