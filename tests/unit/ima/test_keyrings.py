"""Keys that the kernel measured when they were added to its keyrings."""

from __future__ import annotations

import hashlib

from bootlease.ima import IMAEntry, MeasuredKey, measured_key
from bootlease.testing.ima_templates import ima_buf, ima_ng, ima_sig


def key_of(template: bytes, data: bytes) -> MeasuredKey | None:
    """What an entry says of a key."""
    entry = IMAEntry(5, 10, template, b"\1" * 20, data)
    return measured_key(entry, entry.measurement())


def test_a_measured_key() -> None:
    """Keyring, payload and fingerprint of a key that was added."""
    key = key_of(b"ima-buf", ima_buf(b".ima", b"certificate"))
    assert key == MeasuredKey(5, ".ima", b"certificate")
    assert key.fingerprint == hashlib.sha256(b"certificate").hexdigest()


def test_other_entries_are_no_keys() -> None:
    """Other buffers, keyrings of processes, and files with a keyring's name."""
    assert key_of(b"ima-buf", ima_buf(b"kexec-cmdline", b"ro")) is None
    assert key_of(b"ima-buf", ima_buf(b"_ses", b"certificate")) is None
    assert key_of(b"ima-ng", ima_ng(b".ima", bytes(32))) is None
    assert key_of(b"ima-buf", ima_sig(ima_ng(b".ima", bytes(32)), b"\3file signature")) is None
