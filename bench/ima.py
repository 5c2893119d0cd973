"""How long it takes to parse and replay a measurement list, beside the hashing it cannot avoid.

The list is synthetic: 20,000 different files of the template ``ima-sig`` without signature, 141
bytes each, the shape of a distribution's default policy. Run: ``python bench/ima.py``.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from bootlease.ima import IMAState, attest_list, boot_aggregate_findings, parse_list
from bootlease.model import HashAlg
from bootlease.testing.ima_templates import Entry, Kernel, ima_ng, ima_sig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ENTRIES = 20_000
TARGET_US = 4.0
ROUNDS = 7
SHA256 = HashAlg.SHA256


def build_kernel(entries: int, banks: Sequence[HashAlg], signature: bytes = b"") -> Kernel:
    """A kernel that measured so many files."""
    kernel = Kernel(banks)
    for number in range(entries):
        content = hashlib.sha256(number.to_bytes(4, "little")).digest()
        path = f"/usr/lib/x86_64-linux-gnu/package-{number:05}/module.so"
        data = ima_sig(ima_ng(path.encode(), content), signature)
        kernel.measure(Entry("ima-sig", data))
    return kernel


def best_of(function: Callable[[], object], entries: int = ENTRIES) -> tuple[float, float]:
    """Best and median time of a call in microseconds an entry."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1e6 / entries)
    times.sort()
    return times[0], times[len(times) // 2]


def bare_hashing(bodies: Sequence[bytes]) -> bytes:
    """The hashing that any replay in one sha256 bank must do."""
    value = bytes(32)
    sha256 = hashlib.sha256
    for body in bodies:
        value = sha256(value + sha256(body).digest()).digest()
    return value


def read_all(data: bytes) -> int:
    """Read every entry to its last field."""
    return sum(1 for entry in parse_list(data) if entry.measurement().digest is not None)


def main() -> None:
    """Measure and print one table."""
    kernel = build_kernel(ENTRIES, [SHA256])
    data, quoted = kernel.list(), kernel.pcr()
    signed = build_kernel(ENTRIES, [SHA256], b"\3" + bytes(264))
    signed_data, signed_quoted = signed.list(), signed.pcr()
    three = build_kernel(ENTRIES, [HashAlg.SHA1, SHA256, HashAlg.SHA384]).pcr()
    bodies = [entry.data for entry in kernel.entries]
    attested = attest_list(IMAState.START, data, quoted)
    rows = [
        ("bare sha256 of data and PCR", best_of(lambda: bare_hashing(bodies))),
        ("parse + replay, sha256", best_of(lambda: attest_list(IMAState.START, data, quoted))),
        (
            "same, 265-byte signatures",
            best_of(lambda: attest_list(IMAState.START, signed_data, signed_quoted)),
        ),
        ("same, three banks", best_of(lambda: attest_list(IMAState.START, data, three))),
        ("boot aggregates", best_of(lambda: boot_aggregate_findings(attested, {}))),
        ("read every field", best_of(lambda: read_all(data))),
        (
            "parse + replay + read",
            best_of(lambda: (attest_list(IMAState.START, data, quoted), read_all(data))),
        ),
    ]
    bare = rows[0][1][0]
    print(f"{ENTRIES} entries, {len(data)} bytes; times in us an entry")
    print(f"{'':<32}{'best':>10}{'median':>10}{'x bare':>8}")
    for name, (best, median) in rows:
        print(f"{name:<32}{best:>10.2f}{median:>10.2f}{best / bare:>8.1f}")
    print(f"target for parse + replay, sha256: {TARGET_US:.0f} us an entry")


if __name__ == "__main__":
    main()
