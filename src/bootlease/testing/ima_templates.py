"""Template data of every template, file signatures, and the PCR that a kernel would extend.

Specification: Linux ``security/integrity/ima/ima_template.c``, ``ima_template_lib.c``,
``ima_fs.c`` (``ima_measurements_show``), ``ima_queue.c``; ``security/integrity/integrity.h``
(``signature_v2_hdr``), ``ima_appraise.c`` (``calc_file_id_hash``), ``evm_crypto.c``. Written
apart from :mod:`bootlease.ima`, so that the two check each other.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from bootlease.model import HashAlg
from bootlease.testing import ima_list

NAME_SIZE: Final = 256
_HASHES: Final = {
    "sha1": (2, hashes.SHA1),
    "sha256": (4, hashes.SHA256),
    "sha384": (5, hashes.SHA384),
    "sha512": (6, hashes.SHA512),
}
SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def ima_ng(path: bytes, digest: bytes, alg: str = "sha256") -> bytes:
    """Return the data of ``ima-ng``."""
    return ima_list.field(alg.encode() + b":\0" + digest) + ima_list.field(path + b"\0")


def ima_ngv2(path: bytes, digest: bytes, alg: str = "sha256", kind: str = "ima") -> bytes:
    """Return the data of ``ima-ngv2``; ``kind`` is ``ima`` or ``verity``."""
    return ima_ng(path, digest, f"{kind}:{alg}")


def ima_sig(data: bytes, signature: bytes) -> bytes:
    """Return the data of ``ima-sig`` or ``ima-sigv2`` from that without signature."""
    return data + ima_list.field(signature)


def ima_buf(name: bytes, buffer: bytes) -> bytes:
    """Return the data of ``ima-buf`` for measured bytes."""
    return ima_ng(name, hashlib.sha256(buffer).digest()) + ima_list.field(buffer)


def ima_modsig(
    path: bytes, digest: bytes, content_digest: bytes, modsig: bytes, signature: bytes = b""
) -> bytes:
    """Return the data of ``ima-modsig``; without ``modsig`` its two fields are empty."""
    content = b"sha256:\0" + content_digest if modsig else b""
    return ima_sig(ima_ng(path, digest), signature) + b"".join(
        map(ima_list.field, (content, modsig))
    )


def evm_sig(
    path: bytes,
    digest: bytes,
    signature: bytes,
    xattrs: Mapping[bytes, bytes],
    owner: tuple[int, int, int],
) -> bytes:
    """Return the data of ``evm-sig``.

    Args:
        path: The file's path.
        digest: SHA-256 of its content.
        signature: Its portable ``security.evm``.
        xattrs: The extended attributes that are signed, in order.
        owner: User, group and mode.
    """
    uid, gid, mode = owner
    fields = (
        signature,
        b"|".join(xattrs) + b"\0",
        b"".join(struct.pack("<I", len(value)) for value in xattrs.values()),
        b"".join(xattrs.values()),
        struct.pack("<I", uid),
        struct.pack("<I", gid),
        struct.pack("<H", mode),
    )
    return ima_ng(path, digest) + b"".join(map(ima_list.field, fields))


def sign_file(
    key: SigningKey, digest: bytes, *, alg: str = "sha256", kind: int = 3, version: int = 2
) -> bytes:
    """Return a ``security.ima`` (or what ``kind`` says) over a digest, as ``evmctl`` writes it."""
    number, hash_type = _HASHES[alg]
    if version == 3:  # noqa: PLR2004
        digest = hashlib.new(alg, bytes([kind, number]) + digest).digest()
    prehashed = Prehashed(hash_type())
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(digest, padding.PKCS1v15(), prehashed)
    else:
        signature = key.sign(digest, ec.ECDSA(prehashed))
    head = bytes([kind, version, number]) + key_id(key) + struct.pack(">H", len(signature))
    return head + signature


def key_id(key: SigningKey) -> bytes:
    """Return the four bytes by which a signature names its key."""
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest[-4:]


def portable_digest(xattrs: Mapping[bytes, bytes], owner: tuple[int, int, int]) -> bytes:
    """Return the SHA-256 that a portable signature is over."""
    uid, gid, mode = owner
    inode = bytes(12) + struct.pack("<IIH", uid, gid, mode) + bytes(2)
    return hashlib.sha256(b"".join(xattrs.values()) + inode).digest()


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry to be encoded.

    Attributes:
        template: Name of the template; of ``ima``, ``data`` is the digest and the name.
        data: Template data.
        violation: Whether the entry is a violation.
        pcr: The PCR it says it extends.
    """

    template: str
    data: bytes
    violation: bool = False
    pcr: int = ima_list.PCR

    @property
    def hashed(self) -> bytes:
        """What the kernel hashes."""
        return self.data.ljust(NAME_SIZE + 20, b"\0") if self.template == "ima" else self.data

    def encode(self, alg: HashAlg = HashAlg.SHA1) -> bytes:
        """Return the entry as the list of a bank has it; the usual list is that of SHA-1."""
        digest = bytes(alg.size) if self.violation else alg.digest(self.hashed)
        head = struct.pack("<I", self.pcr) + digest + ima_list.field(self.template.encode())
        if self.template == "ima":
            return head + self.data[:20] + ima_list.field(self.data[20:])
        return head + ima_list.field(self.data)


@dataclass(slots=True)
class Kernel:
    """PCR 10 of a kernel that measures, and its list.

    Attributes:
        banks: The banks that it extends.
        padded: It is older than 5.8 and extends SHA-1 into every bank.
        entries: What it measured.
    """

    banks: Sequence[HashAlg] = (HashAlg.SHA256,)
    padded: bool = False
    entries: list[Entry] = field(default_factory=list)

    def measure(self, *entries: Entry) -> None:
        """Add entries to the list."""
        self.entries.extend(entries)

    def list(self, alg: HashAlg = HashAlg.SHA1) -> bytes:
        """Return the list as securityfs shows it for a bank."""
        return b"".join(entry.encode(alg) for entry in self.entries)

    def pcr(self, after: int | None = None) -> dict[HashAlg, bytes]:
        """Return PCR 10 by bank, after so many entries."""
        return {bank: self._replay(bank, self.entries[:after]) for bank in self.banks}

    def _replay(self, bank: HashAlg, entries: Iterable[Entry]) -> bytes:
        value = bytes(bank.size)
        hash_ = HashAlg.SHA1 if self.padded else bank
        for entry in entries:
            digest = b"\xff" * hash_.size if entry.violation else hash_.digest(entry.hashed)
            value = bank.digest(value + digest.ljust(bank.size, b"\0"))
        return value
