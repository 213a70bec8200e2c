#!/usr/bin/env python3
"""Checks that the imports of a crate point one way.

Usage: .ci/rooms.py CRATE/src [--edges]

ARCHITECTURE.md lists the rooms of each crate, the lowest first, in a block that begins with ```rooms CRATE/src. A room is a
top-level module: `name.rs` and everything under `name/`. A room may lie inside of another one, as `net/os`; it is then no part of that one.
A room may import from itself and from rooms listed before it.
Inside a room, the modules beside each other must not import each other in a circle, at any depth. A module and its own
children may import each other. Tests are not checked, and of a module only what it mentions by `use` or by a path that begins with crate, self or super.
"""

import re
import sys
from pathlib import Path

COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\[^\n]|[^\\\n])\'', re.S)
USE = re.compile(r"((?:#\[[^\]]*\]\s*)*)(?:pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
INLINE = re.compile(r"\b(crate|super|self)((?:::\w+)+)")
TEST_FILE = re.compile(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+);")
TEST_MODULE = re.compile(r"#\[cfg\((?:all\()?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*\{")


def without_tests(text):
    """The text without its inline test modules."""
    while found := TEST_MODULE.search(text):
        depth, at = 1, found.end()
        while depth and at < len(text):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        text = text[: found.start()] + text[at:]
    return text


def leaves(tree, prefix=()):
    """Yields (path, name) for each leaf of a use tree: `a::{b, c as d}` gives (a, b), b and (a, c), d."""
    tree = tree.strip()
    depth, start, parts = 0, 0, []
    for at, char in enumerate(tree):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and not depth:
            parts.append(tree[start:at])
            start = at + 1
    parts.append(tree[start:])
    for part in filter(None, (part.strip() for part in parts)):
        if "{" in part:
            head, rest = part.split("{", 1)
            yield from leaves(rest.rsplit("}", 1)[0], prefix + tuple(s.strip() for s in head.split("::") if s.strip()))
            continue
        path, _, alias = part.partition(" as ")
        path = prefix + tuple(s.strip() for s in path.split("::"))
        if path[-1] == "self":
            path = path[:-1]
        yield path, alias.strip() or path[-1]


class Crate:
    def __init__(self, src):
        self.src = src
        self.files = {}  # module path -> its file
        self.names = {}  # module path -> {imported name: absolute path}
        self.globs = {}  # module path -> absolute paths of its glob imports
        self.paths = {}  # module path -> every absolute path that it mentions
        for file in sorted(src.rglob("*.rs")):
            parts = file.relative_to(src).with_suffix("").parts
            if "tests" in parts or parts == ("main",):
                continue
            self.files[() if parts == ("lib",) else parts] = file
        tests = {
            module + (name,)
            for module, file in self.files.items()
            for name in TEST_FILE.findall(file.read_text())
        }
        self.files = {
            module: file
            for module, file in self.files.items()
            if not any(module[: len(test)] == test for test in tests)
        }
        for module, file in self.files.items():
            self.read(module, without_tests(COMMENT_OR_STRING.sub(" ", file.read_text())))

    def absolute(self, module, path):
        """The path from the crate's root; None if it leads out of the crate."""
        head, rest = path[0], path[1:]
        if head in ("crate", "rpc_runtime", "rpc_codegen"):
            return rest
        if head == "self":
            return module + rest
        if head == "super":
            at = module
            while path and path[0] == "super":
                at, path = at[:-1], path[1:]
            return at + path
        if module + (head,) in self.files:
            return module + path
        return None

    def read(self, module, text):
        names, globs, paths = {}, [], []
        for attributes, tree in USE.findall(text):
            if re.search(r"cfg\((?:all\()?test\b", attributes):
                continue
            for path, name in leaves(tree):
                full = self.absolute(module, path)
                if full is None:
                    # A name of another crate.
                    names[name] = None
                    continue
                if name == "*":
                    globs.append(full[:-1])
                else:
                    names[name] = full
                paths.append(full)
        for head, rest in INLINE.findall(USE.sub(" ", text)):
            # `super::a` inside of an inline module would be read wrongly; there are none but tests.
            full = self.absolute(module, (head, *rest.split("::")[1:]))
            if full is not None:
                paths.append(full)
        self.names[module], self.globs[module], self.paths[module] = names, globs, paths

    def resolve(self, path, seen=frozenset()):
        """The module that defines what the path names."""
        module = ()
        for at, segment in enumerate(path):
            if module + (segment,) in self.files:
                module += (segment,)
                continue
            if segment in self.names[module] and self.names[module][segment] is None:
                return ()
            target = self.names[module].get(segment)
            if target is not None and (module, segment) not in seen:
                return self.resolve(target + path[at + 1 :], seen | {(module, segment)})
            for glob in self.globs[module]:
                found = self.resolve(glob)
                if found != module and self.defines(found, segment):
                    return self.resolve(found + path[at:])
            return module
        return module

    def defines(self, module, name):
        return name in self.names[module] or re.search(
            rf"\b(?:struct|enum|fn|trait|type|const|static|union|mod)\s+{name}\b", self.files[module].read_text()
        )

    def edges(self):
        """Yields (importing module, imported module), without those between a module and its own children."""
        for module, paths in self.paths.items():
            for target in {self.resolve(path) for path in paths}:
                if target[: len(module)] != module and module[: len(target)] != target:
                    yield module, target


def circles(graph):
    """The strongly connected parts of more than one node (Tarjan, without recursion's limit: graphs are small)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def rooms_of(src):
    """The rooms that ARCHITECTURE.md lists for this crate, the lowest first."""
    listed, inside = [], False
    for line in Path("ARCHITECTURE.md").read_text().splitlines():
        if line.strip() == f"```rooms {src}":
            inside = True
        elif inside and line.startswith("```"):
            return listed
        elif inside and line.strip():
            listed.append(line.split()[0])
    sys.exit(f"error: ARCHITECTURE.md has no block ```rooms {src}")


def main():
    src = sys.argv[1]
    crate = Crate(Path(src))
    edges = sorted(crate.edges())
    name = "::".join
    if "--edges" in sys.argv:
        for module, target in edges:
            print(name(module), "->", name(target))
        return
    errors = []
    rooms = rooms_of(src)
    top = sorted({module[0] for module in crate.files if module})
    modules = {"/".join(module) for module in crate.files}
    errors += [f"room {room} is not in ARCHITECTURE.md's list for {src}" for room in top if room not in rooms]
    errors += [f"ARCHITECTURE.md lists room {room}, and {src} has none" for room in rooms if room not in modules]
    place = {room: at for at, room in enumerate(rooms)}

    def room_of(module):
        """The innermost room in which a module lies."""
        inside = ("/".join(module[:end]) for end in range(len(module), 0, -1))
        return next((room for room in inside if room in place), None)

    beside = {}
    for module, target in edges:
        common = next(at for at, (a, b) in enumerate(zip(module, target)) if a != b)
        room, other = room_of(module), room_of(target)
        if place.get(room, 0) < place.get(other, 0):
            errors.append(f"{crate.files[module]} imports {name(target)}: {room} stands below {other}")
        if common > 0:
            beside.setdefault(module[:common], {}).setdefault(module[common], set()).add(target[common])
    for parent, graph in sorted(beside.items()):
        for circle in circles(graph):
            errors.append(f"circle in {src}/{'/'.join(parent)}: {', '.join(circle)}")
            for module, target in edges:
                depth = len(parent)
                if module[:depth] == parent == target[:depth] and {module[depth], target[depth]} <= set(circle):
                    if module[depth] != target[depth]:
                        errors.append(f"    {name(module)} imports {name(target)}")
    for error in errors:
        print(f"error: {error}" if not error.startswith(" ") else error)
    if errors:
        sys.exit(1)
    print(f"{src}: {len(crate.files)} files in {len(rooms)} rooms, imports one way")


main()
