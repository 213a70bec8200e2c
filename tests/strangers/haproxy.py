#!/usr/bin/env python3
"""A real HAProxy passes connections on to the demo server, with PROXY headers.

Usage: haproxy.py DEMO_SERVER DEMO_CLIENT HAPROXY. The configuration is the one of docs/how-to/behind-a-proxy.md.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

import serving

PAGE = serving.ROOT / "docs/how-to/behind-a-proxy.md"


def configuration(front, server, header):
    """Returns the configuration of the page, for other ports and perhaps another header."""
    text = re.search(r"^```haproxy\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)[1]
    changes = {":5005\n": f"127.0.0.1:{front}\n", "10.0.0.5:5005": server, "send-proxy-v2": header}
    for before, after in changes.items():
        assert before in text, f"{PAGE} does not say {before}"
        text = text.replace(before, after, 1)
    return f"defaults\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n\n{text}"


class Demo:
    """The demo server behind proxies, and what it logs."""

    def __init__(self, program, *networks):
        command = [program, "--listen", "tcp://127.0.0.1:0"]
        for network in networks:
            command += ["--behind-proxy", network]
        environment = {**os.environ, "RUST_LOG": "debug", "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.place = self.process.stdout.readline().partition("://")[2].strip()
        self.lines = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def logs(self, *texts):
        """Waits until one line has all these texts."""
        until = time.monotonic() + 60
        while not any(all(text in line for text in texts) for line in list(self.lines)):
            assert time.monotonic() < until, f"no line with {texts}: {''.join(self.lines)}"
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def proxied(folder, haproxy, server, header="send-proxy-v2"):
    """Starts HAProxy; returns its port and its process, which is a context."""
    front = serving.free_port()
    path = folder / f"haproxy-{front}.cfg"
    path.write_text(configuration(front, server, header), encoding="utf-8")
    return front, serving.running(haproxy, "-db", "-f", path)


def call(client, place):
    return serving.run(client, "--connect", f"tcp://{place}", "update", "dog", "brown")


def main():
    server, client, haproxy = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with Demo(server, "127.0.0.0/8") as demo:
            front, running = proxied(folder, haproxy, demo.place)
            with running as process:
                serving.wait_for(front, process)
                called = call(client, f"127.0.0.1:{front}")
                assert called.returncode == 0, called.stderr
                with socket.create_connection(("127.0.0.1", front), source_address=("127.0.0.9", 0)) as caller:
                    port = caller.getsockname()[1]
                # The server sees this address, which is not HAProxy's.
                demo.logs(f"tcp://127.0.0.9:{port}")
            print("HAProxy names its clients")
            front, running = proxied(folder, haproxy, demo.place, "send-proxy")
            with running as process:
                serving.wait_for(front, process)
                assert call(client, f"127.0.0.1:{front}").returncode != 0
                demo.logs("a connection was closed", "version 1")
            assert call(client, demo.place).returncode != 0
            print("a header of version 1, and none, are refused")
        with Demo(server, "192.0.2.0/24") as demo:
            front, running = proxied(folder, haproxy, demo.place)
            with running as process:
                serving.wait_for(front, process)
                assert call(client, f"127.0.0.1:{front}").returncode != 0
                demo.logs("a connection was closed", "not trusted")
            print("an HAProxy that is not trusted is refused")


if __name__ == "__main__":
    main()
