"""The chain that a node's decisions form: each way to break it, and only that."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Final

import pytest

from bootlease.audit.rows import UNKNOWN_STATE, Link, NodeRow
from bootlease.audit.storeddecisions import Chains
from bootlease.lineage import HighWaterMark
from bootlease.model import ClockInfo

NODE: Final = bytes(32)
ENROLMENT: Final = b"\x0e" * 32
STATE: Final = b"state"


def mark(clock: int) -> bytes:
    """Return how far a TPM's counters had come."""
    return HighWaterMark.of(ClockInfo(clock, 1, 0, safe=True)).encode()


def digest(data: bytes) -> bytes:
    """Return what stands for a state in a link."""
    return hashlib.sha256(data).digest()


FIRST: Final = Link(
    number=1,
    place=(1, 5),
    node=NODE,
    digest=b"\x01" * 32,
    previous=None,
    prior=None,
    after=digest(STATE),
    high_water=HighWaterMark().encode(),
    counters=mark(10),
)
SECOND: Final = replace(
    FIRST,
    number=2,
    place=(1, 6),
    digest=b"\x02" * 32,
    previous=FIRST.digest,
    prior=FIRST.after,
    high_water=mark(10),
    counters=mark(20),
)
STANDS: Final = NodeRow(NODE, ENROLMENT, mark(20), STATE, SECOND.digest)


def broken(*links: Link) -> list[str]:
    """Return the ids and sentences about a chain."""
    found = [each.finding for each in Chains().follow(links)]
    return [f"{each.id}: {each.message}" for each in found]


def test_a_sound_chain_is_found_so() -> None:
    """Two decisions that follow each other, and the node where they left it."""
    chains = Chains()
    assert list(chains.follow([FIRST, SECOND])) == []
    assert list(chains.end([STANDS], {(NODE, ENROLMENT)})) == []


def test_a_gap_is_found() -> None:
    """Decisions are numbered without one missing."""
    assert broken(FIRST, replace(SECOND, number=3)) == [
        "stored.decision.missing: Decisions before this one are gone."
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"place": FIRST.place}, "The ledger has it before the one before it."),
        ({"previous": None}, "The decision does not name the node's decision before it."),
        (
            {"high_water": mark(9)},
            "The decision started from another high-water mark than the one before left.",
        ),
        (
            {"prior": digest(b"other")},
            "The decision started from another state than the one before left.",
        ),
    ],
)
def test_a_broken_link_is_found(change: dict[str, Any], problem: str) -> None:
    """Each part of a link has a check that finds it alone."""
    assert broken(FIRST, replace(SECOND, **change)) == [f"stored.chain.broken: {problem}"]


def test_a_lineage_that_nothing_began_is_found() -> None:
    """The first decision of a node continues nothing."""
    assert broken(replace(FIRST, prior=digest(STATE))) == [
        "stored.chain.broken: The decision continues a lineage that nothing began."
    ]


def test_what_was_let_go_is_taken_from_the_next_record() -> None:
    """After evidence that is gone, the next record's word on state and counters is all there is."""
    gone = replace(FIRST, after=UNKNOWN_STATE, counters=b"")
    assert broken(gone, replace(SECOND, prior=digest(b"any"), high_water=mark(15))) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"enrolment": bytes(32)}, "Its enrolment."),
        ({"decision": FIRST.digest}, "Its last decision."),
        ({"high_water": mark(19)}, "Its high-water mark."),
        ({"prior": b"other"}, "Its lineage's state."),
    ],
)
def test_a_node_elsewhere_is_found(change: dict[str, Any], message: str) -> None:
    """A node stands where its last decision left it, column by column."""
    chains = Chains()
    assert list(chains.follow([FIRST, SECOND])) == []
    found = [each.finding for each in chains.end([replace(STANDS, **change)], {(NODE, ENROLMENT)})]
    assert [(each.id, each.message) for each in found] == [("stored.node.differs", message)]


def test_a_node_that_is_gone_is_missed_where_nodes_must_be() -> None:
    """An export has none; a verifier's own database has all."""
    chains = Chains()
    assert list(chains.follow([FIRST])) == []
    assert [each.finding.id for each in chains.end([], set())] == ["stored.node.missing"]
    assert list(chains.end([], set(), demanded=False)) == []
