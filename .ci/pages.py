#!/usr/bin/env python3
"""Checks the repository's Markdown files: links lead to files and headings that exist, and Rust blocks are compiled.

Each page of docs/ that another file names has to exist, too. Rust blocks are compiled by doctests, so each page under
docs/ that has one is named by an `include_str!` somewhere.
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
    print(f"{len(pages)} pages, {count} links, {len(faults)} faults")
    sys.exit("\n".join(faults) or None)


if __name__ == "__main__":
    main()
