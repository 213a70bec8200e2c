//! The text of all metrics.

use std::collections::HashSet;

use rpc_runtime::metrics::{Format, Kind, render, snapshot};
use test_support::serve_one;

use super::{Counted, ECHO, call, number, procedures};

procedures!(TEXT, "metrics.v1.Text", 0x1_2370_0000);

#[tokio::test(crate = "test_support::gate")]
async fn each_metric_is_declared_once_and_each_sample_is_there_once() {
    let server = serve_one(Counted::new(&TEXT)).await;
    call(&server.client().await, &TEXT[ECHO], "a").await.unwrap();
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = render(format);
        let (mut declared, mut samples) = (HashSet::new(), HashSet::new());
        for line in text.lines() {
            if line == "# EOF" {
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap();
                assert!(declared.insert(name.to_owned()), "{name} is declared twice");
            } else if !line.starts_with('#') {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                assert!(samples.insert(sample.to_owned()), "{sample} is there twice");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                let name = sample.split('{').next().unwrap();
                let is_declared = |end| name.strip_suffix(end).is_some_and(|name| declared.contains(name));
                let ends = ["", "_total", "_info", "_bucket", "_sum", "_count"];
                assert!(ends.into_iter().any(is_declared), "{name} is not declared");
            }
        }
        let echo = r#"rpc_server_handled_total{service="metrics.v1.Text",method="rpc_echo",protocol="native",code="OK"} 1"#;
        assert!(text.lines().any(|line| line == echo));
        let bucket = r#"rpc_client_handling_seconds_bucket{service="metrics.v1.Text",method="rpc_echo",protocol="native",le="+Inf"} 1"#;
        assert!(text.lines().any(|line| line == bucket));
        assert_eq!(text.ends_with("\n# EOF\n"), format == Format::OpenMetrics);
    }
}

#[test]
fn the_process_tells_its_version_and_what_it_uses() {
    let snapshot = snapshot();
    let info = snapshot.family("rpc_build_info").unwrap();
    assert_eq!(info.kind(), Kind::Info);
    let sample = &info.samples()[0];
    assert_eq!(sample.label("version"), Some(env!("CARGO_PKG_VERSION")));
    assert!(sample.label("rustc").unwrap().starts_with("1."));
    assert_eq!(
        sample.label("features").unwrap().contains("tls"),
        cfg!(feature = "_tls")
    );
    if cfg!(target_os = "linux") {
        for name in [
            "process_start_time_seconds",
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_max_fds",
            "process_resident_memory_bytes",
        ] {
            assert!(number(name, &[]) > 0.0, "{name}");
        }
    }
}

#[test]
fn names_end_with_their_units_and_counters_with_total() {
    for family in snapshot().families() {
        let name = family.name();
        assert_eq!(name.ends_with("_total"), family.kind() == Kind::Counter, "{name}");
        if let Some(unit) = family.unit() {
            let stem = name.strip_suffix("_total").unwrap_or(name);
            assert!(stem.ends_with(unit), "{name}");
        }
        assert!(
            !family.samples().is_empty() && family.help().ends_with('.'),
            "{name}"
        );
        assert!(name.starts_with("rpc_") || name.starts_with("process_"));
    }
}

/// The page that lists all metrics has each of them, and no others.
#[test]
fn the_reference_lists_each_metric() {
    let page = include_str!("../../../../docs/reference/metrics.md");
    let listed: HashSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("rpc_") || name.starts_with("process_"))
        .collect();
    for family in snapshot().families() {
        assert!(
            listed.contains(family.name()),
            "{} is not in the reference",
            family.name()
        );
    }
    let source = include_str!("../../../src/metrics/families.rs");
    for name in listed {
        assert!(
            source.contains(&format!("\"{name}\"")),
            "{name} is in the reference only"
        );
    }
}

/// The files to copy ask for metrics that exist, so a metric that gets another name is changed there, too.
#[test]
fn alarms_and_dashboard_ask_for_metrics_that_exist() {
    let source = include_str!("../../../src/metrics/families.rs");
    for (file, text, least) in [
        ("alerts.yml", ALARMS, 15),
        (
            "rpc.json",
            include_str!("../../../../contrib/grafana/rpc.json"),
            35,
        ),
    ] {
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let words = text.split(|letter| !is_of_name(letter));
        let starts = ["rpc_server_", "rpc_client_", "rpc_build_", "process_"];
        let asked: HashSet<&str> = words
            .filter(|word| starts.into_iter().any(|start| word.starts_with(start)))
            .collect();
        assert!(asked.len() >= least, "{file} asks for {} metrics", asked.len());
        for name in asked {
            // Prometheus adds this to the name of a histogram.
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(
                source.contains(&format!("\"{name}\"")),
                "{file} asks for {name}, which does not exist"
            );
        }
    }
}

#[test]
fn each_alarm_has_a_section_that_says_what_to_do() {
    let page = include_str!("../../../../docs/how-to/alarms.md");
    let alarms: HashSet<&str> = ALARMS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let sections: HashSet<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert!(!alarms.is_empty());
    for alarm in alarms {
        assert!(sections.contains(alarm), "alarms.md has no section {alarm}");
    }
}

const ALARMS: &str = include_str!("../../../../contrib/prometheus/alerts.yml");
