"""Measurement lists in text."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.ima import IMALimits, looks_like_text, parse_ascii_list
from bootlease.model import HashAlg
from bootlease.testing.ima_templates import Entry, ima_buf, ima_ng, ima_ngv2, ima_sig

DIGEST = bytes(range(32))
HEX = DIGEST.hex().encode()
ZERO = b"0" * 40


def line(template: bytes, rest: bytes, template_hash: bytes = ZERO) -> bytes:
    """A line of a list."""
    return b"10 " + template_hash + b" " + template + b" " + rest + b"\n"


@pytest.mark.parametrize(
    ("template", "shown", "data"),
    [
        ("ima-ng", b"sha256:%b /a" % HEX, ima_ng(b"/a", DIGEST)),
        ("ima-ng", b"sha256:%b /a_b" % HEX, ima_ng(b"/a_b", DIGEST)),
        ("ima-sig", b"sha256:%b /a 030a" % HEX, ima_sig(ima_ng(b"/a", DIGEST), b"\3\n")),
        ("ima-sig", b"sha256:%b /a " % HEX, ima_sig(ima_ng(b"/a", DIGEST), b"")),
        ("ima-ngv2", b"verity:sha256:%b /a" % HEX, ima_ngv2(b"/a", DIGEST, kind="verity")),
        ("ima-sigv2", b"ima:sha256:%b /a " % HEX, ima_sig(ima_ngv2(b"/a", DIGEST), b"")),
        ("ima-ng", b"sha1:%b /\xff" % HEX[:40], ima_ng(b"/\xff", DIGEST[:20], "sha1")),
        ("ima", b"%b /bin/sh" % HEX[:40], DIGEST[:20] + b"/bin/sh"),
    ],
)
def test_a_line_becomes_what_was_hashed(template: str, shown: bytes, data: bytes) -> None:
    """The template data that the kernel hashed is made of what it shows, and has its hash."""
    entry = Entry(template, data)
    template_hash = HashAlg.SHA1.digest(entry.hashed)
    text = line(template.encode(), shown, template_hash.hex().encode())
    (parsed,) = parse_ascii_list(text)
    assert parsed.data == entry.hashed
    assert parsed.template_hash == template_hash
    assert (parsed.number, parsed.pcr, parsed.template) == (0, 10, template.encode())


def test_a_buffer() -> None:
    """An ``ima-buf`` shows its buffer in hexadecimal."""
    data = ima_buf(b".ima", b"key")
    digest = HashAlg.SHA256.digest(b"key").hex().encode()
    (parsed,) = parse_ascii_list(line(b"ima-buf", b"sha256:%b .ima 6b6579" % digest))
    assert parsed.data == data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\n", "line 1 is no entry"),
        (b"no list", "line 1 is no entry"),
        (line(b"ima-ng", b"sha256:%b" % HEX), "no entry"),
        (line(b"ima-ng", b"sha256:%b /a b" % HEX), "too many fields"),
        (line(b"ima-sig", b"sha256:%b /a" % HEX), "too few fields"),
        (line(b"ima-sig", b"sha256:%b /a b 03" % HEX), "too many fields"),
        (line(b"ima-ng", b"sha256:%b /a\nb" % HEX), "line 2 is no entry"),
        (line(b"ima-sig", b"sha256:%b /a 3" % HEX), "hexadecimal"),
        (line(b"ima-ng", b"sha256:%b0 /a" % HEX), "hexadecimal"),
        (line(b"ima-ng", b"none:%b /a" % HEX), "does not name"),
        (line(b"ima-ng", b"sha384:%b /a" % HEX), "of 32 bytes"),
        (line(b"ima-modsig", b"sha256:%b /a   " % HEX), "text does not show"),
        (line(b"n-ng|d-ng", b"sha256:%b /a" % HEX), "text does not show"),
        (line(b"ima-new", b"sha256:%b /a" % HEX), "unknown template"),
        (line(b"ima-ng", b"sha256:%b /a" % HEX, b"00"), "cannot be"),
        (b"99" + line(b"ima-ng", b"sha256:%b /a" % HEX)[2:], "cannot be"),
    ],
)
def test_malformed_text(text: bytes, message: str) -> None:
    """E6: what is no list, or could be read in two ways, is malformed."""
    with pytest.raises(MalformedError, match=message):
        parse_ascii_list(text)


def test_limits() -> None:
    """A list of too many bytes or lines is refused."""
    text = line(b"ima-ng", b"sha256:%b /a" % HEX) * 2
    assert len(parse_ascii_list(text, IMALimits(len(text), 2))) == 2
    assert parse_ascii_list(b"") == ()
    for limits in (IMALimits(len(text) - 1), IMALimits(max_entries=1)):
        with pytest.raises(MalformedError, match="more than"):
            parse_ascii_list(text, limits)


def test_text_or_binary() -> None:
    """A binary list has zeros within its first numbers, a list in text none at all."""
    entry = Entry("ima-ng", ima_ng(b"/a", DIGEST))
    assert not looks_like_text(entry.encode())
    assert not looks_like_text(b"")
    assert looks_like_text(line(b"ima-ng", b"sha256:%b /a" % HEX))


@hypothesis.given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    """Bytes are a list or malformed, alone and where an entry's fields would be."""
    for text in (data, line(b"ima-sig", b"sha256:%b " % HEX + data)):
        try:
            entries = parse_ascii_list(text)
        except MalformedError:
            continue
        for entry in entries:
            entry.measurement()
