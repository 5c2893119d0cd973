"""The files of a Debian package.

Specification: deb(5): an ``ar`` archive of ``debian-binary``, ``control.tar`` and ``data.tar``,
each tar plain or compressed by gzip, xz, bzip2 or zstd. Nothing is unpacked to disk: files are read
from the stream as they come.

Zstandard, which Ubuntu's packages use, is not in the standard library of this Python: ``zstd`` is
run. Not handled: signatures within packages, diversions, and
what a package's scripts make. That the package is the archive's is for apt to say.
"""

from __future__ import annotations

import io
import lzma
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from bootlease.cli.file_hashes import CHUNK, FileHasher
from bootlease.errors import MalformedError
from bootlease.ima import measured_name

_MAGIC: Final = b"!<arch>\n"
_HEADER: Final = 60
_END: Final = b"`\n"
_MAX_CONTROL: Final = 16 * 1024 * 1024
_MAX_DATA: Final = 64 * 1024 * 1024 * 1024
_FIELD: Final = re.compile(r"^(Package|Version|Architecture): *([!-~]+) *$", re.MULTILINE)
_MODES: Final = {"": "", ".gz": "gz", ".xz": "xz", ".bz2": "bz2", ".zst": ""}
_MERGED: Final = (b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libx32", b"libo32")
_BROKEN: Final = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError)


class _Part(io.RawIOBase):
    """A member of the archive as a stream that ends where it ends."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__()
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any buffer
        chunk = self._file.read(min(len(buffer), self._left))
        if not chunk and self._left and len(buffer):
            raise EOFError("the package ends early")
        buffer[: len(chunk)] = chunk
        self._left -= len(chunk)
        return len(chunk)


def read_package(path: Path, hasher: FileHasher, *, merged_usr: bool) -> dict[str, str]:
    """Hash the regular files of a package.

    Args:
        path: The package.
        hasher: Takes its files.
        merged_usr: The node has ``/bin``, ``/lib`` and the like as links into ``/usr``: what a
            package puts there is measured below ``/usr``.

    Returns:
        Its fields ``Package``, ``Version`` and ``Architecture``.

    Raises:
        MalformedError: It is no Debian package, or its compression cannot be undone here.
        OSError: It cannot be read.
    """
    fields: dict[str, str] = {}
    data_seen = False
    with path.open("rb") as file:
        try:
            for name, size in _members(file):
                stem, dot, suffix = name.partition(".tar")
                part = _Part(file, size)
                if stem == "control" and dot:
                    fields = _control(part, suffix, path)
                elif stem == "data" and dot:
                    with _tar(part, suffix, path) as tar:
                        _data(tar, hasher, merged_usr=merged_usr)
                    data_seen = True
        except _BROKEN as exc:
            raise MalformedError(f"{path} is no sound Debian package: {exc}") from exc
    if not data_seen or not {"Package", "Version"} <= fields.keys():
        raise MalformedError(f"{path} is no Debian package: it lacks control.tar or data.tar")
    return fields


def _members(file: IO[bytes]) -> Iterator[tuple[str, int]]:
    """Yield name and size of each member, the file standing at its beginning."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("not an ar archive")
    while header := file.read(_HEADER):
        if len(header) != _HEADER or header[58:] != _END or not header[48:58].strip().isdigit():
            raise ValueError("a member's header is broken")
        size, start = int(header[48:58]), file.tell()
        yield header[:16].decode("ascii", "replace").strip().rstrip("/"), size
        file.seek(start + size + size % 2)


@contextmanager
def _tar(part: _Part, suffix: str, path: Path) -> Iterator[tarfile.TarFile]:
    if suffix not in _MODES:
        raise MalformedError(f"{path}: its {suffix!r:.20} compression is not known")
    stream = io.BufferedReader(part)
    if suffix == ".zst":
        with _zstd(stream, path) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
            yield tar
        return
    with tarfile.open(fileobj=stream, mode=f"r|{_MODES[suffix]}") as tar:  # type: ignore[call-overload]  # one of four known modes
        yield tar


@contextmanager
def _zstd(stream: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """Run what undoes Zstandard, and give its answer as it comes."""
    program = shutil.which("zstd")
    if program is None:
        raise MalformedError(
            f"{path} is compressed by Zstandard, which this Python cannot undo: install zstd"
        )
    # A file between the two: whoever feeds one pipe and reads another may wait for itself.
    with tempfile.TemporaryFile() as packed:
        shutil.copyfileobj(stream, packed)
        packed.seek(0)
        with subprocess.Popen(  # noqa: S603 - found on the path, run without a shell
            [program, "-dcq"],
            stdin=packed,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            plain: IO[bytes] = process.stdout  # type: ignore[assignment]  # a pipe was asked for
            yield plain
            while plain.read(CHUNK):
                pass
            if process.wait() != 0:
                raise ValueError("its Zstandard stream is broken")


def _control(part: _Part, suffix: str, path: Path) -> dict[str, str]:
    with _tar(part, suffix, path) as tar:
        for member in tar:
            if member.name.removeprefix("./") == "control" and member.isfile():
                if member.size > _MAX_CONTROL:
                    raise ValueError("its control file is too long")
                extracted = tar.extractfile(member)
                text = b"" if extracted is None else extracted.read()
                return dict(_FIELD.findall(text.decode("utf-8", "replace")))
    return {}


def _data(tar: tarfile.TarFile, hasher: FileHasher, *, merged_usr: bool) -> None:
    total = 0
    hashed: dict[str, bytes] = {}
    for member in tar:
        total += member.size
        if total > _MAX_DATA:
            raise ValueError(f"its files have more than {_MAX_DATA} bytes")
        path = _path(member.name, merged_usr=merged_usr)
        if member.isfile():
            extracted = tar.extractfile(member)
            if extracted is not None:
                hasher.add(path, extracted, member.mode)
                hashed[member.name] = path
        elif member.islnk() and member.linkname in hashed:
            # Another name of a file that came before: it has the same content.
            first = hasher.digests.get(measured_name(hashed[member.linkname]))
            if first is not None:
                hasher.put(path, first)


def _path(name: str, *, merged_usr: bool) -> bytes:
    path = name.encode("utf-8", "surrogateescape").removeprefix(b"./").lstrip(b"/")
    if b".." in path.split(b"/"):
        raise ValueError("a file of it lies outside the root")
    if merged_usr and path.split(b"/", 1)[0] in _MERGED:
        return b"/usr/" + path
    return b"/" + path
