//! `/metrics`.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::{
    Demo,
    web::{Answer, get, get_with},
};

/// The value of a sample, by its name with labels.
fn sample(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.split(' ').next()?.parse().ok()
}

async fn metrics(address: &str, headers: &str) -> Answer {
    let answer = get_with(address, "/metrics", headers).await;
    assert_eq!(answer.status, 200);
    answer
}

#[tokio::test]
async fn calls_of_the_process_are_counted() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let demo = Demo::start().await;
    let kv = demo.client().await;
    // No other test of this process calls it.
    let name = r#"{service="demo.kv.v1.Kv",method="rpc_noop",protocol="native",code="OK"}"#;
    for calls in 1..=3 {
        kv.send_recv().noop().await.unwrap();
        let answer = metrics(admin.address(), "").await;
        for side in ["server", "client"] {
            let name = format!("rpc_{side}_handled_total{name}");
            assert_eq!(
                sample(answer.text(), &name),
                Some(f64::from(calls)),
                "{name}\n{}",
                answer.text()
            );
        }
    }
    drop(kv);
    demo.stop().await;
    // What was counted stays.
    let answer = metrics(admin.address(), "").await;
    assert_eq!(
        sample(answer.text(), &format!("rpc_server_handled_total{name}")),
        Some(3.0)
    );
    admin.stop().await;
}

#[tokio::test]
async fn the_headers_decide_about_the_format() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let prometheus = "Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                      application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n";
    for (headers, begins, is_open) in [
        ("", "text/plain; version=0.0.4", false),
        ("Accept: */*\r\n", "text/plain; version=0.0.4", false),
        ("Accept: text/plain\r\n", "text/plain; version=0.0.4", false),
        (prometheus, "application/openmetrics-text; version=1.0.0", true),
    ] {
        let answer = metrics(admin.address(), headers).await;
        let content_type = &answer.headers["content-type"];
        assert!(content_type.starts_with(begins), "{headers}: {content_type}");
        assert_eq!(answer.text().ends_with("# EOF\n"), is_open, "{headers}");
        assert_eq!(answer.headers["vary"], "Accept, Accept-Encoding");
    }
    admin.stop().await;
}

#[tokio::test]
async fn the_text_is_compressed_for_those_that_take_it() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let plain = get(admin.address(), "/metrics").await;
    let zipped = metrics(admin.address(), "Accept-Encoding: deflate, gzip\r\n").await;
    assert_eq!(plain.headers.get("content-encoding"), None);
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    let mut text = String::new();
    GzDecoder::new(&zipped.body[..])
        .read_to_string(&mut text)
        .unwrap();
    // The values may differ by what happened in between.
    let names = |text: &str| {
        let types = text.lines().filter(|line| line.starts_with("# TYPE process_"));
        types.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&text), names(plain.text()));
    assert!(!names(&text).is_empty());
    assert!(zipped.body.len() < text.len());
    admin.stop().await;
}
