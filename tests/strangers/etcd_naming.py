#!/usr/bin/env python3
"""Servers of ours are in a real etcd while they serve, and are found there: also by and beside programs of gRPC-Go's naming.

Usage: etcd_naming.py ETCD ORDERS [NAMING]

ORDERS is the example `orders` of rpc-etcd. NAMING is tests/strangers/etcd/naming/main.go.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import etcd as real

# Longer than anything here takes: a lease of 3 s, and pauses of a second.
LONG = 60


class Program:
    """The example in one of its two roles, and the lines that it has printed. It ends with its block."""

    def __init__(self, orders, role, address, *user):
        self.process = subprocess.Popen([orders, role, address, *user], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.lines = []
        self.news = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def read(self):
        for line in self.process.stdout:
            with self.news:
                self.lines.append(line.rstrip("\n"))
                self.news.notify_all()

    def until(self, what, holds):
        """Waits until the lines are as they should be."""
        with self.news:
            assert self.news.wait_for(lambda: holds(self.lines), LONG), f"{what}: {self.lines}"

    def until_last(self, line):
        self.until(line, lambda lines: lines and lines[-1].strip() == line.strip())

    def address(self):
        """The address at which the server serves."""
        self.until("serving", lambda lines: lines)
        return self.lines[0].removeprefix("serving at tcp://")

    def end(self):
        """Ends a server as an operator does."""
        self.process.terminate()
        assert self.process.wait(timeout=LONG) == 0


def listed(*addresses):
    return "servers: " + " ".join(sorted(addresses))


def check_lifes(etcd, orders):
    """A server is found, one that is killed is forgotten, and one that ends is taken out."""
    with Program(orders, "follow", etcd.address) as follower:
        follower.until_last(listed())
        with Program(orders, "serve", etcd.address) as first, Program(orders, "serve", etcd.address) as second:
            follower.until_last(listed(first.address(), second.address()))
            first.process.kill()
            follower.until_last(listed(second.address()))
            second.end()
            follower.until_last(listed())
    print("etcd: servers are found, and gone when they have ended or were killed")


def check_lost_data(etcd, orders, folder):
    """An etcd that loses its data gets the server back, and a follower never sees an empty list."""
    with Program(orders, "serve", etcd.address) as server, Program(orders, "follow", etcd.address) as follower:
        address = server.address()
        follower.until_last(listed(address))
        before = len(follower.lines)
        # At once: an etcd 3.7 that is stopped takes 7 s, and tells meanwhile that the server's lease of 3 s is over.
        etcd.kill()
        shutil.rmtree(f"{folder}/data")
        etcd.start()
        # A new follower knows only what is in etcd now.
        with Program(orders, "follow", etcd.address) as fresh:
            fresh.until_last(listed(address))
        # What comes later shows that it follows the new etcd.
        with Program(orders, "serve", etcd.address) as other:
            follower.until_last(listed(address, other.address()))
            assert listed().strip() not in [line.strip() for line in follower.lines[before:]], follower.lines
            other.end()
        server.end()
    print("etcd: a server registers again with an etcd that has lost its data, and no list was empty")


def check_naming(etcd, orders, naming):
    """gRPC-Go's naming lists a server of ours, and a server that it adds is found."""
    def run(*arguments):
        done = subprocess.run([naming, etcd.address.removeprefix("grpc://"), *arguments], capture_output=True, text=True, timeout=LONG)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with Program(orders, "serve", etcd.address) as server, Program(orders, "follow", etcd.address) as follower:
        address = server.address()
        follower.until_last(listed(address))
        assert run("list") == f'{address} {{"zone":"here"}}\n', run("list")
        run("add", "10.9.9.9:1")
        follower.until_last(listed("10.9.9.9:1", address))
        run("delete", "10.9.9.9:1")
        follower.until_last(listed(address))
        server.end()
    print("etcd: gRPC-Go's naming and ours find each other's servers")


def check_user(etcd, orders):
    """A user's token that etcd no longer knows, because etcd was restarted, is replaced by the server and by the follower."""
    def ask(path, **body):
        request = urllib.request.Request(etcd.health.replace("/health", f"/v3/auth/{path}"), json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=LONG) as answer:
            answer.read()

    ask("user/add", name="root", password="secret")
    ask("role/add", name="root")
    ask("user/grant", user="root", role="root")
    ask("enable")
    user = ("root", "secret")
    with Program(orders, "serve", etcd.address, *user) as server, Program(orders, "follow", etcd.address, *user) as follower:
        follower.until_last(listed(server.address()))
        etcd.stop()
        etcd.start()
        with Program(orders, "serve", etcd.address, *user) as other:
            follower.until_last(listed(server.address(), other.address()))
            # Longer than its lease.
            time.sleep(5)
            assert follower.lines[-1] == listed(server.address(), other.address()), follower.lines
            other.end()
        follower.until_last(listed(server.address()))
        server.end()
        follower.until_last(listed())
    print("etcd: with a user, tokens that etcd has forgotten are replaced")


def main():
    program, orders, *naming = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, real.Etcd(program, folder) as etcd:
        check_lifes(etcd, orders)
        check_lost_data(etcd, orders, pathlib.Path(folder))
        for path in naming:
            check_naming(etcd, orders, path)
        check_user(etcd, orders)


if __name__ == "__main__":
    main()
