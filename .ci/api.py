#!/usr/bin/env python3
"""Lists the public API of our crates, one line per item, so that a review shows each change of it.

Compares the list with docs/reference/api.txt, and fails if they differ. `RPC_API=write .ci/api.py` writes the file.

The list comes from rustdoc's JSON, with all features. Items under #[doc(hidden)] and blanket impls are left out. A type
stands under the path by which users reach it: a file that moves changes no line. Types of std stand without their path.
"""

import difflib
import json
import os
import pathlib
import subprocess
import sys

PACKAGES = ["rpc-admin", "rpc-codegen", "rpc-etcd", "rpc-http", "rpc-otel", "rpc-runtime", "rpc-services", "rpc-systemd"]
LISTING = pathlib.Path("docs/reference/api.txt")
STD = {"alloc", "core", "std", "proc_macro"}
# Whether a type is one of these is a promise to its users, also without a line in the source.
AUTO_TRAITS = {"Send", "Sync"}
# The compiler adds these to a derive, and nobody can name them.
DERIVED_MARKERS = {"StructuralPartialEq"}


def rustdoc(package):
    """Returns what rustdoc says of a package, as JSON."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")).absolute()
    # JSON is not stable yet: RUSTC_BOOTSTRAP allows it. Only rustdoc may see that variable. If cargo saw it, build scripts
    # would run again, and most dependencies would be built anew.
    wrapper = target / "api" / "rustdoc"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    wrapper.write_text('#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    command = ["cargo", "rustdoc", "--quiet", "--locked", "--lib", "--all-features", "-p", package]
    command += ["--target-dir", str(target), "--", "-Z", "unstable-options", "--output-format", "json"]
    subprocess.run(command, check=True, env={**os.environ, "RUSTDOC": str(wrapper)})
    path = target / "doc" / (package.replace("-", "_") + ".json")
    return json.loads(path.read_text(encoding="utf-8"))


class Listing:
    """The lines of one package."""

    def __init__(self, data):
        self.index = data["index"]
        self.summaries = data["paths"]
        root = self.item(data["root"])
        self.crate = root["name"]
        self.public = {}  # the public path of each local item, by its id
        self.lines = []  # (path, line)
        self.name_items(root, [self.crate])
        self.local_names = {path[-1] for path in self.public.values()}
        self.module(root, [self.crate])

    def item(self, id):
        return self.index.get(str(id))

    def add(self, path, line):
        self.lines.append(("::".join(path), line))

    # Names first, so that a type can be written by its public path wherever it is used.

    def name_items(self, module, path):
        for name, item in self.exports(module):
            inner_path = [*path, name]
            known = self.public.get(item["id"])
            if known is None or (len(inner_path), inner_path) < (len(known), known):
                self.public[item["id"]] = inner_path
            if "module" in item["inner"]:
                self.name_items(item, inner_path)

    def exports(self, module):
        """Yields name and item of all that a module offers and this crate defines."""
        for id in module["inner"]["module"]["items"]:
            item = self.item(id)
            if item["visibility"] not in ("public", "default"):
                continue
            if "use" not in item["inner"]:
                yield item["name"], item
                continue
            use = item["inner"]["use"]
            target = self.item(use["id"]) if use["id"] is not None else None
            if target is None:
                continue
            if use["is_glob"]:
                yield from self.exports(target)
            else:
                yield use["name"], target

    def foreign_exports(self, module):
        """Yields name and source of what a module offers and another crate defines."""
        for id in module["inner"]["module"]["items"]:
            item = self.item(id)
            if item["visibility"] == "public" and "use" in item["inner"]:
                use = item["inner"]["use"]
                if use["id"] is None or self.item(use["id"]) is None:
                    yield ("*" if use["is_glob"] else use["name"]), use["source"]

    # Items.

    def module(self, module, path):
        self.add(path, f"pub mod {'::'.join(path)}")
        for name, source in self.foreign_exports(module):
            self.add([*path, name], f"pub use {'::'.join([*path, name])} = {source}")
        for name, item in self.exports(module):
            self.any_item(item, [*path, name])

    def any_item(self, item, path):
        (kind, inner), = item["inner"].items()
        name = "::".join(path)
        before = self.attributes(item) + "pub "
        match kind:
            case "module":
                self.module(item, path)
            case "struct":
                self.struct(item, inner, path, before)
            case "enum":
                self.add(path, f"{before}enum {name}{self.generics(inner)}{self.where(inner)}")
                for id in inner["variants"]:
                    self.variant(self.item(id), path)
                self.impls(inner["impls"], path)
            case "union":
                self.add(path, f"{before}union {name}{self.generics(inner)}{self.where(inner)}")
                self.impls(inner["impls"], path)
            case "trait":
                bounds = self.bounds(inner["bounds"], ": ")
                unsafe = "unsafe " if inner["is_unsafe"] else ""
                self.add(path, f"{before}{unsafe}trait {name}{self.generics(inner)}{bounds}{self.where(inner)}")
                for id in inner["items"]:
                    member = self.item(id)
                    self.member(member, [*path, member["name"]], "")
            case "type_alias":
                self.add(path, f"{before}type {name}{self.generics(inner)} = {self.type(inner['type'])}")
            case "constant":
                self.add(path, f"{before}const {name}: {self.type(inner['type'])}")
            case "static":
                self.add(path, f"{before}static {name}: {self.type(inner['type'])}")
            case "macro":
                self.add(path, f"{before}macro {name}!: {' '.join(inner.split())}")
            case "function":
                self.add(path, before + self.function(inner, name))
            case _:
                raise NotImplementedError(f"{name} is a {kind}: teach it to .ci/api.py")

    def attributes(self, item):
        """Returns the attributes that users notice."""
        text = "".join(json.dumps(attribute) for attribute in item["attrs"])
        names = [name for name in ("non_exhaustive", "must_use") if name in text]
        if item["deprecation"]:
            names.append("deprecated")
        return "".join(f"#[{name}] " for name in names)

    def struct(self, item, inner, path, before):
        kind, fields = inner["kind"], ""
        if kind == "unit":
            fields = ";"
        elif "tuple" in kind:
            is_hidden = all(id is None for id in kind["tuple"])
            fields = " { .. }" if is_hidden else f"({', '.join(map(self.tuple_field, kind['tuple']))})"
        else:
            for id in kind["plain"]["fields"]:
                field = self.item(id)
                self.add([*path, field["name"]], f"pub {'::'.join(path)}.{field['name']}: {self.field_type(field)}")
            if kind["plain"]["has_stripped_fields"]:
                fields = " { .. }"
        name = "::".join(path)
        self.add(path, f"{before}struct {name}{self.generics(inner)}{fields}{self.where(inner)}")
        self.impls(inner["impls"], path)

    def field_type(self, field):
        return self.type(field["inner"]["struct_field"])

    def tuple_field(self, id):
        return "_" if id is None else self.field_type(self.item(id))

    def variant(self, item, path):
        kind, name = item["inner"]["variant"]["kind"], "::".join([*path, item["name"]])
        fields = ""
        if kind == "plain":
            discriminant = item["inner"]["variant"]["discriminant"]
            fields = f" = {discriminant['value']}" if discriminant else ""
        elif "tuple" in kind:
            fields = f"({', '.join(self.tuple_field(id) for id in kind['tuple'])})"
        else:
            inner = [self.item(id) for id in kind["struct"]["fields"]]
            parts = [f"{field['name']}: {self.field_type(field)}" for field in inner]
            fields = f" {{ {', '.join(parts)} }}"
        self.add([*path, item["name"]], f"{self.attributes(item)}pub {name}{fields}")

    def impls(self, ids, path):
        for id in ids:
            impl = self.item(id)["inner"]["impl"]
            trait = impl["trait"]
            if impl["blanket_impl"] is not None:
                continue
            if trait is None:
                for member in map(self.item, impl["items"]):
                    if member["visibility"] == "public":
                        self.member(member, [*path, member["name"]], "pub ", impl)
                continue
            if impl["is_synthetic"] and self.path_of(trait) not in AUTO_TRAITS:
                continue
            if self.path_of(trait) in DERIVED_MARKERS:
                continue
            negative = "!" if impl["is_negative"] else ""
            text = f"impl{self.generics(impl)} {negative}{self.path_of(trait)} for {self.type(impl['for'])}{self.where(impl)}"
            self.add([*path, " impl", text], text)

    def member(self, item, path, visibility, impl=None):
        """Adds a line for a function, a type or a constant of an impl or of a trait."""
        (kind, inner), = item["inner"].items()
        # Methods of `impl Type<u8>` are not methods of every `Type<T>`: say so.
        name = "::".join(path)
        if impl and (where := self.where(impl)):
            name = f"{name} [{where.strip()}]"
        before = self.attributes(item) + visibility
        match kind:
            case "function":
                end = " { .. }" if not visibility and inner["has_body"] else ""
                self.add(path, before + self.function(inner, name) + end)
            case "assoc_type":
                bounds = self.bounds(inner["bounds"], ": ")
                default = f" = {self.type(inner['type'])}" if inner["type"] else ""
                self.add(path, f"{before}type {name}{self.generics(inner)}{bounds}{default}{self.where(inner)}")
            case "assoc_const":
                default = " = .." if inner["value"] is not None and not visibility else ""
                self.add(path, f"{before}const {name}: {self.type(inner['type'])}{default}")
            case _:
                raise NotImplementedError(f"{name} is a {kind}: teach it to .ci/api.py")

    def function(self, inner, name):
        header, signature = inner["header"], inner["sig"]
        words = [word for word in ("const", "async", "unsafe") if header[f"is_{word}"]]
        if header["abi"] != "Rust":
            words.append(f"extern {json.dumps(header['abi'])}")
        inputs = [self.argument(*argument) for argument in signature["inputs"]]
        output = f" -> {self.type(signature['output'])}" if signature["output"] else ""
        words.append(f"fn {name}{self.generics(inner)}({', '.join(inputs)}){output}{self.where(inner)}")
        return " ".join(words)

    def argument(self, name, type):
        text = self.type(type)
        shorthand = {"Self": "self", "&Self": "&self", "&mut Self": "&mut self"}
        if name == "self" and text in shorthand:
            return shorthand[text]
        return f"{name}: {text}"

    # Types.

    def path_of(self, path):
        """Writes a path with its arguments: a local type by its public path, another one by its crate and its name."""
        name, id = path["path"].rsplit("::", 1)[-1], path["id"]
        if id in self.public:
            name = "::".join(self.public[id][1:])
        elif str(id) in self.summaries:
            crate, *modules, name = self.summaries[str(id)]["path"]
            if crate == self.crate:
                pass  # It is hidden, or private: there is no path that a user could write.
            elif crate not in STD:
                name = f"{crate}::{name}"
            elif name in self.local_names:
                # Without a path it would be ours.
                name = "::".join(["std", *modules, name])
        return name + self.arguments(path["args"])

    def arguments(self, arguments):
        if not arguments:
            return ""
        if "parenthesized" in arguments:
            inner = arguments["parenthesized"]
            output = f" -> {self.type(inner['output'])}" if inner["output"] else ""
            return f"({', '.join(map(self.type, inner['inputs']))}){output}"
        if "angle_bracketed" not in arguments:
            return "(..)"
        inner = arguments["angle_bracketed"]
        parts = [self.generic_argument(argument) for argument in inner["args"]]
        for constraint in inner["constraints"]:
            name = constraint["name"] + self.arguments(constraint["args"])
            (kind, binding), = constraint["binding"].items()
            parts.append(f"{name} = {self.term(binding)}" if kind == "equality" else name + self.bounds(binding, ": "))
        return f"<{', '.join(parts)}>" if parts else ""

    def generic_argument(self, argument):
        if argument == "infer":
            return "_"
        (kind, inner), = argument.items()
        return {"lifetime": lambda: inner, "type": lambda: self.type(inner), "const": lambda: inner["expr"]}[kind]()

    def term(self, term):
        (kind, inner), = term.items()
        return self.type(inner) if kind == "type" else inner["expr"]

    def bounds(self, bounds, before):
        parts = []
        for bound in bounds:
            (kind, inner), = bound.items()
            match kind:
                case "trait_bound":
                    modifier = "?" if inner["modifier"] == "maybe" else ""
                    parts.append(self.binder(inner["generic_params"]) + modifier + self.path_of(inner["trait"]))
                case "outlives":
                    parts.append(inner)
                case "use":
                    parts.append(f"use<{', '.join(next(iter(param.values())) for param in inner)}>")
                case _:
                    raise NotImplementedError(f"a bound is a {kind}: teach it to .ci/api.py")
        return before + " + ".join(parts) if parts else ""

    def binder(self, params):
        return f"for<{', '.join(param['name'] for param in params)}> " if params else ""

    def generics(self, inner):
        parts = []
        for param in inner["generics"]["params"]:
            (kind, details), = param["kind"].items()
            match kind:
                case "lifetime":
                    outlives = ": " + " + ".join(details["outlives"]) if details["outlives"] else ""
                    parts.append(param["name"] + outlives)
                case "type" if not details["is_synthetic"]:
                    default = f" = {self.type(details['default'])}" if details["default"] else ""
                    parts.append(param["name"] + self.bounds(details["bounds"], ": ") + default)
                case "const":
                    parts.append(f"const {param['name']}: {self.type(details['type'])}")
        return f"<{', '.join(parts)}>" if parts else ""

    def where(self, inner):
        parts = []
        for predicate in inner["generics"]["where_predicates"]:
            (kind, details), = predicate.items()
            match kind:
                case "bound_predicate":
                    subject = self.binder(details["generic_params"]) + self.type(details["type"])
                    parts.append(subject + self.bounds(details["bounds"], ": "))
                case "lifetime_predicate":
                    parts.append(f"{details['lifetime']}: {' + '.join(details['outlives'])}")
                case "eq_predicate":
                    parts.append(f"{self.type(details['lhs'])} = {self.term(details['rhs'])}")
        return f" where {', '.join(parts)}" if parts else ""

    def type(self, type):
        if type == "infer":
            return "_"
        (kind, inner), = type.items()
        match kind:
            case "resolved_path":
                return self.path_of(inner)
            case "generic" | "primitive":
                return inner
            case "tuple":
                return f"({', '.join(map(self.type, inner))}{',' if len(inner) == 1 else ''})"
            case "slice":
                return f"[{self.type(inner)}]"
            case "array":
                return f"[{self.type(inner['type'])}; {inner['len']}]"
            case "borrowed_ref":
                lifetime = f"{inner['lifetime']} " if inner["lifetime"] else ""
                return f"&{lifetime}{'mut ' if inner['is_mutable'] else ''}{self.type(inner['type'])}"
            case "raw_pointer":
                return f"*{'mut' if inner['is_mutable'] else 'const'} {self.type(inner['type'])}"
            case "impl_trait":
                return self.bounds(inner, "impl ")
            case "dyn_trait":
                traits = [self.binder(one["generic_params"]) + self.path_of(one["trait"]) for one in inner["traits"]]
                return "dyn " + " + ".join(traits + ([inner["lifetime"]] if inner["lifetime"] else []))
            case "qualified_path":
                name = inner["name"] + self.arguments(inner["args"])
                subject = self.type(inner["self_type"])
                if inner["trait"] and inner["trait"]["path"]:
                    subject = f"<{subject} as {self.path_of(inner['trait'])}>"
                return f"{subject}::{name}"
            case "function_pointer":
                inputs = ", ".join(self.type(argument) for _, argument in inner["sig"]["inputs"])
                output = f" -> {self.type(inner['sig']['output'])}" if inner["sig"]["output"] else ""
                return f"{self.binder(inner['generic_params'])}fn({inputs}){output}"
            case _:
                raise NotImplementedError(f"a type is a {kind}: teach it to .ci/api.py")


def main():
    lines = []
    for package in PACKAGES:
        # An item that is exported twice is listed under each of its paths.
        lines += [line for _, line in sorted(set(Listing(rustdoc(package)).lines))]
    text = "".join(f"{line}\n" for line in lines)
    if os.environ.get("RPC_API") == "write":
        LISTING.parent.mkdir(parents=True, exist_ok=True)
        LISTING.write_text(text, encoding="utf-8")
        print(f"{LISTING}: {len(lines)} lines are written")
        return
    listed = LISTING.read_text(encoding="utf-8") if LISTING.exists() else ""
    if listed != text:
        difference = difflib.unified_diff(listed.splitlines(), lines, str(LISTING), "the code", "", "", 0, "")
        print("\n".join(difference))
        sys.exit(f"error: the public API is not what {LISTING} lists. Run `RPC_API=write .ci/api.py`, and look at the difference.")
    print(f"{LISTING}: {len(lines)} lines, as the code has them")


if __name__ == "__main__":
    main()
