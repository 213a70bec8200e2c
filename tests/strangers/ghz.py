#!/usr/bin/env python3
"""ghz calls the demo server 20,000 times on four connections, and 4,000 times by streams of requests and of both. No call may fail.

Usage: ghz.py DEMO_SERVER GHZ
"""

import base64
import json
import sys

import serving

KEYS = 20
VALUE = base64.b64encode(b"value").decode()
ENTRIES = [{"key": f"key{number}", "value": VALUE} for number in range(KEYS)]


def calls(ghz, address, procedure, message, count):
    """Makes calls, by the server's reflection. Each must end with OK."""
    options = ["--insecure", "--concurrency=64", "--connections=4", "--timeout=60s", "--format=json"]
    done = serving.run(ghz, *options, f"--total={count}", f"--call={procedure}", f"--data={json.dumps(message)}", address, limit=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["count"] == count, report["count"]
    assert report["statusCodeDistribution"] == {"OK": count}, report["statusCodeDistribution"]
    assert not report["errorDistribution"], report["errorDistribution"]


def main():
    program, ghz = sys.argv[1:]
    total = 0
    with serving.demo(program) as server:
        for procedure, message, count in [
            ("demo.kv.v1.Kv/rpc_ping", {"text": "hello"}, 20_000),
            ("demo.kv.v1.Kv/rpc_import", ENTRIES, 2_000),
            ("demo.kv.v1.Kv/rpc_session", [{"key": entry["key"]} for entry in ENTRIES], 2_000),
        ]:
            calls(ghz, server.address, procedure, message, count)
            total += count
        server.drain()
        assert server.exit_code() == 0
    print(f"ghz: {total} calls, each OK")


if __name__ == "__main__":
    main()
