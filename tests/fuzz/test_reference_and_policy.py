"""References and policies of any content: parsed, or MalformedError, never any other."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.eventlog import EventRecord, encode_event_log, parse_event_log, replay
from bootlease.model import HashAlg
from bootlease.policy import parse_policy
from bootlease.reference import (
    EventsReference,
    KnownEvent,
    ReferenceSet,
    ValueReference,
    appraise_reference,
    diff,
    expected_value,
    learn,
    parse_reference,
    serialise_reference,
)
from bootlease.testing.scene import POLICY

BANK = HashAlg.SHA256
NOW = 1_800_000_000
DIGESTS = st.integers(0, 5).map(lambda number: bytes([number]) * 32)
EVENTS = st.lists(
    st.builds(
        KnownEvent,
        st.sampled_from([1, 4, 13, 0x80000003, 0xABCD]),
        DIGESTS,
        st.text(st.characters(categories=["L", "N", "P"]), max_size=20),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda event: event.key,
).map(tuple)
CONSTRAINTS = st.one_of(
    EVENTS.map(EventsReference),
    st.builds(
        ValueReference,
        st.lists(DIGESTS, min_size=1, max_size=3, unique=True).map(tuple),
        st.one_of(st.just(()), EVENTS),
    ),
)
TIMES = st.one_of(st.none(), st.integers(0, 10))
SETS = st.builds(
    ReferenceSet,
    st.sampled_from(["a", "debian-12"]),
    st.sampled_from(["1", "2026.11"]),
    st.just(BANK),
    st.dictionaries(st.integers(0, 23), CONSTRAINTS, min_size=1, max_size=4),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(5, 10)),
)
RECORDS = st.lists(
    st.builds(
        lambda pcr, kind, data: EventRecord(pcr, kind, {BANK: BANK.digest(data)}, data),
        st.integers(0, 9),
        st.sampled_from([1, 3, 4, 13, 0x80000001, 0x80000003, 0x800000E0, 0xABCD]),
        st.one_of(st.binary(max_size=40), st.just(bytes(4)), st.text(max_size=9).map(str.encode)),
    ),
    min_size=1,
    max_size=12,
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["schema", "name", "version", "bank", "pcrs", "0", "match", "events"]),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=12,
)


@given(st.binary(max_size=200))
def test_random_bytes_are_malformed(data: bytes) -> None:
    """Neither file form has another error."""
    for parse in (parse_reference, parse_policy):
        try:
            parse(data)
        except MalformedError:
            continue
        raise AssertionError("random bytes were accepted")


@given(JSON)
def test_any_json_is_malformed_or_a_set(value: object) -> None:
    """Structure alone never gets through."""
    try:
        parse_reference(json.dumps(value).encode())
    except MalformedError:
        return
    raise AssertionError("accepted without the members of a set")


@given(SETS)
def test_a_set_survives_its_file(reference: ReferenceSet) -> None:
    """What was registered is what was written."""
    again = parse_reference(serialise_reference(reference))
    assert again.digest == reference.digest
    assert diff(reference, again) == ()


@given(SETS, SETS)
def test_sets_differ_exactly_where_their_digests_do(
    first: ReferenceSet, second: ReferenceSet
) -> None:
    """A difference of content is a difference in words, but for descriptions."""
    if first.digest == second.digest:
        assert diff(first, second) == ()
    elif diff(first, second) == ():
        assert {event.key for each in first.pcrs.values() for event in each.events} == {
            event.key for each in second.pcrs.values() for event in each.events
        }


@given(st.data())
def test_a_damaged_policy_is_malformed_or_another_policy(data: st.DataObject) -> None:
    """Whatever is changed, the answer is a policy by all rules or one error."""
    text = bytearray(POLICY.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        policy = parse_policy(bytes(text))
    except MalformedError:
        return
    assert 0 < policy.lease.life <= 900
    assert policy.accept
    assert policy.quote.pcrs
    assert HashAlg.SHA1 not in policy.quote.banks


@given(RECORDS, st.lists(SETS, max_size=3))
def test_appraising_any_log_gives_a_match_or_findings(
    records: list[EventRecord], references: list[ReferenceSet]
) -> None:
    """Never both, never neither; and every word of a finding can be printed."""
    log = replay(parse_event_log(encode_event_log(records, (BANK,))))
    quoted = {BANK: {pcr: expected_value(log, BANK, pcr) for pcr in range(24)}}
    outcome = appraise_reference(log, quoted, references, {BANK: tuple(range(10))}, now=5)
    assert (outcome.reference is None) == bool(outcome.findings)
    assert all(finding.message.isprintable() for finding in outcome.findings)


@given(RECORDS)
def test_what_was_learned_is_accepted(records: list[EventRecord]) -> None:
    """A boot matches what was learned from it, by value and by events."""
    log = replay(parse_event_log(encode_event_log(records, (BANK,))))
    pcrs = tuple(range(10))
    quoted = {BANK: {pcr: expected_value(log, BANK, pcr) for pcr in pcrs}}
    measured = tuple(sorted({record.pcr for record in records if record.type != 3}))
    for match_events in ((), measured):
        learned = learn(
            log, quoted, name="x", version="1", bank=BANK, pcrs=pcrs, match_events=match_events
        )
        outcome = appraise_reference(log, quoted, [learned], {BANK: pcrs}, now=NOW)
        assert outcome.findings == ()
        assert parse_reference(serialise_reference(learned)).digest == learned.digest
