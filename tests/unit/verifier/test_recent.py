"""What is remembered of a node between its renewals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from bootlease.endorsement import Enrolment
from bootlease.evidence import Challenge
from bootlease.lineage import HighWaterMark
from bootlease.model import HashAlg
from bootlease.ports import DecisionCommit, EnrolledNode, StoredLineage
from bootlease.verifier.recent import Left, Recent

LATER = HighWaterMark(1, 0, 600)
NODE = EnrolledNode(cast("Enrolment", None), 3, (), HighWaterMark(1, 0, 500))


def challenge(node: bytes, nonce: bytes) -> Challenge:
    """The challenge that rode in an answer."""
    return Challenge(nonce, node, 1_000, 1_120, {HashAlg.SHA256: (0, 7)})


@dataclass(frozen=True)
class Commit:
    """The part of a commit that is looked at."""

    node: bytes = b"n" * 32
    next_challenge: Challenge | None = None
    high_water: HighWaterMark = NODE.high_water
    counters: HighWaterMark = LATER
    lineage_version: int = 4
    lineage: None = None
    digest: bytes = b"d" * 32


def granted(number: int = 0, **changes: object) -> DecisionCommit:
    """A grant to the node of that number."""
    node = bytes([number]) * 32
    commit = Commit(node=node, next_challenge=challenge(node, bytes([number + 100]) * 32))
    return cast("DecisionCommit", replace(commit, **changes))  # type: ignore[arg-type]  # any field


def test_a_grant_leaves_what_the_store_would_say() -> None:
    """The mark raised, the lineage one version on, and the challenge that rode in the answer."""
    recent, commit = Recent(), granted()
    recent.keep(NODE, commit)
    assert commit.next_challenge is not None
    assert recent.take(bytes(32), b"d" * 32) == Left(
        replace(NODE, high_water=LATER),
        StoredLineage(5, None, b"d" * 32),
        commit.next_challenge,
    )


def test_a_mark_is_never_lowered() -> None:
    """As in the store."""
    recent = Recent()
    recent.keep(NODE, granted(counters=HighWaterMark(0, 9, 900)))
    left = recent.take(bytes(32), b"d" * 32)
    assert left is not None
    assert left.node.high_water == NODE.high_water


def test_it_is_taken_once() -> None:
    """A second request in the same challenge's name hears from the store."""
    recent = Recent()
    recent.keep(NODE, granted())
    assert recent.take(bytes(32), b"d" * 32) is not None
    assert recent.take(bytes(32), b"d" * 32) is None


def test_nobody_else_opens_it_or_empties_it() -> None:
    """Another challenge, none, and another node find nothing and take nothing."""
    recent = Recent()
    recent.keep(NODE, granted())
    assert recent.take(bytes(32), b"x" * 32) is None
    assert recent.take(bytes(32), None) is None
    assert recent.take(b"\1" * 32, b"d" * 32) is None
    assert recent.take(bytes(32), b"d" * 32) is not None


def test_a_refusal_is_forgotten() -> None:
    """It has no next challenge, and ends the lineage."""
    recent = Recent()
    recent.keep(NODE, granted())
    recent.keep(NODE, granted(next_challenge=None))
    assert recent.take(bytes(32), b"d" * 32) is None


def test_memory_is_bounded_in_nodes() -> None:
    """The grant that is longest ago is forgotten first; a renewal counts as new."""
    recent = Recent(at_most=2)
    for number in (0, 1, 0, 2):
        recent.keep(NODE, granted(number))
    assert recent.take(bytes([1]) * 32, bytes([101]) * 32) is None
    assert recent.take(bytes([0]) * 32, bytes([100]) * 32) is not None
    assert recent.take(bytes([2]) * 32, bytes([102]) * 32) is not None
