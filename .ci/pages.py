#!/usr/bin/env python3
"""Checks the repository's Markdown files: links lead to files and headings that exist, and Rust blocks are compiled.

Each page of docs/ that another file names has to exist, too. Rust blocks are compiled by doctests, so each page under
docs/ that has one is named by an `include_str!` somewhere.

Blocks of commands are run: by `.ci/shell_blocks.py` and `.ci/walk.py`, or by a step of `.ci/strangers`, which then names their page. The pages with
commands that nothing runs are the ones of the table in docs/explanation/testing.md, with the reason.
"""

import os
import re
import subprocess
import sys


def text_of(path):
    """Returns the text of a page without its fenced blocks."""
    with open(path, encoding="utf-8") as file:
        return re.sub(r"^```.*?^```$", "", file.read(), flags=re.M | re.S)


def anchors(path):
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*)$", text_of(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def included():
    """Returns the pages that doctests compile."""
    found = subprocess.run(["git", "grep", "-hoE", r'doc = include_str!\("[^"]+"'], capture_output=True, text=True,
                           check=True).stdout
    return {re.sub(r'^[./]*', "", name) for name in re.findall(r'"([^"]+)"', found)}


# The first line of a `text` block that a reader is meant to type.
COMMAND = re.compile(r"^(?:\$ |\. |[A-Za-z_]+=\S* )?"
                     r"(?:\.ci/|(?:awk|buf|cargo|cat|cp|curl|docker|for|git|go|grep|grpcurl|kill|kubectl|ls|mkdir|nginx|node|npm|npx|openssl|pip|promtool|protoc|"
                     r"python3?|rustup|ss|ssh|sudo|systemctl|systemd-[a-z-]+) )|^[a-z]+=[\"'h]", re.I)
# Those of `.ci/run` that are given to `.ci/shell_blocks.py` or `.ci/walk.py`.
RUN = re.compile(r"(?:README|CONTRIBUTING|examples/README|docs/.*)\.md")
REASONS = "docs/explanation/testing.md"


def is_run(page, kind, text, steps):
    """Returns whether a block with commands is run; true for blocks without."""
    words = kind.split()
    if words[:1] == ["sh"]:
        if set(words[1:]) <= {"new", "server", "fails"}:
            return RUN.fullmatch(page) is not None
        return os.path.basename(page) in steps
    if words == ["bash"]:
        return os.path.basename(page) in steps
    return words[:1] != ["text"] or COMMAND.match(text) is None


def unrun_blocks(pages):
    """Yields what is wrong: blocks that nothing runs in a page without a reason, and reasons for pages without such a block."""
    steps = subprocess.run(["git", "grep", "-h", "", "--", ".ci/strangers", "tests/strangers/*.py"], capture_output=True, text=True, check=True).stdout
    with open(REASONS, encoding="utf-8") as file:
        table = re.search(r"^## Commands that nothing runs\n(.*?)(?=^## |\Z)", file.read(), re.M | re.S)[1]
    excused = {os.path.normpath(os.path.join(os.path.dirname(REASONS), target)) for target in re.findall(r"^\| \[.*?\]\((.*?)\)", table, re.M)}
    for page in pages:
        with open(page, encoding="utf-8") as file:
            found = re.findall(r"^ *```(.*)\n((?:.*\n)*?) *```$", file.read(), re.M)
        unrun = [text for kind, text in found if not is_run(page, kind, text, steps)]
        if unrun and page not in excused:
            yield f"{page}: nothing runs this block, and {REASONS} does not say why:\n{unrun[0]}"
        if not unrun and page in excused:
            yield f"{page}: {REASONS} says that nothing runs its commands, and that is not so"


def main():
    pages = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
                           capture_output=True, text=True, check=True).stdout.split()
    count, faults, compiled = 0, [], included()
    for page in filter(os.path.exists, pages):
        with open(page, encoding="utf-8") as file:
            if page.startswith("docs/") and "\n```rust" in file.read() and page not in compiled:
                faults.append(f"{page}: no doctest compiles its Rust blocks")
        for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            path, _, anchor = target.partition("#")
            path = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if not os.path.exists(path):
                faults.append(f"{page}: no file {target}")
            elif anchor and path.endswith(".md") and anchor not in anchors(path):
                faults.append(f"{page}: no heading {target}")
    for line in subprocess.run(["git", "grep", "-noE", r"\bdocs/[a-z/-]+\.md", "--", ":!docs/", ":!*/testdata/*"],
                               capture_output=True, text=True, check=True).stdout.splitlines():
        if not os.path.exists(line.rsplit(":", 1)[1]):
            faults.append(f"{line.rsplit(':', 1)[0]}: no page {line.rsplit(':', 1)[1]}")
    faults += unrun_blocks(list(filter(os.path.exists, pages)))
    print(f"{len(pages)} pages, {count} links, {len(faults)} faults")
    sys.exit("\n".join(faults) or None)


if __name__ == "__main__":
    main()
