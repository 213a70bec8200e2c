//! Which page answers, and how.

use crate::web::{ask, get, get_with};

const PAGES: [&str; 8] = [
    "/",
    "/metrics",
    "/healthz",
    "/readyz",
    "/debug/calls",
    "/debug/connections",
    "/debug/procedures",
    "/debug/limits",
];

#[tokio::test]
async fn each_page_answers_get_and_head_and_no_other_method() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let list = get(admin.address(), "/").await;
    for page in PAGES {
        assert!(
            list.text()
                .lines()
                .any(|line| line.split(' ').next() == Some(page)),
            "{page}"
        );
        let answer = get(admin.address(), page).await;
        assert_eq!(answer.status, 200, "{page}: {}", answer.text());
        assert!(
            answer.headers["content-type"].starts_with("text/plain"),
            "{page}: {answer:?}"
        );
        assert_eq!(answer.headers["cache-control"], "no-store");
        let head = ask(admin.address(), "HEAD", page, "").await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{page}");
        assert_ne!(head.headers["content-length"], "0", "{page}");
        for method in ["POST", "DELETE", "OPTIONS"] {
            let answer = ask(admin.address(), method, page, "").await;
            assert_eq!(answer.status, 405, "{method} {page}");
            assert_eq!(answer.headers["allow"], "GET, HEAD");
        }
    }
    assert_eq!(list.text().lines().count(), PAGES.len());
    admin.stop().await;
}

#[tokio::test]
async fn an_unknown_page_is_answered_with_the_list() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    for page in [
        "/metric",
        "/metrics/",
        "//metrics",
        "/debug",
        "/healthz/../metrics",
    ] {
        let answer = get(admin.address(), page).await;
        assert_eq!(answer.status, 404, "{page}");
        assert!(
            answer.text().contains(&format!("there is no page {page}.")),
            "{}",
            answer.text()
        );
        assert!(answer.text().contains("\n/metrics "), "{}", answer.text());
    }
    admin.stop().await;
}

#[tokio::test]
async fn a_refusal_names_no_setting_that_nobody_can_set() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let answer = get_with(admin.address(), "/metrics", "Content-Length: 5000\r\n").await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.text(), "the body of the request is too long\n");
    admin.stop().await;
}
