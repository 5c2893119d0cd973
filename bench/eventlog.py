"""How long it takes to parse and replay an event log, beside the hashing it cannot avoid.

The log is synthetic: 99 events in 41 kB with one sha256 digest each, the shape of a Secure
Boot machine that starts Linux through shim and GRUB. Run: ``python bench/eventlog.py``.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from bootlease.eventlog import (
    EventRecord,
    EventType,
    encode_event_log,
    parse_event_log,
    replay,
    verified_data,
)
from bootlease.model import HashAlg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EVENTS = 99
LOG_SIZE = 41_000
TARGET_US = 250.0
ROUNDS = 2_000


def build_log(events: int, banks: Sequence[HashAlg]) -> bytes:
    """A log of so many events (the header counts), most of its bytes in a few variables."""
    large = (EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, 7, 6_000)
    kinds = [large] * 5 + [
        (EventType.EV_EFI_VARIABLE_BOOT, 1, 120),
        (EventType.EV_SEPARATOR, 2, 4),
        (EventType.EV_EFI_BOOT_SERVICES_APPLICATION, 4, 120),
        (EventType.EV_IPL, 8, 60),
        (EventType.EV_IPL, 9, 40),
    ] * (events // 5 + 1)
    records = []
    for number, (kind, pcr, size) in enumerate(kinds[: events - 1]):
        data = number.to_bytes(4, "little") + bytes(max(0, size - 4))
        records.append(EventRecord(pcr, kind, {bank: bank.digest(data) for bank in banks}, data))
    return encode_event_log(records, banks)


def best_of(function: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, float]:
    """Best and median time of a call in microseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1e6)
    times.sort()
    return times[0], times[len(times) // 2]


def bare_extends(digests: Sequence[bytes]) -> bytes:
    """The hashing that any replay of these digests must do."""
    value = bytes(32)
    sha256 = hashlib.sha256
    for digest in digests:
        value = sha256(value + digest).digest()
    return value


def main() -> None:
    """Measure and print one table."""
    data = build_log(EVENTS, [HashAlg.SHA256])
    three = build_log(EVENTS, [HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384])
    long = build_log(20_001, [HashAlg.SHA256])
    log = parse_event_log(data)
    digests = [event.digest_values[0] for event in log.events[1:]]
    sha256 = (HashAlg.SHA256,)
    rows = [
        ("bare sha256 extends", best_of(lambda: bare_extends(digests))),
        ("parse", best_of(lambda: parse_event_log(data))),
        ("replay, sha256", best_of(lambda: replay(log, sha256))),
        ("parse + replay, sha256", best_of(lambda: replay(parse_event_log(data), sha256))),
        ("same, log of three banks", best_of(lambda: replay(parse_event_log(three), sha256))),
        ("replay, three banks", best_of(lambda: replay(parse_event_log(three)))),
        (
            "what each digest covers",
            best_of(lambda: [verified_data(event, HashAlg.SHA256) for event in log.events]),
        ),
        ("20,001 events, parse + replay", best_of(lambda: replay(parse_event_log(long)), 5)),
    ]
    bare = rows[0][1][0]
    print(f"{len(log.events)} events, {len(data)} bytes; times in us")
    print(f"{'':<32}{'best':>10}{'median':>10}{'x bare':>8}")
    for name, (best, median) in rows:
        print(f"{name:<32}{best:>10.1f}{median:>10.1f}{best / bare:>8.1f}")
    print(f"target for parse + replay, sha256: {TARGET_US:.0f} us")


if __name__ == "__main__":
    main()
