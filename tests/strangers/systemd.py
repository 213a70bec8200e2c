#!/usr/bin/env python3
"""systemd's own tools verify our units, and give the demo server its sockets.

Usage: systemd.py DEMO_SERVER DEMO_CLIENT, with systemd's tools installed. systemd itself need not run.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile

import serving

UNITS = serving.ROOT / "contrib/systemd"
PAGE = serving.ROOT / "docs/how-to/run-under-systemd.md"


def verify(server, folder):
    """Verifies the units as they are, but for the path of the server."""
    for unit in UNITS.iterdir():
        text = unit.read_text(encoding="utf-8")
        text = text.replace("/usr/local/bin/demo-server", server)
        (folder / unit.name).write_text(text, encoding="utf-8")
    for name in ["kv.service", "kv.socket"]:
        verified = serving.run("systemd-analyze", "verify", "--man=no", folder / name)
        assert verified.returncode == 0 and not verified.stderr.strip(), verified.stderr
    # It finds what is wrong.
    service = folder / "kv.service"
    service.write_text(service.read_text(encoding="utf-8").replace("WatchdogSec", "WatchdogSeconds"), encoding="utf-8")
    wrong = serving.run("systemd-analyze", "verify", "--man=no", service)
    assert "WatchdogSeconds" in wrong.stderr, wrong.stderr
    print("systemd-analyze verifies the units")


def arguments():
    """Returns the arguments of the server in the unit."""
    text = (UNITS / "kv.service").read_text(encoding="utf-8")
    return re.search(r"^ExecStart=\S+ (.*)$", text, re.M)[1].split()


class Manager:
    """Hears what a service tells its manager."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(60)
        self.path = path

    def until(self, state):
        """Returns all states up to the first one that begins so."""
        heard = []
        while not any(one.startswith(state) for one in heard):
            heard += self.socket.recv(4096).decode().split("\n")
        return heard


def activate(server, client, folder):
    """systemd-socket-activate listens, and starts the server at the first connection."""
    manager = Manager(folder / "notify")
    ports = [serving.free_port(), serving.free_port()]
    command = ["systemd-socket-activate", "--fdname=kv:kv", f"--setenv=NOTIFY_SOCKET={manager.path}"]
    # As systemd tells a service that has WatchdogSec=3.
    command.append("--setenv=WATCHDOG_USEC=3000000")
    command += [f"--listen=127.0.0.1:{port}" for port in ports]
    with subprocess.Popen([*command, server, *arguments()], stdout=subprocess.PIPE, text=True) as process:
        try:
            # This connects, and so the server starts.
            serving.wait_for(ports[0], process)
            for number, port in enumerate(ports):
                called = serving.run(client, "--connect", f"tcp://127.0.0.1:{port}", "update", f"key-{number}", "value")
                assert called.returncode == 0, called.stderr
            lines = [process.stdout.readline().strip() for _ in ports]
            assert lines == [f"listening tcp://127.0.0.1:{port}" for port in ports], lines
            heard = manager.until("READY=1")
            assert any(one.startswith("STATUS=serving on tcp://127.0.0.1:") for one in heard), heard
            for _ in range(2):
                manager.until("WATCHDOG=1")
            process.send_signal(signal.SIGTERM)
            heard = manager.until("EXTEND_TIMEOUT_USEC=")
            assert "STOPPING=1" in heard and "EXTEND_TIMEOUT_USEC=34000000" in heard, heard
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    print("systemd-socket-activate gives the demo server its sockets and a watchdog, which it feeds")


def activate_as_the_page_says(server, client):
    """Runs the command of the page, at a free port, and calls the server that it starts."""
    [command] = re.findall(r"^```sh systemd\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    port = serving.free_port()
    environment = {**os.environ, "PATH": f"{os.path.dirname(server)}:{os.environ['PATH']}"}
    command = ["bash", "-euc", "exec " + command.replace("127.0.0.1:5005", f"127.0.0.1:{port}")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            serving.wait_for(port, process)
            called = serving.run(client, "--connect", f"tcp://127.0.0.1:{port}", "update", "key", "value")
            assert called.returncode == 0, called.stderr
            assert process.stdout.readline().strip() == f"listening tcp://127.0.0.1:{port}"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    print("systemd-socket-activate does what the page says")


def main():
    server, client = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        verify(os.path.abspath(server), folder)
        activate(os.path.abspath(server), client, folder)
    activate_as_the_page_says(os.path.abspath(server), client)


if __name__ == "__main__":
    main()
