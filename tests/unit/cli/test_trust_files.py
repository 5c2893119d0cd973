"""Where operators have CA certificates: files, folders, cabinets, and what is left out of them."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bootlease.cli import trust_files
from bootlease.cli.trust_files import pem_bundle, read_trust
from bootlease.endorsement import parse_certificates
from bootlease.errors import MalformedError
from bootlease.testing.local_ca import LocalCA

CA = LocalCA.create()
ROOT = CA.root.public_bytes(Encoding.DER)
NOW = CA.root.not_valid_before_utc
CRL = CA.revocation_list(this_update=NOW, next_update=NOW.replace(year=NOW.year + 1), by_root=True)
LEAF = CA.issue_ek_certificate(ec.generate_private_key(ec.SECP256R1()).public_key())
STORED, LZX = 0, 0x1503


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as TrustedTpm.cab unpacks to, with what does not belong there."""
    for name, data in {
        "STM/RootCA/root.crt": ROOT,
        "IFX/IntermediateCA/ca.CER": CA.intermediate_der + b"\xff" * 8,
        "IFX/ca.pem": CA.intermediates_pem,
        "IFX/leaf.cer": LEAF,
        "IFX/broken.cer": b"garbage",
        "setup.ps1": b"garbage",
        "STM/RootCA/root.crl": CRL,
    }.items():
        path = tmp_path / "trust" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "trust"


def cabinet(path: Path, method: int) -> Path:
    """Write a cabinet with one root in it."""
    name = b"STM\\RootCA\\root.crt\0"
    files_at, start = 44, 44 + 16 + len(name)
    block = struct.pack("<IHH", 0, len(ROOT), len(ROOT)) + ROOT
    header = struct.pack(
        "<4sIIIIIBBHHHHH",
        *(b"MSCF", 0, start + len(block), 0, files_at, 0, 3, 1, 1, 1, 0, 7, 0),
    )
    entry = struct.pack("<IIHHHH", len(ROOT), 0, 0, 0, 0, 0) + name
    path.write_bytes(header + struct.pack("<IHH", start, 1, method) + entry + block)
    return path


def test_a_folder_is_taken_and_what_is_left_out_is_told(folder: Path) -> None:
    """Each CA once, lists apart, and the operator learns which files were none."""
    found = read_trust([folder])
    assert sorted(found.certificates) == sorted([ROOT, CA.intermediate_der])
    assert found.lists == [CRL]
    assert [line.partition(":")[0] for line in found.skipped] == ["IFX/broken.cer", "IFX/leaf.cer"]
    assert all(note.startswith("note: left out IFX/") for note in found.notes())


def test_a_vendor_may_be_picked(folder: Path) -> None:
    """Who runs one vendor's TPMs need not trust all of them."""
    assert read_trust([folder], ["stm"]).certificates == [ROOT]
    with pytest.raises(MalformedError, match="found for NTC"):
        read_trust([folder], ["NTC"])


@pytest.mark.parametrize("name", ["IFX/broken.cer", "IFX/leaf.cer"])
def test_a_file_that_is_named_must_be_right(folder: Path, name: str) -> None:
    """What the operator names is not left out."""
    with pytest.raises(MalformedError, match=name):
        read_trust([folder / name])


def test_links_do_not_lead_out_of_a_folder(folder: Path, tmp_path: Path) -> None:
    """A folder is what is in it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other.crt").write_bytes(
        LocalCA.create().root.public_bytes(Encoding.DER)
    )
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    assert len(read_trust([folder]).certificates) == 2


def test_a_bundle_is_what_was_read() -> None:
    """What is sent to the verifier are the bytes that were read."""
    assert parse_certificates(pem_bundle([CRL, ROOT])) == (ROOT, CRL)


def test_a_cabinet_is_unpacked(tmp_path: Path) -> None:
    """TrustedTpm.cab needs no other program where it is stored or MSZIP."""
    path = cabinet(tmp_path / "t.cab", STORED)
    assert read_trust([path], ["STM"]).certificates == [ROOT]


def test_lzx_is_left_to_cabextract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is called with the cabinet and a folder of its own; without it, that is told."""
    path = cabinet(tmp_path / "t.cab", LZX)
    (tmp_path / "root.crt").write_bytes(ROOT)
    script = tmp_path / "bin" / "cabextract"
    script.parent.mkdir()
    copy = f'mkdir "$3/STM" && cp "{tmp_path}/root.crt" "$3/STM"'
    script.write_text(f'#!/bin/sh\ntest "$4" = "{path}" && {copy}\n')
    script.chmod(0o700)
    monkeypatch.setattr(shutil, "which", lambda name: str(script) if name == "cabextract" else None)
    assert read_trust([path], ["STM"]).certificates == [ROOT]
    script.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    with pytest.raises(MalformedError, match="cabextract failed: broken"):
        read_trust([path])
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MalformedError, match="LZX: install cabextract"):
        read_trust([path])


def test_a_folder_has_bounds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of everything is not searched to its end."""
    monkeypatch.setattr(trust_files, "MAX_ENTRIES", 3)
    with pytest.raises(MalformedError, match="more than 3 files"):
        read_trust([folder])
