"""Keys that a kernel measured when they were added to a keyring: facts, no more.

Specification: Linux ``security/integrity/ima/ima_asymmetric_keys.c``
(``ima_post_key_create_or_update``: an ``ima-buf`` entry whose name is the keyring's and whose
buffer is the key as it was given, mostly a DER certificate; the rule ``measure func=KEY_CHECK``).

A key in ``.ima`` lets its holder sign files that the kernel then accepts. That it was measured
says that it is there, not that it should be: no signature is verified with it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootlease.ima.entry import Kind

if TYPE_CHECKING:
    from bootlease.ima.entry import IMAEntry, Measurement

KEYRINGS = frozenset(
    {
        *(b".builtin_trusted_keys", b".secondary_trusted_keys", b".platform", b".machine"),
        *(b".ima", b".evm", b"_ima", b"_evm", b".blacklist", b".ima_blacklist"),
    }
)
"""Keyrings that the kernel itself consults."""


@dataclass(frozen=True, slots=True)
class MeasuredKey:
    """A key that was added to a keyring.

    Attributes:
        entry: Number of the entry.
        keyring: Name of the keyring.
        payload: The key as it was given.
    """

    entry: int
    keyring: str
    payload: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the payload, for comparing with a certificate's."""
        return hashlib.sha256(self.payload).hexdigest()


def measured_key(entry: IMAEntry, measurement: Measurement) -> MeasuredKey | None:
    """Return the key that an attested entry speaks of, if it does.

    Only keyrings that the kernel itself consults count: elsewhere the name of a buffer may be
    anything, and other buffers may bear it.
    """
    name = measurement.name
    if measurement.kind is not Kind.BUFFER or name not in KEYRINGS:
        return None
    return MeasuredKey(entry.number, name.decode("ascii"), measurement.buffer)
