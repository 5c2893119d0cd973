"""Which program decides: a digest over the sources that a decision depends on."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Final

from bootlease import __version__, cbor
from bootlease.appraisal import CodeIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

_LEFT_OUT: Final = frozenset(
    {"store", "verifier", "node", "relyingparty", "cli", "testing", "witness", "monitor", "ports"}
)
"""The shells and their ports: they carry bytes, and decide nothing about them."""


@functools.cache
def code_identity() -> CodeIdentity:
    """Return version and digest of the running program.

    The digest is SHA-256 of the deterministic CBOR ``[[path, SHA-256 of the file]...]``, sorted by
    path, over every Python source of the formats and the decisions (docs/proof.md).
    """
    sources = sorted(_sources(resources.files("bootlease"), ""))
    digest = hashlib.sha256(cbor.encode([list(source) for source in sources])).digest()
    return CodeIdentity(__version__, digest)


def _sources(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for each in folder.iterdir():
        if each.is_dir():
            if prefix or each.name not in _LEFT_OUT:
                yield from _sources(each, f"{prefix}{each.name}/")
        elif each.name.endswith(".py"):
            yield prefix + each.name, hashlib.sha256(each.read_bytes()).digest()
