#!/usr/bin/env python3
"""A real Prometheus scrapes a loaded demo server and a busy process. Its numbers agree with those of ghz, which makes the load by gRPC,
and with those of native-load, which makes one by the native protocol; promtool finds nothing wrong; each panel of the dashboard has an answer, each alarm can be evaluated, fires in its test, and has a section in the guide.

Usage: prometheus.py DEMO_SERVER BUSY_PROCESS NATIVE_LOAD PROMETHEUS PROMTOOL GHZ
"""

import collections
import json
import pathlib
import re
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import serving

CONTRIB = serving.ROOT / "contrib"
ALERTS = CONTRIB / "prometheus/alerts.yml"
DASHBOARD = CONTRIB / "grafana/rpc.json"
GUIDE = serving.ROOT / "docs/how-to/alarms.md"
REFERENCE = serving.ROOT / "docs/reference/metrics.md"
LIMIT = 60  # seconds that anything may take


def page(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=LIMIT) as answer:
        return answer.read().decode()


def check(*command, stdin=""):
    done = serving.run(*command, stdin=stdin, limit=LIMIT)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class Prometheus:
    """The HTTP interface of a Prometheus."""

    def __init__(self, port):
        self.root = f"http://127.0.0.1:{port}"

    def wait_until_ready(self):
        until = time.monotonic() + LIMIT
        while True:
            try:
                return urllib.request.urlopen(f"{self.root}/-/ready", timeout=LIMIT).close()
            except urllib.error.HTTPError:
                assert time.monotonic() < until, "Prometheus does not become ready"
                time.sleep(0.1)

    def get(self, path, **parameters):
        url = f"{self.root}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=LIMIT) as answer:
                answer = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from None
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression):
        """Returns the series of an expression: labels and value."""
        data = self.get("query", query=expression)
        assert data["resultType"] == "vector", expression
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def wait_for(self, expression, is_there):
        """Waits until the answer to an expression is as it should be."""
        until = time.monotonic() + LIMIT
        while not is_there(answer := self.query(expression)):
            assert time.monotonic() < until, f"{expression}: {answer}"
            time.sleep(0.2)
        return answer


def configuration(targets):
    """Scrapes each target by the format and the compression that Prometheus likes best."""
    addresses = ", ".join(f'"{target}"' for target in targets)
    return f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{ALERTS}"]
scrape_configs:
  - job_name: rpc
    static_configs: [{{targets: [{addresses}]}}]
"""


def load(ghz, address, procedure, message, count):
    """Makes calls by ghz. Returns how many have ended with each code, as ghz has counted."""
    options = ["--insecure", "--concurrency=32", "--connections=4", "--timeout=60s", "--format=json"]
    done = serving.run(ghz, *options, f"--total={count}", f"--call=demo.kv.v1.Kv/{procedure}", f"--data={json.dumps(message)}", address, limit=300)
    # It ends with 1 if a call failed.
    report = json.loads(done.stdout)
    assert report["count"] == count, done.stderr
    return report["statusCodeDistribution"]


def code(name):
    """The code of ghz, `InvalidArgument`, as the metrics have it."""
    return "OK" if name == "OK" else re.sub(r"(?<!^)([A-Z])", r"_\1", name).upper()


def counts_agree(prometheus, ghz, demo):
    expected = {}
    for procedure, message, count in [
        ("rpc_ping", {"text": "hello"}, 10_000),
        ("rpc_fetch", {"key": "none"}, 3_000),
        # An empty key is refused by the handler.
        ("rpc_update", {"key": "", "value": ""}, 2_000),
    ]:
        for name, calls in load(ghz, demo.address, procedure, message, count).items():
            expected[procedure, code(name)] = calls
    assert expected["rpc_ping", "OK"] == 10_000 and expected["rpc_update", "INVALID_ARGUMENT"] == 2_000, expected
    calls_agree(prometheus, demo, "grpc", expected)
    print(f"prometheus: {sum(expected.values())} calls by gRPC, counted by it as by ghz: {expected}")


def native_counts_agree(prometheus, load, demo):
    """Compares calls and one-way calls by the native protocol with what their caller has counted."""
    printed = collections.defaultdict(dict)
    for line in check(load, f"tcp://{demo.address}").splitlines():
        what, *labels, count = line.split()
        printed[what][tuple(labels)] = int(count)
    expected, one_ways = printed["call"], printed["one-way"]
    assert {name for _, name in expected} == {"OK", "INVALID_ARGUMENT"}, expected
    assert {fate for _, fate in one_ways} == {"handled", "failed", "expired"}, one_ways
    calls_agree(prometheus, demo, "native", expected)

    def agree(series):
        return {(labels["method"], labels["fate"]): value for labels, value in series if value} == one_ways

    prometheus.wait_for(f'rpc_server_one_ways_total{{instance="{demo.pages}"}}', agree)
    # The server has told the caller the same.
    told = {(fate,): count for (_, fate), count in one_ways.items()}
    assert {fate: count for fate, count in printed["account"].items() if count} == told, printed
    print(f"prometheus: {sum(expected.values())} native calls and {sum(one_ways.values())} one-way calls, counted by it as by their caller: {dict(printed)}")


def calls_agree(prometheus, demo, protocol, expected):
    """Compares the calls of a load by one protocol, by procedure and code."""
    of_load = f'instance="{demo.pages}",service="demo.kv.v1.Kv",protocol="{protocol}"'
    handled = f"rpc_server_handled_total{{{of_load}}}"

    def agree(series):
        return {(labels["method"], labels["code"]): value for labels, value in series} == expected

    prometheus.wait_for(handled, agree)
    for name in ["rpc_server_started_total", "rpc_server_handling_seconds_count"]:
        by_procedure = collections.Counter()
        for (procedure, _), calls in expected.items():
            by_procedure[procedure] += calls
        series = prometheus.query(f"{name}{{{of_load}}}")
        assert {labels["method"]: value for labels, value in series} == by_procedure, series
    assert [value for _, value in prometheus.query(f"sum(rpc_server_in_flight{{{of_load}}})")] == [0]


def panels_answer(prometheus):
    """Asks each query of the dashboard, as Grafana does, and prints how many series it has."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    places = {"$job": "rpc", "$instance": ".*", "$__rate_interval": "10s", "$__range": "10s"}
    count = 0
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in places.items():
                expression = expression.replace(name, value)
            # A number of a rate may be missing, and never all.
            series = prometheus.wait_for(expression, lambda answer: any(value == value for _, value in answer))
            print(f"panel: {panel['title']}: {expression}: {len(series)} series, the first {series[0][1]:g}")
            count += 1
    print(f"prometheus: {count} queries of the dashboard have an answer")


def alarms(prometheus):
    """Checks that each alarm is loaded and evaluated without an error, and that the guide has a section for each, and for no other."""
    def rules():
        groups = prometheus.get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    until = time.monotonic() + LIMIT
    while any(rule["health"] == "unknown" for rule in rules()):
        assert time.monotonic() < until, rules()
        time.sleep(0.2)
    for rule in rules():
        assert rule["health"] == "ok", rule
        print(f"alarm: {rule['name']}: {rule['state']}, {len(prometheus.query(rule['query']))} series")
        assert rule["annotations"]["runbook"] == f"docs/how-to/alarms.md#{rule['name'].lower()}", rule
    names = [rule["name"] for rule in rules()]
    sections = re.findall(r"^## (Rpc\w+)$", GUIDE.read_text(encoding="utf-8"), re.M)
    assert sections == names, f"the alarms are {names}, and the sections of {GUIDE} are {sections}"


def names_are_documented(*pages):
    """Checks that the reference names each metric, and that each that it names is there."""
    shown = {name for page in pages for name in re.findall(r"^# TYPE (\S+) ", page, re.M)}
    # An OpenMetrics text has other names, so these are of the other one.
    documented = set(re.findall(r"^\| `((?:rpc|process)_\w+)` \|", REFERENCE.read_text(encoding="utf-8"), re.M))
    assert shown <= documented, f"the reference does not name {sorted(shown - documented)}"
    missing = documented - shown
    assert not missing, f"no process has {sorted(missing)}"


def main():
    demo_program, busy_program, native_load, program, promtool, ghz = sys.argv[1:]
    check(promtool, "check", "rules", ALERTS)
    check(promtool, "test", "rules", ALERTS.with_name("alerts_test.yml"))
    print("promtool: the alarms fire in their tests")
    with tempfile.TemporaryDirectory() as folder, serving.demo_with_pages(demo_program) as demo:
        with serving.Server(busy_program, folder, has_pages=True) as busy:
            settings = pathlib.Path(folder, "prometheus.yml")
            settings.write_text(configuration([demo.pages, busy.pages]))
            port = serving.free_port()
            command = [program, f"--config.file={settings}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
            with serving.running(*command, "--log.level=warn") as process:
                serving.wait_for(port, process)
                prometheus = Prometheus(port)
                prometheus.wait_until_ready()
                prometheus.wait_for('up{job="rpc"} == 1', lambda series: len(series) == 2)
                counts_agree(prometheus, ghz, demo)
                native_counts_agree(prometheus, native_load, demo)
                panels_answer(prometheus)
                alarms(prometheus)
                targets = prometheus.get("targets")["activeTargets"]
                assert [target["lastError"] for target in targets] == ["", ""], targets
            pages = [page(server.pages, "/metrics") for server in [demo, busy]]
            for text in pages:
                check(promtool, "check", "metrics", stdin=text)
            names_are_documented(*pages)
            print("promtool: the metrics are as they should be")
        demo.drain()
        assert demo.exit_code() == 0


if __name__ == "__main__":
    main()
