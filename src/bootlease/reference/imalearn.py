"""Learning a set of files from what a running node measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bootlease.errors import VerificationError
from bootlease.ima.entry import IMADigest, IMAEntry, Kind
from bootlease.model import Finding
from bootlease.reference.imaset import DIGEST_SIZES, digest_label


@dataclass(frozen=True, slots=True)
class LearnedFiles:
    """What a list says was loaded.

    Attributes:
        files: Digests by path.
        buffers: Digests by name.
        violations: Entries that stand for nothing: the file was written while it was in use.
    """

    files: dict[bytes, tuple[IMADigest, ...]]
    buffers: dict[bytes, tuple[IMADigest, ...]]
    violations: int


def learn_files(entries: Iterable[IMAEntry]) -> LearnedFiles:
    """Collect the files and buffers of a list.

    The node is good because somebody says so; nothing here can tell.

    Args:
        entries: The list, from its beginning.

    Raises:
        MalformedError: An entry cannot be read.
        VerificationError: The node measures files by a hash that does not tell them apart.
    """
    learned = LearnedFiles({}, {}, 0)
    violations = 0
    for entry in entries:
        if entry.violation:
            violations += 1
            continue
        measured = entry.measurement()
        digest, name = measured.digest, measured.name
        if digest is None or name is None or measured.kind is Kind.BOOT_AGGREGATE:
            continue
        if digest.alg not in DIGEST_SIZES[digest.type]:
            raise VerificationError(_weak(digest, entry))
        listed = learned.buffers if measured.kind is Kind.BUFFER else learned.files
        known = listed.get(name, ())
        if digest not in known:
            listed[name] = (*known, digest)
    return LearnedFiles(learned.files, learned.buffers, violations)


def _weak(digest: IMADigest, entry: IMAEntry) -> Finding:
    return Finding(
        "ima.digest.weak",
        f"The node measures files by {digest_label(digest)}, which does not tell them apart: boot"
        " it with ima_hash=sha256.",
        pcr=entry.pcr,
        event=entry.number,
        seen=digest_label(digest),
    )
