"""Digests of the files of a directory tree, as the kernel would measure them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Sequence
from typing import IO, Final

from bootlease.ima import DigestType, IMADigest, measured_name

CHUNK: Final = 1 << 20
_MAGIC_SIZE: Final = 4
_PROGRAM_MAGICS: Final = (b"\x7fELF", b"#!")
_ANY_EXECUTE: Final = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_LOADABLE: Final = (b".ko", b".ko.xz", b".ko.zst", b".ko.gz")

HASHES: Final = {
    "sha256": "sha256",
    "sha384": "sha384",
    "sha512": "sha512",
    "sha3_256": "sha3_256",
    "sha3_384": "sha3_384",
    "sha3_512": "sha3_512",
}
"""What files can be hashed by, by this package's names, and what Python calls it."""

Digests = dict[bytes, tuple[IMADigest, ...]]
Report = Callable[[int, int], None]
"""Told how many files and bytes have been hashed."""


class FileHasher:
    """Hashes files one after the other and keeps the digests by measured path.

    Args:
        algorithms: Names of ``HASHES``.
        programs_only: Leave out what is no program, library, script or kernel module.
        report: Told of progress.

    Attributes:
        digests: What was hashed.
        aliases: Paths that the kernel measures under the name of another one.
    """

    def __init__(self, algorithms: Sequence[str], *, programs_only: bool, report: Report) -> None:
        self.digests: Digests = {}
        self.aliases: list[bytes] = []
        self._algorithms = algorithms
        self._programs_only = programs_only
        self._report = report
        self._files = 0
        self._bytes = 0

    def add(self, path: bytes, file: IO[bytes], mode: int) -> None:
        """Hash an open file as the one of an absolute path."""
        chunk = file.read(CHUNK)
        if self._programs_only and not _is_program(path, chunk, mode):
            return
        hashes = [hashlib.new(HASHES[name]) for name in self._algorithms]
        while chunk:
            for each in hashes:
                each.update(chunk)
            self._bytes += len(chunk)
            self._report(self._files, self._bytes)
            chunk = file.read(CHUNK)
        self._files += 1
        self.put(
            path,
            tuple(
                IMADigest(DigestType.IMA, name, each.digest())
                for name, each in zip(self._algorithms, hashes, strict=True)
            ),
        )

    def put(self, path: bytes, digests: Collection[IMADigest]) -> None:
        """Keep digests under the name by which the kernel measures a path."""
        name = measured_name(path)
        known = self.digests.get(name, ())
        if known and name != path:
            self.aliases.append(path)
        self.digests[name] = tuple(dict.fromkeys((*known, *digests)))


def _is_program(path: bytes, start: bytes, mode: int) -> bool:
    return (
        bool(mode & _ANY_EXECUTE)
        or start[:_MAGIC_SIZE].startswith(_PROGRAM_MAGICS)
        or path.endswith(_LOADABLE)
    )


def hash_tree(root: bytes, prefix: bytes, hasher: FileHasher) -> None:
    """Hash the regular files below a directory; no symbolic link is followed.

    Args:
        root: The directory.
        prefix: Path of ``root`` on the node, without a slash at its end.
        hasher: Takes them.

    Raises:
        OSError: A directory or file cannot be read: a set with holes would refuse good nodes.
    """
    below = [(root, prefix)]
    while below:
        directory, path = below.pop()
        with os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda each: each.name, reverse=True):
                here = b"%b/%b" % (path, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    below.append((entry.path, here))
                elif entry.is_file(follow_symlinks=False):
                    _hash_file(entry.path, here, hasher)


def _hash_file(name: bytes, path: bytes, hasher: FileHasher) -> None:
    # Between the look and the opening a file may have become a link, or a pipe that never ends.
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode):
            hasher.add(path, file, status.st_mode)
