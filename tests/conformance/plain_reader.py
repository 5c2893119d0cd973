"""A second reader of boot logs, which shares no code with the first one.

It takes a log at its word, except that Secure Boot variables count only where their digest is over
their data, and reads just what people ask a log first: Secure Boot state and databases,
authorities, boot applications, kernel command lines. Where the two readers agree on a recorded log,
neither has made its results up.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from dataclasses import dataclass, field

HASHES = {4: "sha1", 11: "sha256", 12: "sha384", 13: "sha512"}
NO_ACTION, IPL, CONFIG, AUTHORITY = 3, 0x0D, 0x80000001, 0x800000E0
IMAGES = (0x80000003, 0x80000004, 0x80000005)
PREFIXES = (b"kernel_cmdline: ", b"grub_kernel_cmdline ")
OTHER_PREFIXES = (b"grub_cmd", b"module_cmdline", b"grub_module_cmdline")
FILE, END = (4, 4), 0x7F

Record = tuple[int, int, dict[int, bytes], bytes]


@dataclass
class Reading:
    """What a log says.

    Attributes:
        state: ``on``, ``off`` or ``unknown``.
        databases: SHA-256 of each database by name.
        authorities: Variable, and SHA-256 of the certificate in it, if any.
        images: Digest and file name of what PCR 4 takes.
        command_lines: As kernels get them.
    """

    state: str = "unknown"
    databases: dict[str, str] = field(default_factory=dict)
    authorities: list[tuple[str, str | None]] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)
    command_lines: list[str] = field(default_factory=list)


def records(data: bytes) -> list[Record]:
    """Read the records of a log that is known to be well formed."""
    header_size = struct.unpack_from("<I", data, 28)[0]
    header = data[32 : 32 + header_size]
    sizes: dict[int, int] = {}
    if header.startswith(b"Spec ID Event03"):
        for number in range(struct.unpack_from("<I", header, 24)[0]):
            algorithm, size = struct.unpack_from("<HH", header, 28 + 4 * number)
            sizes[algorithm] = size
    found: list[Record] = [(*struct.unpack_from("<II", data), {4: data[8:28]}, header)]
    at = 32 + header_size
    while any(data[at : at + 12]) and set(data[at : at + 12]) != {0xFF}:
        pcr, kind = struct.unpack_from("<II", data, at)
        digests: dict[int, bytes] = {4: data[at + 8 : at + 28]}
        at += 28
        if sizes:
            digests = {}
            at -= 16
            for _ in range(struct.unpack_from("<I", data, at - 4)[0]):
                algorithm = struct.unpack_from("<H", data, at)[0]
                digests[algorithm] = data[at + 2 : at + 2 + sizes[algorithm]]
                at += 2 + sizes[algorithm]
        size = struct.unpack_from("<I", data, at)[0]
        found.append((pcr, kind, digests, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


def read(data: bytes, bank: str) -> Reading:
    """Read a log, by the digests of one bank."""
    reading = Reading()
    number = next(number for number, name in HASHES.items() if name == bank)
    found = records(data)
    # Confidential machines have registers: 1 for PCR 7, 2 for PCR 4, 3 for PCR 8.
    registers = (1, 2, 3) if found[0][0] == 1 else (7, 4, 8)
    for pcr, kind, digests, body in found[1:]:
        if kind == NO_ACTION:
            continue
        measured = digests[number] == hashlib.new(bank, body).digest()
        if pcr == registers[0]:
            _secure_boot(reading, kind, body, measured=measured)
        elif pcr == registers[1] and kind in IMAGES:
            reading.images.append((digests[number].hex(), _file(body)))
        elif kind == IPL and pcr in (registers[2], 12):
            _command_line(reading, body, grub=pcr != 12)
    return reading


def _secure_boot(reading: Reading, kind: int, body: bytes, *, measured: bool) -> None:
    if kind not in (CONFIG, AUTHORITY):
        return
    name_length, data_length = struct.unpack_from("<QQ", body, 16)
    name = body[32 : 32 + 2 * name_length].decode("utf-16-le")
    value = body[32 + 2 * name_length :][:data_length]
    if kind == AUTHORITY:
        reading.authorities.append((name, _certificate(value)))
    elif measured and name == "SecureBoot":
        reading.state = {b"": "off", b"\0": "off", b"\1": "on"}.get(value, "unknown")
    elif measured:
        reading.databases[name] = hashlib.sha256(value).hexdigest()


def _certificate(value: bytes) -> str | None:
    """Find a DER certificate, with the GUID of its owner before it or without."""
    for start in (0, 16):
        if value[start : start + 2] == b"\x30\x82":
            length = struct.unpack_from(">H", value, start + 2)[0] + 4
            return hashlib.sha256(value[start : start + length]).hexdigest()
    return None


def _file(body: bytes) -> str:
    """Join the file names of a device path, or take the GUID of a firmware file."""
    path = body[32 : 32 + struct.unpack_from("<Q", body, 24)[0]]
    parts = []
    while len(path) >= 4:
        kind, subtype, length = struct.unpack_from("<BBH", path)
        if (kind, subtype) == FILE:
            parts.append(path[4:length].decode("utf-16-le").rstrip("\0").strip("\\"))
        elif (kind, subtype) == (4, 6):
            parts.append(str(uuid.UUID(bytes_le=path[4:length])))
        if kind == END:
            break
        path = path[length:]
    return "\\".join(parts)


def _command_line(reading: Reading, body: bytes, *, grub: bool) -> None:
    text = body.rstrip(b"\0")
    for prefix in PREFIXES:
        if body.startswith(prefix):
            line = "BOOT_IMAGE=" + text[len(prefix) :].decode()
            break
    else:
        wide = body[1:2] == b"\0"
        if grub and (body.startswith(OTHER_PREFIXES) or not wide):
            return
        line = body[: len(body) & ~1].decode("utf-16-le").rstrip("\0")
    if line not in reading.command_lines:
        reading.command_lines.append(line)
