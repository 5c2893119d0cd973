"""Lineage: when a renewal continues, and when a new one must begin."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence import VerifiedEvidence
from bootlease.ima import IMAState
from bootlease.lineage import IMAProgress, Prior, continue_lineage, head_after
from bootlease.lineage.continuation import MAX_HEADS, MAX_SEQUENCE
from bootlease.model import ClockInfo, HashAlg
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import Scene

NOW = 1_800_000_000
LOG = b"\x11" * 32
PRIOR = Prior(
    root=b"\x01" * 32,
    head=b"\x02" * 32,
    sequence=4,
    clock_info=ClockInfo(10, 3, 1, safe=True),
    expires_at=NOW + 60,
    log_digests={"tcg": LOG},
    policy_epoch=2,
    began_at=NOW - 100,
    heads=(b"\x03" * 32, b"\x04" * 32),
)


@pytest.fixture(scope="module")
def verified() -> VerifiedEvidence:
    """Evidence as its AK signed it; each test changes what it is about."""
    scene = Scene.create(LocalCA.create())
    challenge = scene.challenge()
    return scene.verify(scene.attest(challenge), challenge)


def renewal(verified: VerifiedEvidence, **changes: object) -> VerifiedEvidence:
    """Return a renewal of ``PRIOR`` that is sound but for ``changes``."""
    clock = changes.pop("clock", PRIOR.clock_info)
    assert isinstance(clock, ClockInfo)
    members: dict[str, object] = {
        "previous": PRIOR.head,
        "quote": dataclasses.replace(verified.quote, clock_info=clock),
        "log_digests": {"tcg": LOG},
        "logs": {},
        **changes,
    }
    return dataclasses.replace(verified, **members)  # type: ignore[arg-type]  # any field


def ids(prior: Prior | None, evidence: VerifiedEvidence, now: int = NOW) -> list[str]:
    """Return the ids of the findings."""
    return [finding.id for finding in continue_lineage(prior, evidence, now=now)[1]]


def test_a_renewal_continues(verified: VerifiedEvidence) -> None:
    """Root stays, sequence rises, and the head before is named."""
    lineage, findings = continue_lineage(PRIOR, renewal(verified), now=NOW)
    assert findings == ()
    assert lineage.root == PRIOR.root
    assert lineage.previous == PRIOR.head
    assert lineage.sequence == 5


def test_a_new_lineage_is_named_by_its_evidence(verified: VerifiedEvidence) -> None:
    """Without a previous head, full evidence begins a lineage, whatever was before."""
    fresh = renewal(verified, previous=None, logs={"tcg": b"log"})
    for prior in (None, PRIOR):
        lineage, findings = continue_lineage(prior, fresh, now=NOW)
        assert findings == ()
        assert (lineage.root, lineage.previous, lineage.sequence) == (fresh.digest, None, 0)


def test_a_new_lineage_needs_its_logs_in_full(verified: VerifiedEvidence) -> None:
    """A digest of a log that was appraised in another lineage is not enough."""
    assert ids(PRIOR, renewal(verified, previous=None)) == ["lineage.full-evidence-required"]


def test_a_head_that_is_not_live_is_refused(verified: VerifiedEvidence) -> None:
    """An ended lineage cannot be continued."""
    evidence = renewal(verified)
    assert ids(None, evidence) == ["lineage.unknown-head"]
    asked, _ = continue_lineage(None, evidence, now=NOW)
    assert (asked.root, asked.previous, asked.sequence, asked.began_at) == (
        evidence.digest,
        evidence.previous,
        0,
        NOW,
    )


def test_another_head_is_refused(verified: VerifiedEvidence) -> None:
    """Only the last lease is renewed: no fork."""
    assert ids(PRIOR, renewal(verified, previous=b"\x09" * 32)) == ["lineage.head.mismatch"]


@pytest.mark.parametrize("head", PRIOR.heads)
def test_a_second_renewal_of_one_head_is_a_fork(verified: VerifiedEvidence, head: bytes) -> None:
    """Whoever continues what was continued before is a copy of the node's state."""
    assert ids(PRIOR, renewal(verified, previous=head)) == ["lineage.forked"]


def test_heads_are_remembered_over_renewals_and_the_next_lineage(
    verified: VerifiedEvidence,
) -> None:
    """The last few, so that a copy is told from a stranger also after the other began anew."""
    following, _ = continue_lineage(PRIOR, renewal(verified), now=NOW)
    fresh, _ = continue_lineage(PRIOR, renewal(verified, previous=None), now=NOW)
    assert following.heads == fresh.heads == (PRIOR.head, *PRIOR.heads)
    full = dataclasses.replace(PRIOR, head=b"\x08" * 32, heads=following.heads)
    later, _ = continue_lineage(full, renewal(verified, previous=full.head), now=NOW)
    assert later.heads == (full.head, PRIOR.head, PRIOR.heads[0])


def test_a_lineage_remembers_when_it_began(verified: VerifiedEvidence) -> None:
    """Renewals keep the time of the first decision; another lineage has its own."""
    assert continue_lineage(PRIOR, renewal(verified), now=NOW)[0].began_at == PRIOR.began_at
    fresh = renewal(verified, previous=None)
    assert continue_lineage(PRIOR, fresh, now=NOW)[0].began_at == NOW


def test_a_lapsed_lease_is_not_renewed(verified: VerifiedEvidence) -> None:
    """The first second after the end is too late."""
    assert ids(PRIOR, renewal(verified), now=NOW + 59) == []
    assert ids(PRIOR, renewal(verified), now=NOW + 60) == ["lineage.lapsed"]


@pytest.mark.parametrize(("resets", "restarts"), [(4, 1), (3, 2), (4, 0), (2, 1)])
def test_another_boot_is_another_lineage(
    verified: VerifiedEvidence, resets: int, restarts: int
) -> None:
    """Reset or restart ends the lineage (attack A23)."""
    clock = ClockInfo(11, resets, restarts, safe=True)
    assert ids(PRIOR, renewal(verified, clock=clock)) == ["lineage.boot-changed"]


def test_a_log_that_changed_must_come_in_full(verified: VerifiedEvidence) -> None:
    """A longer log is welcome, but not as a digest of something nobody has seen."""
    other = {"tcg": b"\x12" * 32}
    assert ids(PRIOR, renewal(verified, log_digests=other)) == ["lineage.full-evidence-required"]
    assert ids(PRIOR, renewal(verified, log_digests=other, logs={"tcg": b"log"})) == []


def test_all_that_broke_is_told(verified: VerifiedEvidence) -> None:
    """Findings do not hide each other."""
    clock = ClockInfo(11, 4, 0, safe=True)
    broken = renewal(verified, previous=bytes(32), clock=clock, log_digests={"tcg": bytes(32)})
    assert ids(PRIOR, broken, now=NOW + 99) == [
        "lineage.head.mismatch",
        "lineage.lapsed",
        "lineage.boot-changed",
        "lineage.full-evidence-required",
    ]


def test_the_head_is_the_leases() -> None:
    """One lease names the head itself; several do so together, in order; none cannot."""
    first, second = b"\x01" * 32, b"\x02" * 32
    assert head_after([first]) == first
    assert head_after([first, second]) == hashlib.sha256(cbor.encode([first, second])).digest()
    assert head_after([first, second]) != head_after([second, first])
    with pytest.raises(ValueError, match="no head"):
        head_after([])


def test_prior_state_survives_its_encoding() -> None:
    """What the store keeps is what was decided, to the byte."""
    again = Prior.parse(PRIOR.encode())
    assert again == PRIOR
    assert again.encode() == PRIOR.encode()
    assert dataclasses.replace(again, sequence=9).encode() != PRIOR.encode()


@given(
    st.tuples(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1)),
    st.booleans(),
    st.sampled_from([{}, {"tcg": LOG}, {"other": LOG}, {"tcg": LOG, "b": LOG}]),
    st.lists(st.binary(min_size=32, max_size=32), max_size=3),
    st.booleans(),
)
def test_the_written_out_encoding_is_the_deterministic_one(
    numbers: tuple[int, int],
    safe: bool,  # noqa: FBT001 - drawn
    logs: dict[str, bytes],
    heads: list[bytes],
    ima: bool,  # noqa: FBT001 - drawn
) -> None:
    """A state's bytes are those of the general encoder for its members."""
    large, small = numbers
    progress = IMAProgress(IMAState(2, 300, {HashAlg.SHA256: bytes(32)}), b"\x07" * 32)
    prior = Prior(
        root=b"\x01" * 32,
        head=b"\x02" * 32,
        sequence=small,
        clock_info=ClockInfo(large, small, small // 3, safe=safe),
        expires_at=large,
        log_digests=logs,
        policy_epoch=small % 300,
        began_at=large // 5,
        heads=tuple(heads),
        ima=progress if ima else None,
    )
    members = [
        *(prior.root, prior.head, small, [large, small, small // 3, safe], large),
        *(logs, small % 300, large // 5, heads),
    ]
    tail = [[progress.state.encode(), progress.rules]] if ima else []
    assert prior.encode() == cbor.encode([*members, *tail])
    assert Prior.parse(prior.encode()) == prior


def test_how_far_an_ima_list_was_appraised_is_part_of_the_state() -> None:
    """It comes back from its encoding; without it the state is written as if there were none."""
    progress = IMAProgress(IMAState(2, 300, {HashAlg.SHA256: bytes(32)}), b"\x07" * 32)
    prior = dataclasses.replace(PRIOR, ima=progress)
    assert Prior.parse(prior.encode()) == prior
    members = cbor.decode(prior.encode(), max_bytes=4096)
    assert cbor.encode(members[:-1]) == PRIOR.encode()
    state, rules = members[-1]
    for broken in ([], [state], [state, rules, rules], [state, rules[:-1]], [rules, state], [1, 2]):
        with pytest.raises(MalformedError):
            Prior.parse(cbor.encode([*members[:-1], broken]))


@given(st.binary(max_size=128))
def test_random_bytes_are_malformed(data: bytes) -> None:
    """The parser raises MalformedError and nothing else."""
    with pytest.raises(MalformedError):
        Prior.parse(data)


@given(st.integers(0, 8), st.sampled_from([None, -1, b"", b"x", "x", [], {}, {1: b""}, [1, 2]]))
def test_a_member_of_another_kind_is_malformed(number: int, value: object) -> None:
    """Each member has its type and size."""
    members = cbor.decode(PRIOR.encode(), max_bytes=4096)
    members[number] = value
    try:
        Prior.parse(cbor.encode(members))
    except MalformedError:
        return
    assert (number, value) in [(5, {}), (8, [])]


@pytest.mark.parametrize("number", [2, 4, 6, 7])
def test_a_negative_number_is_malformed(number: int) -> None:
    """Sequence, end, epoch and beginning count from zero, which is allowed."""
    members = cbor.decode(PRIOR.encode(), max_bytes=4096)
    members[number] = 0
    Prior.parse(cbor.encode(members))
    members[number] = -1
    with pytest.raises(MalformedError):
        Prior.parse(cbor.encode(members))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_negative_counter_is_malformed(number: int) -> None:
    """Clock, resetCount and restartCount count from zero."""
    members = cbor.decode(PRIOR.encode(), max_bytes=4096)
    members[3][number] = -1
    with pytest.raises(MalformedError):
        Prior.parse(cbor.encode(members))


@pytest.mark.parametrize("logs", [{1: bytes(32)}, {"tcg": "x" * 32}, {"tcg": bytes(31)}])
def test_a_log_that_is_no_digest_by_kind_is_malformed(logs: dict[object, object]) -> None:
    """Logs are named by text, and are digests."""
    members = cbor.decode(PRIOR.encode(), max_bytes=4096)
    members[5] = logs
    with pytest.raises(MalformedError):
        Prior.parse(cbor.encode(members))


def test_as_many_heads_as_may_be_survive() -> None:
    """The bound itself is allowed."""
    full = dataclasses.replace(PRIOR, heads=(bytes(32),) * MAX_HEADS)
    assert Prior.parse(full.encode()) == full


@pytest.mark.parametrize("heads", [[bytes(31)], [bytes(32)] * 4, ["x" * 32], [None]])
def test_heads_of_another_kind_are_malformed(heads: list[object]) -> None:
    """A prior state has a few digests before its head."""
    members = cbor.decode(PRIOR.encode(), max_bytes=4096)
    with pytest.raises(MalformedError):
        Prior.parse(cbor.encode([*members[:8], heads]))


def test_a_lineage_ends_before_no_proof_can_hold_it(verified: VerifiedEvidence) -> None:
    """The last decision that a proof may hold is granted, one more is not."""
    last = dataclasses.replace(PRIOR, sequence=MAX_SEQUENCE - 1)
    assert ids(last, renewal(verified)) == []
    full = dataclasses.replace(PRIOR, sequence=MAX_SEQUENCE)
    assert ids(full, renewal(verified)) == ["lineage.too-long"]
