"""The arrows of the package, read from its imports.

    errors, model  <-  formats  <-  decisions  <-  ports  <-  shells

Every import counts: inside a function and under ``TYPE_CHECKING`` too, since a type that a lower
layer names is knowledge of a higher one. Below the shells nothing may reach the outside world:
no I/O, no clock, no randomness, no environment. That makes an appraisal a pure function, which
can be replayed.

Not seen: what a third-party library does inside (OpenSSL draws randomness when it signs).
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGE: Final = "bootlease"
SOURCE: Final = Path(__file__).resolve().parents[2] / "src" / PACKAGE

LAYERS: Final = ("foundation", "formats", "decisions", "ports", "shells")
LAYER_OF: Final = {
    **dict.fromkeys(("errors", "findings", "frozen", "model", "problems"), "foundation"),
    **dict.fromkeys(
        (
            *("cbor", "ecdsa", "tpm", "eventlog", "bootstate", "ima"),
            *("endorsement", "evidence", "token", "ledger", "localapi"),
        ),
        "formats",
    ),
    **dict.fromkeys(
        ("reference", "policy", "appraisal", "lineage", "audit", "explain"), "decisions"
    ),
    "ports": "ports",
    **dict.fromkeys(
        (
            *("store", "verifier", "node", "leash", "workload"),
            *("relyingparty", "witness", "monitor"),
            *("testing", "cli", "__main__"),
        ),
        "shells",
    ),
}

_SHELLS: Final = {
    *("store", "verifier", "node", "leash", "workload"),
    *("relyingparty", "witness", "monitor"),
}
MAY_IMPORT_SHELLS: Final = {
    "cli": {*_SHELLS, "testing"},
    "testing": _SHELLS,
    "__main__": {"cli"},
    "leash": {"workload"},
}
"""The composition roots alone wire shells together. A leash is a workload of its node's agent, and
speaks to it through the client that every workload has (ADR 0014)."""

MAY_IMPORT_ONLY: Final = {
    "relyingparty": {"errors", "findings", "model", "cbor", "token", "ledger"},
    "leash": {"errors", "model", "localapi", "workload", "ports"},
    "workload": {"errors", "model", "localapi", "token", "ports"},
    "witness": {"errors", "model", "cbor", "token", "ledger"},
    "monitor": {"errors", "model", "cbor", "token", "ledger"},
}
"""What runs beside a workload, or watches a verifier from outside, carries no verifier with it."""

ONLY_IN: Final = {
    "tpm2_pytss": {"node", "testing"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "cbor2": {"cbor"},
    "h11": {"node", "verifier"},
    "cedarpy": {"policy"},
}
"""Third-party libraries that stay behind one door."""

OUTSIDE_WORLD: Final = {
    *("fastapi", "starlette", "uvicorn", "httpx2", "click"),
    *("os", "socket", "ssl", "subprocess", "asyncio", "threading", "shutil", "tempfile"),
    *("time", "random", "secrets", "importlib", "http", "urllib.request", "sqlite3", "logging"),
}
"""Modules that nothing below the shells may import."""

OUTSIDE_CALLS: Final = {
    *("now", "utcnow", "today"),
    *("open", "read_text", "read_bytes", "write_text", "write_bytes"),
    *("uuid1", "uuid4", "generate_private_key", "__import__"),
}
"""Calls, by their last name, that nothing below the shells may make."""


KNOWS_THE_WEB_FRAMEWORK: Final = ("routes.", "app", "bodies")
"""Modules of ``verifier`` that may; all others decide, and could be reached in another way."""


def read_package() -> dict[str, str]:
    """Return the source text of every module of the package, by dotted name."""
    sources = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        sources[".".join((PACKAGE, *parts))] = path.read_text()
    return sources


def imports_of(module: str, tree: ast.AST, known: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Yield line and dotted target of every import in ``tree``, wherever it stands.

    ``from a import b`` is an import of ``a.b``; where ``a`` is ours and ``b`` no module, of ``a``.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                # A package's own __init__ counts as one level less than its modules.
                is_package = any(name.startswith(f"{module}.") for name in known)
                kept = parts[: len(parts) - node.level + is_package]
                base = ".".join([*kept, base] if base else kept)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                ours = inner.partition(".")[0] == PACKAGE
                yield node.lineno, base if ours and inner not in known else inner


def wrong_arrow(importer: str, target: str) -> str | None:
    """Say why top-level package ``importer`` may not import ``target``, or return None."""
    if target in (importer, ""):
        return None
    if importer == "":
        return "the package itself imports none of its modules"
    from_layer, to_layer = LAYER_OF[importer], LAYER_OF[target]
    if LAYERS.index(to_layer) > LAYERS.index(from_layer):
        return f"{from_layer} import no {to_layer}"
    if from_layer == to_layer == "shells" and target not in MAY_IMPORT_SHELLS.get(importer, ()):
        return "shells import no other shell; cli and testing wire them together"
    if importer in MAY_IMPORT_ONLY and target not in MAY_IMPORT_ONLY[importer]:
        return f"{importer} imports only {', '.join(sorted(MAY_IMPORT_ONLY[importer]))}"
    return None


def outside_calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of every call that reaches the outside world."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = (
            function.id
            if isinstance(function, ast.Name)
            else function.attr
            if isinstance(function, ast.Attribute)
            else ""
        )
        if name in OUTSIDE_CALLS:
            yield node.lineno, name


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return every group of modules that import each other, directly or around corners."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        frontier = [start]
        while frontier:
            fresh = graph.get(frontier.pop(), set()) - seen
            seen |= fresh
            frontier.extend(fresh)
        reach[start] = seen
    groups = {
        frozenset(other for other in reach[name] if name in reach.get(other, ()))
        for name in graph
        if name in reach[name]
    }
    return sorted(sorted(group) for group in groups)


def complaints(sources: Mapping[str, str]) -> list[str]:
    """Return one line for each broken rule in the modules ``sources``."""
    known = frozenset(sources)
    found: list[str] = []
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for module, text in sources.items():
        package = module.partition(".")[2].partition(".")[0]
        if package and package not in LAYER_OF:
            found.append(f"{module}: belongs to no layer")
            continue
        tree = ast.parse(text)
        pure = package in LAYER_OF and LAYER_OF[package] != "shells"
        for line, target in imports_of(module, tree, known):
            top, _, rest = target.partition(".")
            if top == PACKAGE:
                inner = rest.partition(".")[0]
                graph[module].add(target)
                if inner and inner not in LAYER_OF:
                    continue  # the unplaced module itself is complained about
                why = wrong_arrow(package, inner)
            elif top in ONLY_IN and package not in ONLY_IN[top]:
                why = f"{top} stays in {', '.join(sorted(ONLY_IN[top]))}"
            elif pure and any(f"{target}.".startswith(f"{name}.") for name in OUTSIDE_WORLD):
                why = "nothing below the shells touches the outside world"
            else:
                why = None
            if why:
                found.append(f"{module}:{line}: imports {target}: {why}")
        if pure:
            found.extend(
                f"{module}:{line}: calls {name}(): nothing below the shells touches the outside"
                " world"
                for line, name in outside_calls(tree)
            )
    found.extend(f"circle: {' <-> '.join(group)}" for group in circles(graph))
    return found


def test_package_keeps_its_arrows() -> None:
    """Every module of the package imports only what its layer allows."""
    assert complaints(read_package()) == []


CLEAN: Final = {
    "bootlease": '__version__ = "1"',
    "bootlease.errors": "",
    "bootlease.model": "import hashlib",
    "bootlease.cbor": "from bootlease.errors import MalformedError",
    "bootlease.token": "from urllib.parse import urlsplit",
    "bootlease.token.claims": "from bootlease.cbor import encode\nfrom datetime import datetime",
    "bootlease.appraisal": "from bootlease.token.claims import Claims",
    "bootlease.audit": "from bootlease.appraisal import appraise",
    "bootlease.ports": "from bootlease import appraisal",
    "bootlease.store": "import sqlalchemy\nfrom bootlease.ports import Store",
    "bootlease.node": "import os, time\nfrom tpm2_pytss import ESAPI\nfrom bootlease import token",
    "bootlease.verifier": "from bootlease import __version__\nimport fastapi",
    "bootlease.relyingparty": "from bootlease.token.claims import Claims",
    "bootlease.localapi": "from bootlease import token",
    "bootlease.workload": "import socket\nfrom bootlease import localapi",
    "bootlease.leash": "from bootlease import workload",
    "bootlease.testing": "import bootlease.node\nimport bootlease.verifier",
    "bootlease.cli": "from bootlease import testing, store",
    "bootlease.__main__": "from bootlease.cli import main",
}


def test_clean_package_has_no_complaints() -> None:
    """A package that keeps every rule is not complained about."""
    assert complaints(CLEAN) == []


@pytest.mark.parametrize(
    ("module", "text", "expected"),
    [
        ("model", "import bootlease.cbor", "foundation import no formats"),
        ("cbor", "from bootlease.appraisal import appraise", "formats import no decisions"),
        ("cbor", "from bootlease import appraisal", "formats import no decisions"),
        ("cbor", "from .appraisal import appraise", "formats import no decisions"),
        ("token.claims", "from ..appraisal import appraise", "formats import no decisions"),
        ("token.claims", "from .. import appraisal", "formats import no decisions"),
        ("token", "from . import claims\nfrom ..ports import Store", "formats import no ports"),
        ("appraisal", "def f():\n    import bootlease.store", "decisions import no shells"),
        (
            "appraisal",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bootlease import ports",
            "decisions import no ports",
        ),
        ("audit", "import bootlease.ports", "decisions import no ports"),
        ("audit", "from os import environ", "outside world"),
        ("ports", "import bootlease.store", "ports import no shells"),
        ("verifier", "import bootlease.store", "shells import no other shell"),
        ("store", "import bootlease.testing", "shells import no other shell"),
        ("node", "import bootlease.cli", "shells import no other shell"),
        ("testing", "import bootlease.cli", "shells import no other shell"),
        ("relyingparty", "import bootlease.verifier", "shells import no other shell"),
        ("relyingparty", "import bootlease.appraisal", "relyingparty imports only cbor, errors"),
        ("leash", "import bootlease.verifier", "shells import no other shell"),
        ("leash", "import bootlease.node", "shells import no other shell"),
        ("leash", "import bootlease.evidence", "leash imports only errors, localapi"),
        ("workload", "import bootlease.node", "shells import no other shell"),
        ("workload", "import bootlease.leash", "shells import no other shell"),
        ("workload", "import bootlease.evidence", "workload imports only errors, localapi"),
        ("localapi", "import bootlease.workload", "formats import no shells"),
        ("localapi", "import socket", "outside world"),
        ("witness", "import bootlease.verifier", "shells import no other shell"),
        ("monitor", "import bootlease.witness", "shells import no other shell"),
        ("monitor", "import bootlease.ports", "monitor imports only cbor, errors"),
        ("", "import bootlease.model", "the package itself imports none of its modules"),
        ("surprise", "", "belongs to no layer"),
        ("verifier", "import tpm2_pytss", "tpm2_pytss stays in node, testing"),
        ("verifier", "from sqlalchemy.orm import Session", "sqlalchemy stays in store"),
        ("cbor", "import tpm2_pytss.types", "tpm2_pytss stays in node, testing"),
        ("policy", "import sqlalchemy", "sqlalchemy stays in store"),
        ("token", "import cbor2", "cbor2 stays in cbor"),
        ("appraisal", "import cedarpy", "cedarpy stays in policy"),
        ("reference", "import logging", "outside world"),
        ("ports", "from fastapi import FastAPI", "outside world"),
        ("token", "import os.path", "outside world"),
        ("token", "from os import environ", "outside world"),
        ("token", "import socket", "outside world"),
        ("token", "from urllib import request", "outside world"),
        ("appraisal", "import time", "outside world"),
        ("appraisal", "from secrets import token_bytes", "outside world"),
        ("appraisal", "def f():\n    return open('x')", "calls open()"),
        ("appraisal", "f = lambda path: path.read_bytes()", "calls read_bytes()"),
        ("appraisal", "import datetime\ndatetime.datetime.now(datetime.UTC)", "calls now()"),
        ("token", "ec.generate_private_key(curve)", "calls generate_private_key()"),
    ],
)
def test_each_broken_rule_is_named(module: str, text: str, expected: str) -> None:
    """One wrong module in a clean package gives exactly the complaint that belongs to it."""
    name = f"{PACKAGE}.{module}".rstrip(".")
    found = complaints({**CLEAN, name: text})
    about = [line for line in found if not line.startswith("circle:")]
    assert len(about) == 1
    assert about[0].startswith(f"{name}:")
    assert expected in about[0]


def test_circle_is_found_around_corners() -> None:
    """Three modules of one package that import each other in a ring are reported once."""
    ring = {
        "bootlease.tpm": "",
        "bootlease.tpm.a": "from bootlease.tpm.b import x",
        "bootlease.tpm.b": "def f():\n    from bootlease.tpm import c",
        "bootlease.tpm.c": "from . import a",
    }
    assert complaints({**CLEAN, **ring}) == [
        "circle: bootlease.tpm.a <-> bootlease.tpm.b <-> bootlease.tpm.c"
    ]


def test_only_the_http_interface_knows_the_web_framework() -> None:
    """What decides in the verifier imports neither FastAPI nor Starlette, nor any route."""
    sources = read_package()
    found = set()
    for module, text in sources.items():
        inner = module.removeprefix(f"{PACKAGE}.verifier.")
        if inner == module or inner.startswith(KNOWS_THE_WEB_FRAMEWORK):
            continue
        for _, target in imports_of(module, ast.parse(text), frozenset(sources)):
            if target.startswith(("fastapi", "starlette", f"{PACKAGE}.verifier.routes.")):
                found.add((module, target))
    # ``usual`` reads requests without a framework, and media types stand in one table.
    assert found == {(f"{PACKAGE}.verifier.usual", f"{PACKAGE}.verifier.routes.contract")}


def test_only_the_tpm_package_of_the_node_needs_tpm2_tss() -> None:
    """An agent can be read, configured and tested where the TPM libraries are missing."""
    sources = read_package()
    home = f"{PACKAGE}.node.tpm."
    found = {
        module
        for module, text in sources.items()
        if module.startswith(f"{PACKAGE}.node.") and not module.startswith(home)
        for _, target in imports_of(module, ast.parse(text), frozenset(sources))
        if target.partition(".")[0] == "tpm2_pytss"
    }
    assert found == set()


def test_reader_sees_the_package() -> None:
    """The walk starts where the code is: it sees packages and modules by their dotted names."""
    names = read_package().keys()
    assert {"bootlease", "bootlease.errors", "bootlease.model"} <= names
