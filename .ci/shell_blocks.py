#!/usr/bin/env python3
"""Runs every shell block of the given Markdown files. Call it from the root of the workspace.

Usage: shell_blocks.py [--with PROGRAM] PAGE...

A block marked `sh` has to succeed. A block marked `sh server` has to print a line that begins with `listening`. It then runs
until a later block of the same file terminates it; otherwise it gets SIGINT at the end of the file.

A block marked `sh grpcurl` or `sh server grpcurl` needs that program. It only runs `--with grpcurl`, which .ci/strangers says once
it has installed the program. A page has to have such a block then. The one of `sh systemd` is run by tests/strangers/systemd.py.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading

LIMIT = 25 * 60  # seconds for one block: the first block builds most of the workspace


def blocks(path, program):
    """Yields whether it is a server, what it needs, the number of the first line, and the text of each shell block that can run."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for match in re.finditer(r"^```sh( server)?(?: ([\w-]+))?\n(.*?)^```$", text, re.M | re.S):
        if match[2] in (None, program):
            yield match[1] is not None, match[2], text.count("\n", 0, match.start()) + 2, match[3]


def start(text):
    return subprocess.Popen(["bash", "-euo", "pipefail", "-c", text], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, text=True, start_new_session=True)


def run_server(text):
    """Starts a block and waits for its `listening` line. Returns the process, or None if it printed no such line."""
    process = start(text)
    timer = threading.Timer(LIMIT, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    for line in process.stdout:
        print(line, end="", flush=True)
        if line.startswith("listening"):
            timer.cancel()
            # Later lines must not fill the pipe, so a thread reads them.
            threading.Thread(target=lambda: [print(line, end="", flush=True) for line in process.stdout],
                             daemon=True).start()
            return process
    timer.cancel()
    return None


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--with", dest="program")
    arguments.add_argument("pages", nargs="+")
    arguments = arguments.parse_args()
    count = 0
    for path in arguments.pages:
        found = list(blocks(path, arguments.program))
        if arguments.program is not None and all(needs is None for _, needs, _, _ in found):
            sys.exit(f"error: {path} has no block that needs {arguments.program}")
        servers = []
        try:
            for is_server, _, line, text in found:
                count += 1
                print(f"-- {path}:{line}\n{text}", end="", flush=True)
                if is_server:
                    server = run_server(text)
                    if server is None:
                        sys.exit(f"error: {path}:{line}: no line that begins with 'listening'")
                    servers.append(server)
                    continue
                result = subprocess.run(["bash", "-euo", "pipefail", "-c", text], stdin=subprocess.DEVNULL,
                                        timeout=LIMIT, check=False)
                if result.returncode != 0:
                    sys.exit(f"error: {path}:{line}: the block ended with {result.returncode}")
        finally:
            for server in servers:
                if server.poll() is None:
                    os.killpg(server.pid, signal.SIGINT)
                try:
                    server.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(server.pid, signal.SIGKILL)
    print(f"{count} shell blocks ran", flush=True)


if __name__ == "__main__":
    main()
