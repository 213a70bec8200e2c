#!/usr/bin/env python3
"""Runs every shell block of the given Markdown files. Call it from the root of the workspace.

A block marked `sh` has to succeed. A block marked `sh server` has to print a line that begins with `listening`. It then runs
until a later block of the same file terminates it; otherwise it gets SIGINT at the end of the file.
"""

import os
import re
import signal
import subprocess
import sys
import threading

LIMIT = 25 * 60  # seconds for one block: the first block builds most of the workspace


def blocks(path):
    """Yields kind, number of the first line, and text of each shell block."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for match in re.finditer(r"^```(sh|sh server)\n(.*?)^```$", text, re.M | re.S):
        yield match[1], text.count("\n", 0, match.start()) + 2, match[2]


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
    count = 0
    for path in sys.argv[1:]:
        servers = []
        try:
            for kind, line, text in blocks(path):
                count += 1
                print(f"-- {path}:{line}\n{text}", end="", flush=True)
                if kind == "sh server":
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
