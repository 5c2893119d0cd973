"""What is wrong with an entry of an IMA list, in words, and not more of it than a person reads.

Names come from a node and are shown escaped, so that none can pretend to be another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bootlease.errors import MalformedError
from bootlease.ima.entry import IMADigest, IMAEntry, Kind, Measurement, display_name
from bootlease.model import Effect, Finding
from bootlease.reference.imaset import digest_label

MAX_NAMED: Final = 32
"""Distinct things of one kind that findings name; the rest is counted."""

MAX_SHOWN: Final = 256
"""Bytes of a path that one message shows: escaping makes four of one."""

VIOLATION: Final = "ima.violation"
UNREADABLE: Final = "ima.entry.unreadable"
EXCLUDED: Final = "ima.file.excluded"
_EXPECTED_SHOWN: Final = 4
_MORE: Final = {
    VIOLATION: "files written while they were in use",
    UNREADABLE: "entries that cannot be read",
    "ima.file.unlisted": "files that no accepted IMA reference lists",
    "ima.file.digest-mismatch": "files that are not what is listed",
    "ima.file.algorithm-mismatch": "files measured by another kind of digest than listed",
    "ima.buffer.unlisted": "buffers that no accepted IMA reference lists",
    "ima.buffer.digest-mismatch": "buffers that are not what is listed",
    "ima.signature.missing": "files that are not signed",
    "ima.signature.invalid": "files whose signature is by no given key",
    "ima.signature.unknown-key": "files signed by keys that no set names",
    "ima.signature.no-signer": "files that no set lets anybody sign",
}


class Seen(NamedTuple):
    """An entry that was read.

    Attributes:
        entry: The entry.
        measured: What it says.
        kind: What it is about.
        digest: What was measured.
        name: Of what.
    """

    entry: IMAEntry
    measured: Measurement
    kind: Kind
    digest: IMADigest
    name: bytes

    @property
    def key(self) -> tuple[bytes, IMADigest]:
        """What a finding about it is about."""
        return self.name, self.digest


@dataclass(slots=True)
class _Same:
    """Findings of one id: the first few, by what they are about, and how many more there were."""

    named: dict[object, Finding] = field(default_factory=dict)
    more: int = 0


class FindingsByKind:
    """Collects findings in bounded memory."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: dict[str, _Same] = {}

    def note(self, name: str, key: object, make: Callable[[], Finding]) -> None:
        """Take the finding that ``make`` makes, once for each ``key`` of id ``name``, or count it.

        Most of a long list may be wrong: what is only counted is not put into words first.
        """
        same = self._kinds.setdefault(name, _Same())
        if key in same.named:
            return
        if len(same.named) < MAX_NAMED:
            same.named[key] = make()
        else:
            same.more += 1

    def all(self) -> tuple[Finding, ...]:
        """Return what was taken, and for each id what was only counted."""
        findings: list[Finding] = []
        for name, same in self._kinds.items():
            findings += same.named.values()
            if same.more:
                last = findings[-1]
                findings.append(
                    Finding(
                        f"{name}-more",
                        f"{same.more} further entries: {_MORE.get(name, 'the same holds')}.",
                        effect=last.effect,
                        pcr=last.pcr,
                    )
                )
        return tuple(findings)


def shown_name(name: bytes) -> str:
    """Return a name for people, cut where it is too long."""
    text = display_name(name[:MAX_SHOWN])
    return text if len(name) <= MAX_SHOWN else f"{text}…"


def violation_finding(entry: IMAEntry, effect: Effect) -> Finding:
    """Say that nobody knows what was loaded.

    Of a violation nothing but the fact is attested (attack E2): what it is called is hearsay.
    """
    try:
        name = entry.measurement().name
    except MalformedError:
        name = None
    called = (
        "" if name is None else f"; the list calls it {shown_name(name)}, which is not attested"
    )
    return Finding(
        VIOLATION,
        f"IMA entry {entry.number}: a file was written while it was in use, so nobody knows what"
        f" was loaded{called}.",
        effect=effect,
        pcr=entry.pcr,
        event=entry.number,
    )


def unreadable_finding(entry: IMAEntry, why: str) -> Finding:
    """Say that an entry cannot be read."""
    return Finding(
        UNREADABLE,
        f"IMA entry {entry.number} cannot be read: {why}.",
        pcr=entry.pcr,
        event=entry.number,
        seen=f"template {shown_name(entry.template)}",
    )


def excluded_finding(seen: Seen) -> Finding:
    """Say that something was not judged."""
    return Finding(
        EXCLUDED,
        f"{shown_name(seen.name)}, and whatever else an accepted IMA reference excludes"
        " (unsafe_exclude), was loaded and not judged.",
        effect=Effect.NOTES,
        pcr=seen.entry.pcr,
        event=seen.entry.number,
    )


def unlisted_id(seen: Seen, known: Sequence[IMADigest]) -> str:
    """Return the id of ``unlisted_finding``.

    Args:
        seen: The entry.
        known: What accepted sets list under its name.
    """
    if not known:
        suffix = "unlisted"
    elif any(each[:2] == seen.digest[:2] for each in known):
        suffix = "digest-mismatch"
    else:
        suffix = "algorithm-mismatch"
    return f"ima.{'buffer' if seen.kind is Kind.BUFFER else 'file'}.{suffix}"


def unlisted_finding(seen: Seen, known: Sequence[IMADigest], effect: Effect) -> Finding:
    """Say in what way an entry is not one that is listed.

    Args:
        seen: The entry.
        known: What accepted sets list under its name.
        effect: What that does.
    """
    name, shown = unlisted_id(seen, known), shown_name(seen.name)
    if name.endswith(".unlisted"):
        buffer = seen.kind is Kind.BUFFER
        what = f"Buffer {shown} was measured" if buffer else f"{shown} was loaded"
        message = f"{what}, and no accepted IMA reference lists it."
    elif name.endswith(".digest-mismatch"):
        message = f"{shown} is not what the accepted IMA references list under this name."
    else:
        labels = ", ".join(dict.fromkeys(map(digest_label, known)))
        message = (
            f"{shown} was measured by {digest_label(seen.digest)} and is listed by {labels}:"
            " digests of different kinds cannot be compared."
        )
    return Finding(
        name,
        message,
        effect=effect,
        pcr=seen.entry.pcr,
        event=seen.entry.number,
        expected=", ".join(map(str, known[:_EXPECTED_SHOWN])) or None,
        seen=str(seen.digest),
    )
