"""What changed from one set of files to another, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from bootlease.ima.entry import IMADigest
from bootlease.reference.difference import Change, Difference
from bootlease.reference.imafindings import shown_name
from bootlease.reference.imaset import (
    IMAReferenceSet,
    Listed,
    Scope,
    ScopeKind,
)

_SHOWN: Final = 16


def diff_ima(first: IMAReferenceSet, second: IMAReferenceSet) -> Iterator[Difference]:
    """Yield what differs in ``second``, in a stable order; nothing for sets of one digest."""
    for name, before, after in (
        ("name", first.name, second.name),
        ("version", first.version, second.version),
        ("origin", first.origin.value, second.origin.value),
        ("not_before", first.not_before, second.not_before),
        ("not_after", first.not_after, second.not_after),
    ):
        if before != after:
            yield Difference(Change.CHANGED, name, before=str(before), after=str(after))
    yield from _rules(first, second)
    yield from _listed("file", first.files, second.files)
    yield from _listed("buffer", first.buffers, second.buffers)


def _rules(first: IMAReferenceSet, second: IMAReferenceSet) -> Iterator[Difference]:
    before, after = dict.fromkeys(_said(first)), dict.fromkeys(_said(second))
    for change, some, others in (
        (Change.REMOVED, before, after),
        (Change.ADDED, after, before),
    ):
        for what in some:
            if what not in others:
                yield Difference(change, what)


def _said(reference: IMAReferenceSet) -> Iterator[str]:
    for name, key in reference.signers.items():
        yield f"signer {name}, key {key.hex()[-_SHOWN:]}"
    for rule in reference.signed:
        yield f"{', '.join(rule.signers)} may sign {scope_text(rule.scope)}"
    for path in reference.content_below:
        yield f"copies of listed files may lie below {shown_name(path)}"
    for scope in reference.unsafe_exclude:
        yield f"unsafe_exclude {scope_text(scope)}"


def scope_text(scope: Scope) -> str:
    """Return the phrase that names what a rule covers."""
    word = {ScopeKind.BELOW: "below ", ScopeKind.BUFFER: "buffer ", ScopeKind.PATH: ""}
    return f"{word[scope.kind]}{shown_name(scope.path)}"


def _listed(what: str, first: Listed, second: Listed) -> Iterator[Difference]:
    for path in sorted({*first, *second}):
        before, after = first.get(path), second.get(path)
        name = f"{what} {shown_name(path)}"
        if before is None:
            yield Difference(Change.ADDED, f"{name}, {_short(after or ())}")
        elif after is None:
            yield Difference(Change.REMOVED, f"{name}, {_short(before)}")
        elif before != after:
            yield Difference(Change.CHANGED, name, before=_short(before), after=_short(after))


def _short(digests: Sequence[IMADigest]) -> str:
    texts = (str(digest) for digest in digests)
    return " or ".join(f"{text[: text.rindex(':') + 1 + _SHOWN]}…" for text in texts)
