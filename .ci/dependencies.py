#!/usr/bin/env python3
"""Checks licences, versions and sources of all dependencies by deny.toml, with nothing but cargo and Python.

It reads a part of what cargo-deny reads, so that the rules hold where cargo-deny is not installed: [licenses] allow,
[bans] multiple-versions, wildcards and skip, and [sources]. It does not know advisories. It also checks that the workspace's
rust-version is no older than what its dependencies need.
"""

import collections
import json
import re
import subprocess
import sys
import tomllib


def licence_is_allowed(expression, allowed):
    """Evaluates an SPDX expression. AND binds tighter than OR; a slash is an old form of OR."""
    tokens = re.findall(r"[()]|[^\s()/]+|/", expression)
    tokens = ["OR" if token == "/" else token for token in tokens]
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def any_of():
        result = all_of()
        while peek() == "OR":
            take()
            result = all_of() or result
        return result

    def all_of():
        result = one()
        while peek() == "AND":
            take()
            result = one() and result
        return result

    def one():
        token = take()
        if token == "(":
            result = any_of()
            take()
            return result
        if peek() == "WITH":
            take()
            token = f"{token} WITH {take()}"
        return token in allowed

    return any_of() and position == len(tokens)


def check_licences(packages, rules):
    allowed = set(rules["allow"])
    for package in packages:
        licence = package["license"]
        if not licence:
            yield f"{package['name']} {package['version']} names no licence: read its licence file"
        elif not licence_is_allowed(licence, allowed):
            yield f"{package['name']} {package['version']} has the licence {licence}, which deny.toml does not allow"


def built_packages(metadata):
    """Returns the packages that are built for a user or a build script: all but what only tests depend on."""
    nodes = {node["id"]: node["deps"] for node in metadata["resolve"]["nodes"]}
    found, waiting = set(), list(metadata["workspace_members"])
    while waiting:
        package = waiting.pop()
        if package not in found:
            found.add(package)
            for dependency in nodes[package]:
                if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                    waiting.append(dependency["pkg"])
    return [package for package in metadata["packages"] if package["id"] in found]


def check_bans(packages, built, rules):
    versions = collections.defaultdict(set)
    for package in built:
        versions[package["name"]].add(package["version"])
    for skip in (skip["crate"] for skip in rules["skip"]):
        name, _, version = skip.partition("@")
        if version not in versions[name] or len(versions[name]) == 1:
            yield f"deny.toml skips {skip}, which is no second version any more: remove the entry"
        versions[name].discard(version)
    for name, found in sorted(versions.items()):
        if len(found) > 1:
            yield f"{name} has {len(found)} versions, {', '.join(sorted(found))}: `cargo tree -d` shows who needs them"
    for package in packages:
        for dependency in package["dependencies"]:
            if dependency["req"] == "*" and dependency["source"]:
                yield f"{package['name']} takes any version of {dependency['name']}: name the one that it needs"


def check_rust_version(metadata, built):
    def numbers(version):
        return [int(part) for part in version.split(".")]

    promised = {p["rust_version"] for p in built if p["id"] in metadata["workspace_members"]}
    for version in promised:
        for package in built:
            needed = package["rust_version"]
            if needed and numbers(needed)[:2] > numbers(version)[:2]:
                yield f"{package['name']} {package['version']} needs Rust {needed}, but Cargo.toml promises {version}"


def check_sources(packages):
    for package in packages:
        if (package["source"] or "registry+").split("+")[0] not in ("registry", "sparse"):
            yield f"{package['name']} comes from {package['source']}: take it from the default registry"
        for dependency in package["dependencies"]:
            # None stands for the default registry.
            if dependency["registry"]:
                yield f"{package['name']} takes {dependency['name']} from the registry {dependency['registry']}"


def main():
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    command = ["cargo", "metadata", "--format-version=1", "--all-features", "--locked"]
    metadata = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    packages, built = metadata["packages"], built_packages(metadata)
    errors = [
        *check_licences(packages, rules["licenses"]),
        *check_bans(packages, built, rules["bans"]),
        *check_rust_version(metadata, built),
        *check_sources(packages),
    ]
    for error in errors:
        print(f"error: {error}")
    print(f"{len(packages)} packages, {len(errors)} errors")
    sys.exit(bool(errors))


if __name__ == "__main__":
    main()
