#!/usr/bin/env python3
"""Follows the given Markdown pages as a newcomer does, each in a fresh folder; `../rpc` is this workspace.

A fenced block behind a line such as "`src/main.rs`:" becomes that file of the newcomer's package. Then, in order:

- A block marked `sh new` has to succeed there, and one marked `sh new fails` has to fail.
- One marked `sh new server` is started, has to print a line that begins with `listening`, and is interrupted at the
  page's end; it then has to end with 0.
- A `text` block right after one of the first two shows what that prints: these lines, in this order, perhaps with
  others between them. `...` within a line stands for anything. A `text server` block shows the same of the server that
  was started last, after it is interrupted.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIMIT = 25 * 60  # seconds for one block: the first one builds everything
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
ENVIRONMENT = os.environ | {"CARGO_TARGET_DIR": os.path.abspath(TARGET)}


def blocks(path):
    """Yields each block's place, its file's name or None, its kind, its text, and whether it follows another at once."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    end = None
    for match in re.finditer(r"^(?:`([^`\n]+)`:\n\n)?```([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        yield f"{path}:{text.count(chr(10), 0, match.start()) + 1}", match[1], match[2], match[3], end == match.start()
        end = match.end() + 2


def write(folder, name, text):
    """Writes a file of the package. The manifest gets the versions that this workspace tests.

    The workspace's real path takes the place of `../rpc`, so that cargo reuses what it built for tests/outside.
    """
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace('"../rpc/', f'"{ROOT}/') if name == "Cargo.toml" else text)
    if name == "Cargo.toml":
        package = re.search(r'^name = "(.*)"', text, re.M)[1]
        with open(os.path.join(ROOT, "tests/outside/Cargo.lock"), encoding="utf-8") as file:
            lock = file.read().replace('name = "outside"', f'name = "{package}"')
        with open(os.path.join(folder, "Cargo.lock"), "w", encoding="utf-8") as file:
            file.write(lock)


def start(folder, text, **how):
    return subprocess.Popen(["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=ENVIRONMENT, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, **how)


def run(folder, place, text, fails):
    """Runs a block to its end; returns what it printed."""
    process = start(folder, text, stderr=subprocess.STDOUT)
    printed, _ = process.communicate(timeout=LIMIT)
    print(printed, end="", flush=True)
    if (process.returncode != 0) != fails:
        sys.exit(f"error: {place}: the block ended with {process.returncode}")
    return printed


def serve(folder, place, text):
    """Starts a block, and returns its process when that listens."""
    process = start(folder, text)
    timer = threading.Timer(LIMIT, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    for line in process.stdout:
        print(line, end="", flush=True)
        if line.startswith("listening"):
            timer.cancel()
            return process
    sys.exit(f"error: {place}: no line that begins with 'listening'")


def compare(place, shown, printed):
    """Each line that the page shows has to be among the printed ones, in order."""
    lines = iter(printed.splitlines())
    for line in shown.splitlines():
        pattern = ".*".join(map(re.escape, line.split("...")))
        if not any(re.fullmatch(pattern, other) for other in lines):
            sys.exit(f"error: {place}: this line is not printed, or not here: {line}")


def walk(path, folder):
    servers, printed, last = [], None, None
    try:
        for place, name, kind, text, follows in blocks(path):
            if name:
                write(folder, name, text)
            elif kind in ("sh new", "sh new fails"):
                print(f"-- {place}\n{text}", end="", flush=True)
                printed = run(folder, place, text, kind.endswith("fails"))
            elif kind == "sh new server":
                print(f"-- {place}\n{text}", end="", flush=True)
                servers.append((place, serve(folder, place, text)))
            elif kind == "text" and follows and printed is not None:
                compare(place, text, printed)
            elif kind == "text server":
                last = place, text
    finally:
        for _, server in servers:
            os.killpg(server.pid, signal.SIGINT)
    for place, server in servers:
        printed, _ = server.communicate(timeout=60)
        print(printed, end="", flush=True)
        if server.returncode != 0:
            sys.exit(f"error: {place}: the interrupted server ended with {server.returncode}")
    if last:
        compare(*last, printed)


def main():
    with tempfile.TemporaryDirectory() as above:
        for path in sys.argv[1:]:
            walk(path, tempfile.mkdtemp(dir=above))
    print(f"{len(sys.argv) - 1} pages walked", flush=True)


if __name__ == "__main__":
    main()
