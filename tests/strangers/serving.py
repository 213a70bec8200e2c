"""Servers of ours and of others, for the scripts beside this file: each has a free port, and ends with its block."""

import contextlib
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Where kv.proto and what it imports are.
PROTOS = [ROOT / "proto", ROOT / "rpc-codegen/proto"]


def free_port():
    """Returns a port on which nobody listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A server of ours that prints its address: `listening tcp://127.0.0.1:5005`, and perhaps that of its pages: `admin tcp://127.0.0.1:9464`."""

    def __init__(self, *command, has_pages=False):
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        self.address = self._address("listening")
        self.pages = self._address("admin") if has_pages else None
        # Later lines must not fill the pipe.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def _address(self, what):
        """Returns the address of the next line, which says what it is."""
        line = self.process.stdout.readline()
        # The address of a Unix socket, `unix:/path`, stays as it is.
        found = re.fullmatch(rf"{what} (?:\w+://)?(\S+)", line.strip())
        assert found, f"expected the address of {what}, and got {line!r}"
        return found[1]

    @property
    def port(self):
        return self.address.rpartition(":")[2]

    def drain(self):
        """Begins a drain."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self):
        """Waits for the end of the drain."""
        return self.process.wait(timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def demo(program, listen="tcp://127.0.0.1:0"):
    """Starts the demo server."""
    return Server(program, "--listen", listen)


def demo_with_pages(program):
    """Starts the demo server with its pages for operators."""
    return Server(program, "--listen", "tcp://127.0.0.1:0", "--admin", "tcp://127.0.0.1:0", has_pages=True)


def run(*command, limit=60, stdin=""):
    """Runs a program of others. Returns its process, with what it has printed as text."""
    return subprocess.run(list(map(str, command)), input=stdin, capture_output=True, text=True, timeout=limit)


def wait_for(port, process, limit=60):
    """Waits until somebody listens on a port; fails if the process that is to do so has ended."""
    until = time.monotonic() + limit
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=limit).close()
            return
        except ConnectionRefusedError:
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < until, "the server does not listen"
            time.sleep(0.05)


@contextlib.contextmanager
def running(*command):
    """Runs a server of others; it ends with the block."""
    process = subprocess.Popen(list(map(str, command)))
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
