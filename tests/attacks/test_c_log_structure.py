"""Section C: logs that are cut, lie about their own layout, or are not the quoted ones."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from bootlease.eventlog import (
    EventRecord,
    EventType,
    encode_event_log,
    encode_sha1_event_log,
    parse_event_log,
    replay,
)
from bootlease.eventlog.encode import encode_event, encode_sha1_event, encode_spec_id_event
from bootlease.model import HashAlg
from bootlease.testing.boot import SimulatedBoot, boot_of_events, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import Scene
from bootlease.testing.tampering import Where, drop, find_event, insert, tamper
from tests.attacks.verdict import Verdict, attack, benign

SHA256: Final = HashAlg.SHA256
EVENT_HEADER: Final = struct.Struct("<III")
NO_ACTION: Final = int(EventType.EV_NO_ACTION)
PCR_COUNT: Final = 24


@pytest.fixture(scope="module")
def boot() -> SimulatedBoot:
    """What the node booted."""
    return simulate_boot(grub_description())


def record_ends(log: bytes) -> list[int]:
    """Return where each record of a one-bank log ends, the header's first."""
    ends = [32 + struct.unpack_from("<I", log, 28)[0]]
    while ends[-1] < len(log):
        size = struct.unpack_from("<I", log, ends[-1] + 46)[0]
        ends.append(ends[-1] + 50 + size)
    return ends


def measured(pcr: int, kind: int, data: bytes) -> EventRecord:
    """Return an event whose digest is that of its data."""
    return EventRecord(pcr, kind, {SHA256: SHA256.digest(data)}, data)


def event(pcr: int, kind: int, digest: bytes = bytes(32), data: bytes = b"") -> bytes:
    """Return one record of a SHA-256 log."""
    return encode_event(pcr, kind, {SHA256: digest}, data)


# -- C1, C16: more or less than what was quoted


@attack("C1", "eventlog.malformed")
def test_a_log_that_is_cut_within_a_record_is_refused(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """Never the events read so far: at each byte of the first records and of the last."""
    log = boot.event_log
    ends = record_ends(log)
    cuts = [*range(ends[2]), *range(ends[-2] + 1, len(log))]
    for length in cuts:
        if length not in ends:
            verdict.refused(scene.decide(log=log[:length]), "eventlog.malformed")


@attack("C1", "eventlog.pcr8.replay-mismatch")
def test_a_log_that_is_cut_between_records_does_not_lead_to_the_quote(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """It is a shorter log, well formed, and leaves PCRs where they were."""
    for end in record_ends(boot.event_log)[:-1]:
        result = scene.decide(log=boot.event_log[:end])
        verdict.refused(result)
    cut = record_ends(boot.event_log)[-4]
    verdict.refused(scene.decide(log=boot.event_log[:cut]))
    last = find_event(boot, pcr=8, containing=b"boot")
    verdict.refused(scene.decide(log=drop(boot, last, Where.LOG).event_log))


@attack("C16", "eventlog.pcr8.replay-mismatch")
def test_a_log_longer_than_the_quote_is_refused(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """An event that was never measured; the finding says how many."""
    extra = measured(8, EventType.EV_IPL, b"kernel_cmdline: quiet\0")
    longer = insert(boot, len(boot.events) + 1, Where.LOG, extra)
    result = scene.decide(log=longer.event_log)
    verdict.refused(result)
    assert any(
        "1 events for PCR 8 that were never measured" in str(each) for each in result.findings
    )


@attack("C16", "eventlog.pcr14.replay-mismatch")
def test_a_log_shorter_than_the_quote_is_refused(scene: Scene, verdict: Verdict) -> None:
    """Something was extended after the log was read."""
    scene.node.pcr_extend(14, {SHA256: SHA256.digest(b"late")})
    verdict.refused(scene.decide())


# -- C2 to C5: sizes, digests, header


@attack("C2", "eventlog.malformed")
@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x10000, 1])
def test_an_event_size_beyond_the_log_is_refused(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot, size: int
) -> None:
    """In the first record, in a later one, and one byte too many, which shifts all that follow."""
    log = boot.event_log
    ends = record_ends(log)
    for place in (28, ends[3] + 46, ends[-2] + 46):
        (true,) = struct.unpack_from("<I", log, place)
        claimed = true + 1 if size == 1 else size
        forged = log[:place] + struct.pack("<I", claimed) + log[place + 4 :]
        verdict.refused(scene.decide(log=forged), "eventlog.malformed")


@pytest.mark.parametrize(
    ("row", "count"),
    [
        pytest.param("C2", 0xFFFFFFFF, marks=attack("C2", "eventlog.malformed")),
        pytest.param("C2", 0x10001, marks=attack("C2", "eventlog.malformed")),
        pytest.param("C3", 0, marks=attack("C3", "eventlog.malformed")),
        pytest.param("C3", 2, marks=attack("C3", "eventlog.malformed")),
    ],
)
def test_a_digest_count_that_does_not_fit_is_refused(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot, row: str, count: int
) -> None:
    """None, or more than the header lists."""
    del row
    place = record_ends(boot.event_log)[3] + 8
    forged = boot.event_log[:place] + struct.pack("<I", count) + boot.event_log[place + 4 :]
    verdict.refused(scene.decide(log=forged))


def two_banks(*digests: tuple[int, bytes]) -> bytes:
    """Return a record with these digests, for a log of two banks."""
    parts = [EVENT_HEADER.pack(8, EventType.EV_IPL, len(digests))]
    parts += [struct.pack("<H", alg) + digest for alg, digest in digests]
    return b"".join([*parts, struct.pack("<I", 0)])


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(
            two_banks((HashAlg.SHA1, bytes(20)), (HashAlg.SHA1, bytes(20))),
            marks=attack("C3", "eventlog.malformed"),
            id="one-twice",
        ),
        pytest.param(
            two_banks((HashAlg.SHA1, bytes(20))),
            marks=attack("C3", "eventlog.malformed"),
            id="one-missing",
        ),
        pytest.param(
            two_banks((HashAlg.SHA1, bytes(20)), (HashAlg.SHA384, bytes(48))),
            marks=attack("C4", "eventlog.malformed"),
            id="not-in-the-header",
        ),
        pytest.param(
            two_banks((HashAlg.SHA1, bytes(20)), (0x7777, bytes(32))),
            marks=attack("C4", "eventlog.malformed"),
            id="unknown",
        ),
    ],
)
def test_an_event_has_the_digests_that_the_header_lists(
    local_ca: LocalCA, verdict: Verdict, record: bytes
) -> None:
    """Each of them once, and no other."""
    both = simulate_boot(grub_description(), (HashAlg.SHA1, SHA256))
    scene = Scene.create(local_ca, both)
    verdict.refused(scene.decide(log=both.event_log + record))


def spec_id(body: bytes) -> bytes:
    """Return a first record around a Spec ID event's body."""
    return encode_sha1_event(0, NO_ACTION, bytes(20), body)


def spec_id_body(algorithms: list[tuple[int, int]], *, count: int | None = None) -> bytes:
    """Return the body of a Spec ID Event03 that lists these algorithms and sizes."""
    head = b"Spec ID Event03\0" + bytes(4) + b"\0\2\0\2"
    listed = b"".join(struct.pack("<HH", *each) for each in algorithms)
    number = len(algorithms) if count is None else count
    return head + struct.pack("<I", number) + listed + b"\0"


SOUND: Final = [(int(SHA256), 32)]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            spec_id_body([(int(SHA256), 20)]), marks=attack("C4", "eventlog.malformed"), id="short"
        ),
        pytest.param(
            spec_id_body([(int(SHA256), 0)]), marks=attack("C4", "eventlog.malformed"), id="zero"
        ),
        pytest.param(
            spec_id_body([*SOUND, (int(SHA256), 32)]),
            marks=attack("C4", "eventlog.malformed"),
            id="twice",
        ),
        pytest.param(
            spec_id_body([(0x7777, 32)]), marks=attack("C4", "eventlog.malformed"), id="unknown"
        ),
        pytest.param(spec_id_body([]), marks=attack("C5", "eventlog.malformed"), id="none"),
        pytest.param(
            spec_id_body(SOUND, count=65535),
            marks=attack("C5", "eventlog.malformed"),
            id="65535",
        ),
        pytest.param(
            spec_id_body([(number, 32) for number in range(0x100, 0x1000)]),
            marks=attack("C5", "eventlog.malformed"),
            id="thousands",
        ),
        pytest.param(
            spec_id_body(SOUND)[:-1] + b"\xff",
            marks=attack("C5", "eventlog.malformed"),
            id="vendor-info-beyond",
        ),
        pytest.param(
            spec_id_body(SOUND) + b"surplus",
            marks=attack("C5", "eventlog.malformed"),
            id="vendor-info-short",
        ),
        pytest.param(
            spec_id_body(SOUND).replace(b"Event03", b"Event02"),
            marks=attack("C5", "eventlog.malformed"),
            id="event02",
        ),
        pytest.param(spec_id_body(SOUND)[:20], marks=attack("C5", "eventlog.malformed"), id="cut"),
    ],
)
def test_a_header_that_lies_is_refused(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot, body: bytes
) -> None:
    """Every later field would be read at another place."""
    rest = boot.event_log[record_ends(boot.event_log)[0] :]
    verdict.refused(scene.decide(log=spec_id(body) + rest))


@benign("C5")
def test_a_second_header_changes_no_sizes(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """Within the log it is an event like any other that is not measured."""
    lie = spec_id_body([(int(SHA256), 20)])
    second = event(0, NO_ACTION, data=lie)
    verdict.accepted(scene.decide(log=boot.event_log + second))


# -- C6 to C9: what is unknown, and what does not count


@benign("C6")
def test_an_unknown_bank_beside_a_known_one_does_not_matter(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """SM3 digests of a machine made for another market; policy demands SHA-256."""
    banks = (HashAlg.SM3_256, SHA256)
    good = simulate_boot(grub_description())
    events = [
        replace(each, digests={**each.digests, HashAlg.SM3_256: b"\5" * 32}) for each in good.events
    ]
    scene = Scene.create(local_ca, good)
    verdict.accepted(scene.decide(log=encode_event_log(events, banks)))


@benign("C6")
def test_a_bank_of_no_known_algorithm_does_not_matter(local_ca: LocalCA, verdict: Verdict) -> None:
    """The header says how long its digests are; nothing else is read of them."""
    good = simulate_boot(grub_description())
    records = [spec_id(spec_id_body([*SOUND, (0x7777, 12)]))]
    for each in good.events:
        both = struct.pack("<H32sH12s", SHA256, each.digests[SHA256], 0x7777, bytes(12))
        head = EVENT_HEADER.pack(each.pcr, each.type, 2)
        records.append(head + both + struct.pack("<I", len(each.data)) + each.data)
    scene = Scene.create(local_ca, good)
    verdict.accepted(scene.decide(log=b"".join(records)))


UNKNOWN_TYPES: Final = (0x20, 0x7FFFFFFF, 0x80001234, 0xFFFFFFFF)


@benign("C7")
@pytest.mark.parametrize("kind", UNKNOWN_TYPES, ids=hex)
def test_an_event_of_unknown_type_is_kept_and_approved_like_any_other(
    local_ca: LocalCA, verdict: Verdict, kind: int
) -> None:
    """It is measured, so a reference learned from the boot has it."""
    good = simulate_boot(grub_description())
    odd = insert(good, 1, Where.MACHINE, measured(0, kind, b"\xff" * 300))
    verdict.accepted(Scene.create(local_ca, odd).decide())


@attack("C7", "eventlog.pcr1.unknown-event")
@pytest.mark.parametrize("kind", UNKNOWN_TYPES, ids=hex)
def test_an_event_of_unknown_type_is_trusted_with_nothing(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot, kind: int
) -> None:
    """Where it is new, the boot is another, whatever the event says it is."""
    odd = insert(boot, 1, Where.MACHINE, measured(1, kind, b"harmless"))
    scene.node.boot(odd)
    verdict.refused(scene.decide())


@attack("C8", "eventlog.malformed")
@pytest.mark.parametrize("pcr", [24, 31, 255, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_pcr_that_no_tpm_has_is_refused(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot, pcr: int
) -> None:
    """An event that extends it is nothing that any TPM did."""
    verdict.refused(scene.decide(log=boot.event_log + event(pcr, EventType.EV_IPL)))


@benign("C8")
def test_windows_names_no_pcr_in_an_event_that_is_not_measured(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """0xFFFFFFFF, in an EV_NO_ACTION event only."""
    verdict.accepted(scene.decide(log=boot.event_log + event(0xFFFFFFFF, NO_ACTION)))


@benign("C9")
@pytest.mark.parametrize("digest", [bytes(32), b"\x11" * 32], ids=["zeros", "a-digest"])
def test_an_event_that_is_not_measured_extends_nothing(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot, digest: bytes
) -> None:
    """Whatever digest it carries, and wherever it stands."""
    first = record_ends(boot.event_log)[0]
    odd = event(4, NO_ACTION, digest, b"SP800-155 Event3 or anything")
    verdict.accepted(scene.decide(log=boot.event_log[:first] + odd + boot.event_log[first:]))
    verdict.accepted(scene.decide(log=boot.event_log + odd))


@attack("C9", "eventlog.pcr8.replay-mismatch")
def test_an_event_that_was_measured_cannot_be_called_one_that_was_not(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """Hiding the kernel's command line by its type leaves the PCR unexplained."""
    number = find_event(boot, pcr=8, containing=b"kernel_cmdline")
    hidden = tamper(boot, number, Where.LOG, type=NO_ACTION)
    verdict.refused(scene.decide(log=hidden.event_log))


# -- C10, C11: where PCR 0 starts

LOCALITY: Final = b"StartupLocality\0"


@pytest.mark.parametrize(
    ("data", "pcr"),
    [
        pytest.param(LOCALITY + b"\3", 0, marks=attack("C10", "eventlog.pcr0.replay-mismatch")),
        pytest.param(LOCALITY + b"\4", 0, marks=attack("C10", "eventlog.pcr0.replay-mismatch")),
        pytest.param(LOCALITY + b"\7", 0, marks=attack("C10", "eventlog.malformed")),
        pytest.param(LOCALITY + b"\1", 0, marks=attack("C10", "eventlog.malformed")),
        pytest.param(LOCALITY, 0, marks=attack("C10", "eventlog.malformed")),
        pytest.param(LOCALITY + b"\3\0", 0, marks=attack("C10", "eventlog.malformed")),
        pytest.param(LOCALITY + b"\3", 1, marks=benign("C10")),
        pytest.param(LOCALITY + b"\0", 0, marks=benign("C10")),
    ],
    ids=["3", "4", "7", "1", "short", "long", "other-pcr", "true"],
)
def test_a_startup_locality_that_is_not_the_machines(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot, data: bytes, pcr: int
) -> None:
    """It moves the start of PCR 0 alone, and must then lead to the quoted value."""
    first = record_ends(boot.event_log)[0]
    stated = event(pcr, NO_ACTION, data=data)
    result = scene.decide(log=boot.event_log[:first] + stated + boot.event_log[first:])
    if result.leases:
        verdict.accepted(result)
    else:
        verdict.refused(result)


@benign("C10")
def test_a_startup_locality_after_the_first_measurement_counts_for_nothing(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """Anybody can append an event that is not measured."""
    late = event(0, NO_ACTION, data=LOCALITY + b"\3")
    verdict.accepted(scene.decide(log=boot.event_log + late))


@attack("C10", "eventlog.malformed")
def test_two_startup_localities_are_refused(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """They cannot both be true."""
    first = record_ends(boot.event_log)[0]
    both = b"".join(event(0, NO_ACTION, data=LOCALITY + bytes([each])) for each in (0, 3))
    verdict.refused(scene.decide(log=boot.event_log[:first] + both + boot.event_log[first:]))


def with_hcrtm(good: SimulatedBoot) -> SimulatedBoot:
    """Return the boot of a machine whose hardware makes the first measurement."""
    first = measured(0, EventType.EV_EFI_HCRTM_EVENT, b"HCRTM")
    return boot_of_events([first, *good.events], (SHA256,), startup_locality=4)


@benign("C11")
def test_a_boot_measured_by_hardware_starts_at_locality_4(
    local_ca: LocalCA, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """The event of the hardware says so; no statement of a locality is needed."""
    hardware = with_hcrtm(boot)
    scene = Scene.create(local_ca, hardware)
    scene.node.boot(hardware)
    verdict.accepted(scene.decide())


@attack("C11", "eventlog.pcr0.replay-mismatch")
def test_hardware_that_did_not_measure_cannot_be_claimed(
    local_ca: LocalCA, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """The same events in a TPM that started from locality 0."""
    hardware = with_hcrtm(boot)
    scene = Scene.create(local_ca, hardware)
    scene.node.boot(replace(hardware, startup_locality=0))
    verdict.refused(scene.decide())


# -- C12 to C14: what surrounds a log, and other logs


@pytest.mark.parametrize(
    "surplus",
    [
        pytest.param(bytes(4096), marks=benign("C12"), id="zeros"),
        pytest.param(b"\xff" * 4096, marks=attack("C12", "eventlog.malformed"), id="ones"),
        pytest.param(b"abc", marks=attack("C12", "eventlog.malformed"), id="three-bytes"),
        pytest.param(b"\0\0\0", marks=attack("C12", "eventlog.malformed"), id="three-zeros"),
        pytest.param(bytes(64) + b"x", marks=attack("C12", "eventlog.malformed"), id="behind"),
    ],
)
def test_what_follows_the_last_record(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot, surplus: bytes
) -> None:
    """A log area is filled up with zeros; everything else says something."""
    result = scene.decide(log=boot.event_log + surplus)
    if result.leases:
        verdict.accepted(result)
    else:
        verdict.refused(result)


@benign("C12")
def test_a_confidential_machines_log_is_filled_up_with_ones(verdict: Verdict) -> None:
    """A CCEL lies in an area of such bytes; there, and there alone, they are padding."""
    record = encode_event(2, EventType.EV_IPL, {HashAlg.SHA384: bytes(48)}, b"")
    log = encode_spec_id_event([HashAlg.SHA384], pcr=1) + record
    filled = parse_event_log(log + b"\xff" * 4096)
    assert (filled.padding, len(filled.events)) == (4096, 2)
    assert replay(filled).pcrs == replay(parse_event_log(log)).pcrs
    verdict.noticed(())


@attack("C13", "eventlog.malformed")
def test_two_logs_in_one_are_refused(scene: Scene, verdict: Verdict, boot: SimulatedBoot) -> None:
    """The second header is no record of the first log."""
    verdict.refused(scene.decide(log=boot.event_log * 2))


@attack("C13", "eventlog.pcr4.replay-mismatch", "eventlog.pcr4.separator-repeated")
def test_the_events_of_two_boots_do_not_lead_to_one(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """A log that a resume glued to the one before, header left out."""
    rest = boot.event_log[record_ends(boot.event_log)[0] :]
    verdict.refused(scene.decide(log=boot.event_log + rest))


@attack("C14", "eventlog.bank.missing")
def test_a_sha1_log_explains_no_sha256_quote(local_ca: LocalCA, verdict: Verdict) -> None:
    """In the old format, and in the new one with the SHA-1 bank alone."""
    both = simulate_boot(grub_description(), (HashAlg.SHA1, SHA256))
    scene = Scene.create(local_ca, both)
    only = [
        replace(each, digests={HashAlg.SHA1: each.digests[HashAlg.SHA1]}) for each in both.events
    ]
    for log in (encode_sha1_event_log(only), encode_event_log(only, [HashAlg.SHA1])):
        verdict.refused(scene.decide(log=log), "eventlog.bank.missing")


# -- C15: cost


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@attack("C15", "eventlog.pcr8.replay-mismatch")
def test_twenty_thousand_events_cost_a_moment(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """Time grows with the bytes, and the findings do not grow with the events."""
    record = event(8, EventType.EV_IPL, b"\2" * 32, b"grub_cmd: x\0")
    results = []
    assert timed(lambda: results.append(scene.decide(log=boot.event_log + record * 20_000))) < 5
    verdict.refused(results[0])
    assert len(results[0].findings) < 100


@attack("C15", "eventlog.malformed")
def test_more_events_than_any_boot_has_are_not_read(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """A log of the smallest events, as long as a log may be."""
    record = event(8, EventType.EV_IPL)
    log = boot.event_log + record * (8 * 1024 * 1024 // len(record))
    results = []
    assert timed(lambda: results.append(scene.decide(log=log))) < 5
    verdict.refused(results[0])


@attack("C15", "eventlog.pcr8.replay-mismatch")
def test_events_within_events_are_not_followed_without_end(
    scene: Scene, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """Megabytes of headers that each announce another one."""
    nested = struct.pack("<II", 0x40010001, 0) * 100_000
    record = event(8, EventType.EV_EVENT_TAG, SHA256.digest(nested), nested)
    results = []
    assert timed(lambda: results.append(scene.decide(log=boot.event_log + record))) < 5
    verdict.refused(results[0])
