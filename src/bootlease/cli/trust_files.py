"""CA certificates and revocation lists as operators have them: files, folders, cabinets.

A cabinet is unpacked here where it is stored or MSZIP; one packed otherwise, LZX above all, by the
system's ``cabextract``, in a folder of its own and with bounds on what it may write.
"""

from __future__ import annotations

import base64
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bootlease.cli.files import naming, read_file
from bootlease.endorsement import parse_certificate, parse_certificates
from bootlease.endorsement.cabinet import (
    MAGIC,
    MAX_UNPACKED,
    Cabinet,
    UnpackableError,
    parse_cabinet,
)
from bootlease.endorsement.revocation import MAX_CRL
from bootlease.endorsement.roots import is_revocation_list
from bootlease.errors import MalformedError

MAX_ENTRIES: Final = 16_384
_ENDINGS: Final = frozenset({".cer", ".crl", ".crt", ".der", ".pem"})
_EXTRACTOR: Final = "cabextract"
_EXTRACT_SECONDS: Final = 60
_MAX_SKIPPED_TOLD: Final = 20


@dataclass(slots=True)
class TrustFiles:
    """What was read.

    Attributes:
        certificates: CA certificates, DER.
        lists: Revocation lists, DER.
        skipped: Names of files that were left out, each with the reason.
    """

    certificates: list[bytes] = field(default_factory=list)
    lists: list[bytes] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def take(self, data: bytes) -> None:
        """Take what one file holds.

        Raises:
            MalformedError: It holds something else, or a certificate that is no CA's.
        """
        members = parse_certificates(data)
        lists = [each for each in members if is_revocation_list(each)]
        certificates = [each for each in members if not is_revocation_list(each)]
        for each in certificates:
            parsed = parse_certificate(each)
            if not parsed.is_ca:
                raise MalformedError(f"no CA certificate: {parsed.subject_text}")
        self.certificates += [each for each in certificates if each not in self.certificates]
        self.lists += [each for each in lists if each not in self.lists]

    def notes(self) -> Iterator[str]:
        """Tell what was left out, as lines for the operator."""
        for line in self.skipped[:_MAX_SKIPPED_TOLD]:
            yield f"note: left out {line}"
        more = len(self.skipped) - _MAX_SKIPPED_TOLD
        if more > 0:
            yield f"note: left out {more} more files"


def pem_bundle(ders: Iterable[bytes]) -> bytes:
    """Return certificates and revocation lists as a PEM bundle."""
    return b"".join(map(_pem, ders))


def _pem(der: bytes) -> bytes:
    label = b"X509 CRL" if is_revocation_list(der) else b"CERTIFICATE"
    text = base64.encodebytes(der)
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label, text, label)


def read_trust(
    paths: Iterable[Path], vendors: Collection[str] = (), *, option: str = ""
) -> TrustFiles:
    """Read CA certificates and revocation lists.

    Args:
        paths: PEM or DER files, cabinets, and folders of such; a folder's or a cabinet's files
            that are no CA certificate are left out and told.
        vendors: Take from folders and cabinets only what is in a folder of one of these names.
        option: What to put before a path in a message.

    Raises:
        MalformedError: A named file is none of these, or nothing was found.
    """
    found = TrustFiles()
    wanted = frozenset(vendor.casefold() for vendor in vendors)
    for path in paths:
        with naming(f"{option}{path}"):
            if path.is_dir():
                _take_many(found, _folder(path), wanted)
                continue
            data = read_file(path)
            if data[: len(MAGIC)] == MAGIC:
                _take_many(found, _cabinet(path, data), wanted)
            else:
                found.take(data)
    if not found.certificates and not found.lists:
        raise MalformedError(
            "no CA certificate and no revocation list was found"
            + (f" for {', '.join(sorted(vendors))}" if vendors else "")
            + f"; of a folder or cabinet, files are read that end in {' '.join(sorted(_ENDINGS))}"
        )
    return found


def _take_many(
    found: TrustFiles, files: Iterable[tuple[str, bytes]], wanted: frozenset[str]
) -> None:
    for name, data in files:
        folders = [part.casefold() for part in name.split("/")[:-1]]
        if wanted and wanted.isdisjoint(folders):
            continue
        if Path(name).suffix.casefold() not in _ENDINGS:
            continue
        try:
            found.take(data)
        except MalformedError as exc:
            found.skipped.append(f"{name}: {exc}")


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
    count = 0
    for where, folders, names in os.walk(path, followlinks=False):
        folders.sort()
        for name in sorted(names):
            file = Path(where) / name
            count += 1
            if count > MAX_ENTRIES:
                raise MalformedError(f"the folder holds more than {MAX_ENTRIES} files")
            if file.suffix.casefold() not in _ENDINGS or not file.is_file():
                continue
            if file.stat().st_size > 2 * MAX_CRL:
                continue
            yield str(file.relative_to(path).as_posix()), read_file(file)


def _cabinet(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    cabinet = parse_cabinet(data)
    try:
        yield from cabinet.unpack()
    except UnpackableError as exc:
        yield from _extracted(path, cabinet, str(exc))


def _extracted(path: Path, cabinet: Cabinet, why: str) -> Iterator[tuple[str, bytes]]:
    extractor = shutil.which(_EXTRACTOR)
    if extractor is None:
        raise MalformedError(
            f"{why}: install {_EXTRACTOR}, or unpack it yourself and give the folder"
        )
    with tempfile.TemporaryDirectory(prefix="bl-cab-") as folder:
        try:
            done = subprocess.run(  # noqa: S603 - a fixed program; the path is absolute
                [extractor, "-q", "-d", folder, str(path.resolve())],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_EXTRACT_SECONDS,
                check=False,
                preexec_fn=_bounded,
            )
        except subprocess.TimeoutExpired as exc:
            raise MalformedError(f"{_EXTRACTOR} did not end within {_EXTRACT_SECONDS} s") from exc
        if done.returncode != 0:
            raise MalformedError(f"{_EXTRACTOR} failed: {' '.join(done.stderr.split())[:240]}")
        # The directory was parsed here: the sum of its sizes is within bounds.
        del cabinet
        yield from _folder(Path(folder))


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_UNPACKED, MAX_UNPACKED))
    resource.setrlimit(resource.RLIMIT_CPU, (_EXTRACT_SECONDS, _EXTRACT_SECONDS))
