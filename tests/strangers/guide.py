#!/usr/bin/env python3
"""Runs the blocks of docs/how-to/call-from-other-languages.md against the demo server, and those over TLS against another one.

Usage: guide.py DEMO_SERVER KV_OVER_TLS PATH HEADING..., where PATH is put before PATH of the environment, and each HEADING is that of a part to
run. All parts run in one folder, as those of a reader do.

A block whose first line is a comment with a file's name is that file. A block of `bash` is run, and what it prints must be the `text` after it. Lines
that install something are not run: `.ci/strangers` has done it.
"""

import os
import re
import subprocess
import sys
import tempfile

import serving

PAGE = serving.ROOT / "docs/how-to/call-from-other-languages.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
FILE = re.compile(r"(?://|#) (\S+\.\w+)\n")
INSTALLS = re.compile(r"^(?:pip|npm|go) install .*\n", re.M)


def parts():
    """Returns the blocks of each part of the page, by its heading."""
    sections = re.split(r"^## (.*)\n", PAGE.read_text(encoding="utf-8"), flags=re.M)
    return {heading: BLOCK.findall(text) for heading, text in zip(sections[1::2], sections[2::2])}


def run(text, folder, environment):
    done = subprocess.run(["bash", "-euc", INSTALLS.sub("", text)], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 0, f"exit code {done.returncode}:\n{text}"
    return done.stdout


def run_part(heading, blocks, folder, places, path):
    printed = ""
    # `path` is empty, or ends with a colon.
    environment = {**os.environ, "PATH": f"{path}{os.environ['PATH']}"}
    for language, text in blocks:
        for before, after in places.items():
            text = text.replace(before, after)
        if language == "bash":
            printed = run(text, folder, environment)
        elif language == "text":
            assert printed == text, f"{heading}: printed\n{printed}and not\n{text}"
        else:
            with open(f"{folder}/{FILE.match(text)[1]}", "w", encoding="utf-8") as file:
                file.write(text)
    print(f"guide: {heading}: as the page says")


def main():
    program, kv_over_tls, path, *headings = sys.argv[1:]
    found = parts()
    with tempfile.TemporaryDirectory() as folder:
        for name in ["proto", "rpc-codegen"]:
            os.symlink(serving.ROOT / name, f"{folder}/{name}")
        # It writes the files of its CA into the folder.
        tls = serving.Server(kv_over_tls, folder, "known", "tls://127.0.0.1:0")
        with serving.demo(program) as server, tls:
            places = {"127.0.0.1:5005": server.address, "localhost:7400": f"localhost:{tls.port}"}
            for heading in headings:
                run_part(heading, found[heading], folder, places, path)


if __name__ == "__main__":
    main()
