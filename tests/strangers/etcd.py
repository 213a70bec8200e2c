#!/usr/bin/env python3
"""A real etcd answers clients of ours: those of its own .proto files, also after restarts, and the example `etcd`.

Usage: etcd.py ETCD ETCD_CALLER EXAMPLE
"""

import json
import subprocess
import sys
import tempfile
import time
import urllib.request

import serving


class Etcd:
    """An etcd on free ports, with its data in a folder. It ends with its block."""

    def __init__(self, program, folder):
        port = serving.free_port()
        place, peers = (f"http://127.0.0.1:{port}" for port in [port, serving.free_port()])
        self.address = f"grpc://127.0.0.1:{port}"
        self.health = f"{place}/health"
        self.command = [
            *[program, "--name=stranger", f"--data-dir={folder}/data", "--logger=zap", f"--log-outputs={folder}/log"],
            *[f"--listen-client-urls={place}", f"--advertise-client-urls={place}"],
            *[f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=stranger={peers}"],
        ]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Starts etcd, and waits until it says that it is healthy."""
        self.process = subprocess.Popen(self.command)
        until = time.monotonic() + 60
        while not self.is_healthy():
            assert self.process.poll() is None, f"etcd has ended: exit code {self.process.returncode}"
            assert time.monotonic() < until, "etcd does not get healthy"
            time.sleep(0.05)

    def is_healthy(self):
        try:
            with urllib.request.urlopen(self.health, timeout=10) as answer:
                return json.load(answer)["health"] == "true"
        except OSError:
            return False

    def stop(self):
        """Ends etcd. Its data stay."""
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self):
        """Ends etcd as a machine that fails does."""
        self.process.kill()
        self.process.wait()


def check_own_protos(etcd, caller):
    """Runs the caller to its end. A line `restart` that it prints asks for a restart of etcd."""
    with subprocess.Popen([caller, etcd.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line == "restart\n":
                etcd.stop()
                etcd.start()
                print(file=process.stdin, flush=True)
            else:
                print(line, end="")
    assert process.returncode == 0, process.returncode


ELECTION = """\
anna: leads
anna: leads for 10 s more
ben: waits, because anna leads
anna: resigns
ben: leads
anna: etcdserver: requested lease not found, executed: Yes
"""


def check_example(etcd, example):
    done = serving.run(example, etcd.address, limit=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ELECTION, done.stdout
    print("etcd: the example prints what it should")


def main():
    program, caller, example = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, Etcd(program, folder) as etcd:
        check_own_protos(etcd, caller)
        check_example(etcd, example)


if __name__ == "__main__":
    main()
