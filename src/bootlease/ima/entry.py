"""One entry of a measurement list, and what its template data says.

Specification: Linux ``security/integrity/ima/ima_template_lib.c`` (the ``ima_event*_init``
functions), ``ima_fs.c`` (``ima_measurements_show``), ``ima_main.c``
(``process_buffer_measurement``)::

    d d-ng d-ngv2      digest, see :mod:`bootlease.ima.digests`
    n          name, at most 255 bytes, without NUL in the list
    n-ng       name NUL
    sig        the file's security.ima, or a portable security.evm
    buf        measured bytes: a key, a command line, critical data
    d-modsig   as d-ng: digest of the file without the signature appended to it
    modsig     that signature, PKCS#7
    evmsig     portable security.evm
    iuid igid imode               little-endian numbers
    xattrnames xattrlengths xattrvalues   "a|b" NUL, u32 each, bytes one after the other

A quote over PCR 10 covers an entry's template data and whether it is a violation. It covers
neither the template's name nor the SHA-1 of the list, and of a violation not even the data. So
what a template makes of data must hold by itself: every field is parsed to its last byte, and
bytes count as a measured buffer only if the entry's digest is theirs.

The kernel writes a space in a name as ``_``. Names are bytes, neither text nor necessarily
paths: compare bytes, and show them with :func:`display_name`.

Not handled: lists of big-endian kernels without ``ima_canonical_fmt``.
"""

from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple

from bootlease.errors import MalformedError
from bootlease.ima.digests import PREFIXES, DigestType, IMADigest, parse_digest, parse_sha1
from bootlease.ima.templates import IMA_TEMPLATE, Field, template_fields
from bootlease.model import HashAlg

__all__ = [
    "BOOT_AGGREGATE",
    "IMA_NAME_SIZE",
    "DigestType",
    "IMADigest",
    "IMAEntry",
    "Kind",
    "Measurement",
    "display_name",
    "measured_name",
    "parse_template_data",
]

BOOT_AGGREGATE: Final = b"boot_aggregate"
IMA_NAME_SIZE: Final = 256
"""IMA_EVENT_NAME_LEN_MAX + 1: what the ``ima`` template pads a name to before hashing."""

_SHA1_SIZE: Final = HashAlg.SHA1.size
_U32: Final = struct.Struct("<I")
_NUMBER_SIZES: Final = (0, 1, 2, 4, 8)


class Kind(enum.Enum):
    """What an entry is about."""

    BOOT_AGGREGATE = "boot-aggregate"
    FILE = "file"
    BUFFER = "buffer"


class Measurement(NamedTuple):
    """What template data says, by field; ``None`` or empty where the template has no such field.

    Attributes:
        kind: A buffer only where the digest is over ``buffer``; everything else that is not the
            boot aggregate is a file.
        digest: The digest that was measured.
        name: Path of a file as the kernel saw it, name of a keyring or of other measured data.
        signature: ``security.ima`` or a portable ``security.evm``, for
            :func:`~bootlease.ima.signature.parse_file_signature`.
        buffer: Measured bytes.
        modsig_digest: Digest of the file without its appended signature.
        modsig: The appended signature, PKCS#7.
        evm_signature: Portable ``security.evm``.
        xattrs: Name and value of each extended attribute that it covers.
        uid: Owner of the file.
        gid: Group of the file.
        mode: Type and permissions of the file.
    """

    kind: Kind
    digest: IMADigest | None
    name: bytes | None
    signature: bytes = b""
    buffer: bytes = b""
    modsig_digest: IMADigest | None = None
    modsig: bytes = b""
    evm_signature: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None


_REST: Final = tuple(Measurement._field_defaults.values())[1:]
_PLAIN_HEADS: Final = 8
_V2: Final = frozenset({b"ima-ngv2", b"ima-sigv2"})
_new: Final = tuple.__new__


class IMAEntry(NamedTuple):
    """One entry of a list.

    Attributes:
        number: Position since the boot, from 0.
        pcr: PCR that the entry was extended into.
        template: Template name. Under no digest.
        template_hash: SHA-1 of the template data as the list has it (in lists per bank that
            bank's hash), all zero for a violation. Nothing attests it beyond that.
        data: Template data exactly as hashed.
    """

    number: int
    pcr: int
    template: bytes
    template_hash: bytes
    data: bytes

    @property
    def violation(self) -> bool:
        """The file was written while it was in use: its digest stands for nothing."""
        return not any(self.template_hash)

    def measurement(self) -> Measurement:
        """Read the template data.

        Raises:
            MalformedError: It is not what the template demands, to the last byte.
        """
        return parse_template_data(self.template, self.data, violation=self.violation)


def parse_template_data(template: bytes, data: bytes, *, violation: bool = False) -> Measurement:
    """Read template data.

    Args:
        template: Name of the template.
        data: Its data as it was hashed.
        violation: The digest may be short and means nothing.

    Raises:
        UnknownTemplateError: No kernel defines the template.
        MalformedError: The data is not what the template demands.
    """
    if template in _PLAIN and (plain := _parse_plain(data, template, violation)):
        return plain
    if template == IMA_TEMPLATE:
        return _parse_ima(data)
    fields = template_fields(template)
    values = _split(data, len(fields))
    found = dict(zip(fields, values, strict=True))
    digest = _digest_of(found, violation=violation)
    name = _name_of(found)
    buffer = found.get(Field.BUFFER, b"")
    kind = _kind(digest, name, buffer)
    modsig_digest = found.get(Field.MODSIG_DIGEST)
    return Measurement(
        kind,
        digest,
        name,
        signature=found.get(Field.SIGNATURE, b""),
        buffer=buffer,
        modsig_digest=(
            parse_digest(modsig_digest, v2=False, violation=violation) if modsig_digest else None
        ),
        modsig=found.get(Field.MODSIG, b""),
        evm_signature=found.get(Field.EVM_SIGNATURE, b""),
        xattrs=_parse_xattrs(found),
        uid=_parse_number(found.get(Field.UID, b"")),
        gid=_parse_number(found.get(Field.GID, b"")),
        mode=_parse_number(found.get(Field.MODE, b"")),
    )


def display_name(name: bytes) -> str:
    """Return a name for people, different for every name.

    Whatever does not print, and a backslash, becomes a backslash, ``x`` and two hex digits for
    each byte: no name can end the line or move the cursor. Letters that look alike still do.
    """
    text = name.replace(b"\\", b"\\x5c").decode("utf-8", "backslashreplace")
    return "".join(
        char
        if char.isprintable()
        else "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
        for char in text
    )


def measured_name(path: bytes) -> bytes:
    """Return the name under which the kernel measures ``path``: each space becomes ``_``."""
    return path.replace(b" ", b"_")


_PLAIN: Final = {b"ima-ng": False, b"ima-sig": True, b"ima-ngv2": False, b"ima-sigv2": True}
"""Templates of nearly every entry, a digest and a name, and whether a signature follows."""


def _parse_plain(
    data: bytes,
    template: bytes,
    violation: bool,  # noqa: FBT001 - by name, each of 100,000 calls would cost more
) -> Measurement | None:
    """Read what nearly every entry has, in a third of the time.

    Returns:
        ``None`` where anything is unusual; the general way then says what.
    """
    total = len(data)
    if violation or total < _PLAIN_HEADS:
        return None
    name_start = _U32.unpack_from(data)[0] + 8
    prefix_end = data.find(0, 4) + 1
    known = PREFIXES.get(data[4:prefix_end])
    if known is None or name_start > total or name_start - 4 - prefix_end != known.size:
        return None
    name_end = name_start + _U32.unpack_from(data, name_start - 4)[0]
    if name_end <= name_start + 1 or data.find(0, name_start, total) != name_end - 1:
        return None
    signature = b""
    if _PLAIN[template]:
        start = name_end + 4
        if start > total or start + _U32.unpack_from(data, name_end)[0] != total:
            return None
        signature = data[start:]
    elif name_end != total:
        return None
    if known.v2 != (template in _V2):
        return None
    name = data[name_start : name_end - 1]
    digest = _new(IMADigest, (known.type, known.label, data[prefix_end : name_start - 4]))
    kind = Kind.BOOT_AGGREGATE if name == BOOT_AGGREGATE else Kind.FILE
    return _new(Measurement, (kind, digest, name, signature, *_REST))


def _split(data: bytes, count: int) -> list[bytes]:
    """Return ``count`` fields, each after its length, that make up all of ``data``."""
    values = []
    position, total = 0, len(data)
    unpack = _U32.unpack_from
    for _ in range(count):
        start = position + 4
        if start > total:
            raise MalformedError("template data with too few fields", offset=position)
        position = start + unpack(data, position)[0]
        if position > total:
            raise MalformedError("a field ends beyond its template data", offset=start)
        values.append(data[start:position])
    if position != total:
        raise MalformedError("template data with bytes after its last field", offset=position)
    return values


def _kind(digest: IMADigest | None, name: bytes | None, buffer: bytes) -> Kind:
    if buffer:
        # ima-sig data under the name ima-buf would turn a file into harmless-looking bytes.
        return Kind.BUFFER if digest is not None and _is_over(digest, buffer) else Kind.FILE
    return Kind.BOOT_AGGREGATE if name == BOOT_AGGREGATE else Kind.FILE


def _is_over(digest: IMADigest, data: bytes) -> bool:
    try:
        alg = HashAlg.from_label(digest.alg)
        return digest.type is DigestType.IMA and alg.digest(data) == digest.value
    except ValueError:
        return False


def _parse_ima(data: bytes) -> Measurement:
    if len(data) != _SHA1_SIZE + IMA_NAME_SIZE:
        raise MalformedError(f"an ima template of {len(data)} bytes")
    name = data[_SHA1_SIZE:].rstrip(b"\0")
    if b"\0" in name or not name:
        raise MalformedError("a name that is empty or has a NUL in it", offset=_SHA1_SIZE)
    kind = Kind.BOOT_AGGREGATE if name == BOOT_AGGREGATE else Kind.FILE
    return Measurement(kind, IMADigest(DigestType.IMA, "sha1", data[:_SHA1_SIZE]), name)


def _digest_of(found: dict[Field, bytes], *, violation: bool) -> IMADigest | None:
    if Field.DIGEST in found:
        return parse_sha1(found[Field.DIGEST])
    for field, v2 in ((Field.DIGEST_NG, False), (Field.DIGEST_NGV2, True)):
        if field in found:
            return parse_digest(found[field], v2=v2, violation=violation)
    return None


def _name_of(found: dict[Field, bytes]) -> bytes | None:
    value = found.get(Field.NAME_NG)
    if value is None:
        value = found.get(Field.NAME)
        if value is None:
            return None
    if value.find(0) != len(value) - 1 or len(value) < 2:  # noqa: PLR2004 - a byte and its NUL
        raise MalformedError("a name that is empty, does not end in NUL, or has one in it")
    return value[:-1]


def _parse_number(value: bytes) -> int | None:
    if len(value) not in _NUMBER_SIZES:
        raise MalformedError(f"a number of {len(value)} bytes")
    return int.from_bytes(value, "little") if value else None


def _parse_xattrs(found: dict[Field, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    names = found.get(Field.XATTR_NAMES, b"").rstrip(b"\0")
    lengths = found.get(Field.XATTR_LENGTHS, b"")
    values = found.get(Field.XATTR_VALUES, b"")
    named = names.split(b"|") if names else []
    if len(lengths) != _U32.size * len(named):
        raise MalformedError("as many extended attributes as their names must have lengths")
    sizes = [length for (length,) in _U32.iter_unpack(lengths)]
    if sum(sizes) != len(values):
        raise MalformedError("extended attributes that are not as long as they say")
    position, pairs = 0, []
    for name, size in zip(named, sizes, strict=True):
        pairs.append((name, values[position : position + size]))
        position += size
    return tuple(pairs)
