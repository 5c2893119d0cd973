"""What an entry's template data says."""

from __future__ import annotations

import hashlib
import struct

import pytest

from bootlease.errors import MalformedError
from bootlease.ima import DigestType, IMADigest, IMAEntry, Kind, display_name, measured_name
from bootlease.ima.entry import parse_template_data
from bootlease.ima.templates import UnknownTemplateError
from bootlease.testing.ima_list import field
from bootlease.testing.ima_templates import (
    evm_sig,
    ima_buf,
    ima_modsig,
    ima_ng,
    ima_ngv2,
    ima_sig,
)

DIGEST = hashlib.sha256(b"content").digest()
MEASURED = IMADigest(DigestType.IMA, "sha256", DIGEST)
VERITY = IMADigest(DigestType.VERITY, "sha256", DIGEST)
GENERAL = b"n-ng|d-ng"
"""A custom template, which is read in the general way."""


def test_ima() -> None:
    """The first template has a SHA-1 and a padded name."""
    data = (bytes(range(20)) + b"/bin/sh").ljust(276, b"\0")
    measured = parse_template_data(b"ima", data)
    assert measured.digest == IMADigest(DigestType.IMA, "sha1", bytes(range(20)))
    assert (measured.kind, measured.name) == (Kind.FILE, b"/bin/sh")


@pytest.mark.parametrize(
    ("template", "data", "expected"),
    [
        (b"ima-ng", ima_ng(b"/a", DIGEST), (Kind.FILE, MEASURED, b"/a", b"")),
        (b"ima-sig", ima_sig(ima_ng(b"/a", DIGEST), b"\3s"), (Kind.FILE, MEASURED, b"/a", b"\3s")),
        (b"ima-sig", ima_sig(ima_ng(b"/a", DIGEST), b""), (Kind.FILE, MEASURED, b"/a", b"")),
        (b"ima-ngv2", ima_ngv2(b"/a", DIGEST), (Kind.FILE, MEASURED, b"/a", b"")),
        (
            b"ima-ngv2",
            ima_ngv2(b"/a", DIGEST, kind="verity"),
            (Kind.FILE, VERITY, b"/a", b""),
        ),
        (
            b"ima-sigv2",
            ima_sig(ima_ngv2(b"/a", DIGEST, kind="verity"), b"\6s"),
            (Kind.FILE, VERITY, b"/a", b"\6s"),
        ),
        (
            b"ima-ng",
            ima_ng(b"boot_aggregate", DIGEST),
            (Kind.BOOT_AGGREGATE, MEASURED, b"boot_aggregate", b""),
        ),
        (b"d-ng|n-ng", ima_ng(b"/a", DIGEST), (Kind.FILE, MEASURED, b"/a", b"")),
        (
            b"ima-modsig",
            ima_modsig(b"/a", DIGEST, b"", b""),
            (Kind.FILE, MEASURED, b"/a", b""),
        ),
    ],
)
def test_digest_name_and_signature(
    template: bytes, data: bytes, expected: tuple[Kind, IMADigest, bytes, bytes]
) -> None:
    """Every template has a digest and a name; the type and algorithm of the digest are kept."""
    assert parse_template_data(template, data)[:4] == expected


def test_digests_are_equal_only_of_one_kind() -> None:
    """E11: type and algorithm belong to a digest, and to how it is written."""
    v2 = parse_template_data(b"ima-ngv2", ima_ngv2(b"/a", DIGEST)).digest
    assert v2 == MEASURED != VERITY
    assert str(MEASURED) == f"sha256:{DIGEST.hex()}"
    assert str(VERITY) == f"verity:sha256:{DIGEST.hex()}"
    sm3 = parse_template_data(b"ima-ng", ima_ng(b"/a", DIGEST, "sm3")).digest
    assert sm3 is not None
    assert (sm3.alg, sm3 == MEASURED) == ("sm3_256", False)
    sha3 = parse_template_data(b"ima-ng", ima_ng(b"/a", DIGEST, "sha3-256")).digest
    assert sha3 is not None
    assert sha3.alg == "sha3_256"


def test_a_buffer() -> None:
    """Measured bytes come back with the name of what they are."""
    measured = parse_template_data(b"ima-buf", ima_buf(b"kexec-cmdline", b"ro quiet"))
    assert (measured.kind, measured.name) == (Kind.BUFFER, b"kexec-cmdline")
    assert measured.buffer == b"ro quiet"


@pytest.mark.parametrize("signature", [b"\3signature", b""])
def test_a_file_is_never_taken_for_a_buffer(signature: bytes) -> None:
    """E10: a template's name is under no digest; ``ima-sig`` shown as ``ima-buf`` stays a file."""
    data = ima_sig(ima_ng(b"/bin/evil", DIGEST), signature)
    measured = parse_template_data(b"ima-buf", data)
    assert (measured.kind, measured.name, measured.digest) == (Kind.FILE, b"/bin/evil", MEASURED)


def test_a_buffer_under_a_hash_that_nobody_can_check() -> None:
    """A buffer whose digest cannot be recomputed counts as a file, which a set must list."""
    data = ima_ng(b".ima", bytes(28), "sha224") + field(b"key")
    assert parse_template_data(b"ima-buf", data).kind is Kind.FILE


def test_a_tree_is_no_digest_of_a_buffer() -> None:
    """E11: a digest of fs-verity is over something else, even where its bytes are the buffer's."""
    measured = ima_ngv2(b"kexec-cmdline", hashlib.sha256(b"ro").digest(), kind="verity")
    plain = ima_ngv2(b"kexec-cmdline", hashlib.sha256(b"ro").digest())
    template = b"d-ngv2|n-ng|buf"
    assert parse_template_data(template, plain + field(b"ro")).kind is Kind.BUFFER
    assert parse_template_data(template, measured + field(b"ro")).kind is Kind.FILE


def test_modsig() -> None:
    """The digest without the appended signature stands beside the file's."""
    content = hashlib.sha256(b"content without").digest()
    data = ima_modsig(b"/a.ko", DIGEST, content, b"pkcs7", b"\3s")
    measured = parse_template_data(b"ima-modsig", data)
    assert measured.digest == MEASURED
    assert measured.modsig_digest == IMADigest(DigestType.IMA, "sha256", content)
    assert (measured.modsig, measured.signature) == (b"pkcs7", b"\3s")


def test_evm_sig() -> None:
    """Owner, mode and extended attributes come with a portable signature."""
    xattrs = {b"security.selinux": b"label", b"security.ima": b"\4\4" + DIGEST}
    data = evm_sig(b"/a", DIGEST, b"\5s", xattrs, (1000, 100, 0o100644))
    measured = parse_template_data(b"evm-sig", data)
    assert dict(measured.xattrs) == xattrs
    assert (measured.uid, measured.gid, measured.mode) == (1000, 100, 0o100644)
    assert measured.evm_signature == b"\5s"
    nothing = ima_ng(b"boot_aggregate", DIGEST) + bytes(7 * 4)
    empty = parse_template_data(b"evm-sig", nothing)
    assert (empty.xattrs, empty.uid, empty.mode) == ((), None, None)


@pytest.mark.parametrize(
    ("template", "data", "message"),
    [
        (b"ima-ng", ima_ng(b"/a", DIGEST)[:-1], "ends beyond"),
        (b"ima-ng", ima_ng(b"/a", DIGEST) + b"\0", "after its last field"),
        (b"ima-ng", ima_sig(ima_ng(b"/a", DIGEST), b""), "after its last field"),
        (b"ima-sig", ima_ng(b"/a", DIGEST), "too few fields"),
        (b"ima-sig", ima_ng(b"/a", DIGEST) + b"\2\0\0\0x", "ends beyond"),
        (b"ima-ng", b"", "too few fields"),
        (b"ima-ng", b"\xff\xff\xff\xff" + bytes(40), "ends beyond"),
        (b"ima-ng", ima_ng(b"/a", DIGEST, "ima:sha256"), "does not name"),
        (b"ima-ngv2", ima_ng(b"/a", DIGEST), "does not name"),
        (b"ima-ngv2", ima_ngv2(b"/a", DIGEST, kind="fsv"), "does not name"),
        (b"ima-ng", ima_ng(b"/a", DIGEST, "SHA256"), "does not name"),
        (b"ima-ng", ima_ng(b"/a", DIGEST[:-1]), "of 31 bytes"),
        (b"ima-ng", ima_ng(b"/a", DIGEST[:20]), "of 20 bytes"),
        (b"ima-ng", ima_ng(b"/a", DIGEST, "sha1"), "of 32 bytes"),
        (b"ima-ng", field(b"sha256:" + DIGEST) + field(b"/a\0"), "does not name"),
        (b"ima-ng", ima_ng(b"", DIGEST), "a name"),
        (b"ima-ng", ima_ng(b"/a\0b", DIGEST), "a name"),
        (b"ima-ng", field(b"sha256:\0" + DIGEST) + field(b"/a"), "a name"),
        (b"ima-ng", field(b"sha256:\0" + DIGEST) + field(b""), "a name"),
        (GENERAL, field(b"/a") + field(b"sha256:\0" + DIGEST), "a name"),
        (b"ima", bytes(275), "275 bytes"),
        (b"ima", bytes(276), "a name"),
        (b"ima", (bytes(20) + b"/a\0b").ljust(276, b"\0"), "a name"),
        (b"d|n", field(bytes(16)) + field(b"/a\0"), "for SHA-1"),
        (b"n|iuid", field(b"/a\0") + field(bytes(3)), "a number of 3"),
        (b"evm-sig", ima_ng(b"/a", DIGEST) + bytes(4) + field(b"a\0") + bytes(20), "lengths"),
        (
            b"evm-sig",
            ima_ng(b"/a", DIGEST)
            + bytes(4)
            + field(b"a\0")
            + field(struct.pack("<I", 2))
            + field(b"x")
            + bytes(12),
            "as long as they say",
        ),
    ],
)
def test_malformed_data(template: bytes, data: bytes, message: str) -> None:
    """Data that is not its template's to the last byte is malformed."""
    with pytest.raises(MalformedError, match=message):
        parse_template_data(template, data)


@pytest.mark.parametrize(
    "template", [b"", b"ima-ng2", b"d-ng|", b"d-ng|x", b"n-ng|n-ng", b"\xff", b"ima|n", b"D-NG"]
)
def test_unknown_templates(template: bytes) -> None:
    """A name that is neither built in nor a format of known fields is a typed error."""
    with pytest.raises(UnknownTemplateError):
        parse_template_data(template, ima_ng(b"/a", DIGEST))


@pytest.mark.parametrize("size", [20, 32])
def test_a_violation(size: int) -> None:
    """The digest of a violation may be short, as older kernels write it; nothing else may."""
    data = ima_ng(b"/a", bytes(size))
    entry = IMAEntry(7, 10, b"ima-ng", bytes(20), data)
    assert entry.violation
    assert entry.measurement().name == b"/a"
    with pytest.raises(MalformedError, match="of 28 bytes"):
        IMAEntry(7, 10, b"ima-ng", bytes(20), ima_ng(b"/a", bytes(28))).measurement()
    assert not IMAEntry(7, 10, b"ima-ng", b"\1" + bytes(19), data).violation


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"/usr/bin/caf\xc3\xa9", "/usr/bin/café"),
        (b"/a\nb", "/a\\x0ab"),
        (b"/a\\x0ab", "/a\\x5cx0ab"),
        (b"/a\xff", "/a\\xff"),
        (b"/a\x1b[2J", "/a\\x1b[2J"),
        ("/a\u202eb".encode(), "/a\\xe2\\x80\\xaeb"),
        ("/a\u00a0b".encode(), "/a\\xc2\\xa0b"),
        (b"/memfd:x_(deleted)", "/memfd:x_(deleted)"),
    ],
)
def test_names_for_people(name: bytes, shown: str) -> None:
    """E6: a name never ends a line, moves the cursor or looks like another's escapes."""
    assert display_name(name) == shown
    assert shown.isprintable()


def test_spaces_in_paths() -> None:
    """The kernel measures a space as an underscore."""
    assert measured_name(b"/a b (deleted)") == b"/a_b_(deleted)"
