"""All that an explanation asks for, carried elsewhere."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.explain import LookingBack, Pieces, explain_decision, gather
from bootlease.explain.pieces import PIECES_TYPE
from bootlease.testing.boot import SimulatedBoot
from bootlease.testing.recorded import Decided, RecordedHistory
from tests.unit.explain.conftest import Boots, explained


@pytest.fixture
def refused(boots: Boots, shell: SimulatedBoot) -> Decided:
    """A refusal after a grant and another refusal."""
    boots(shell)
    return boots(shell)


def gathered(history: RecordedHistory, decided: Decided) -> bytes:
    """Return the pieces of a decision."""
    return gather(decided.record.digest, LookingBack(history))


def test_an_explanation_made_elsewhere_is_the_same(
    history: RecordedHistory, refused: Decided
) -> None:
    """From its pieces, a decision is explained as from where it is kept."""
    pieces = Pieces(gathered(history, refused))
    elsewhere = explain_decision(refused.record.digest, pieces, ("--data", "v"))
    assert elsewhere == explained(history, refused)


def test_without_evidence_the_pieces_explain_as_much(
    history: RecordedHistory, refused: Decided
) -> None:
    """What retention let go is missing here as there, with the same note."""
    history.documents.clear()
    history.pruned_before = refused.record.time + 1
    elsewhere = explain_decision(
        refused.record.digest, Pieces(gathered(history, refused)), ("--data", "v")
    ).explanation
    assert elsewhere == explained(history, refused).explanation
    assert [note.id for note in elsewhere.notes] == ["replay.input.pruned"]


@pytest.mark.parametrize("name", ["evidence", "logs", "policies", "references", "enrolments"])
def test_an_altered_piece_is_not_found(
    history: RecordedHistory, refused: Decided, name: str
) -> None:
    """A piece with another digest is none that the record names."""
    members = cbor.decode(gathered(history, refused), max_bytes=1 << 24)
    members[name] = [each[:-1] + bytes([each[-1] ^ 1]) for each in members[name]]
    made = explain_decision(refused.record.digest, Pieces(cbor.encode(members)))
    assert [note.id for note in made.explanation.notes] == ["replay.input.missing"]
    assert made.explanation.timeline == ()


def test_pieces_of_another_decision_are_refused(history: RecordedHistory, refused: Decided) -> None:
    """They hold no decision of the digest that was asked for."""
    pieces = Pieces(gathered(history, history.decided[0]))
    with pytest.raises(VerificationError):
        explain_decision(refused.record.digest, pieces)


def test_the_form_is_strict(history: RecordedHistory, refused: Decided) -> None:
    """Another type, a member more, fewer or of another kind is malformed."""
    good = cbor.decode(gathered(history, refused), max_bytes=1 << 24)
    assert good["type"] == PIECES_TYPE
    for changed in (
        {"type": "something/1"},
        {"more": 1},
        {"logs": b""},
        {"logs": [1]},
        {"roots": [1]},
        {"decisions": [[b""]]},
        {"decisions": [[1, []]]},
        {"before": [None, 0]},
        {"before": [None, "0", None]},
        {"before": [None, 0, "0"]},
        {"before": [[], 0, 0]},
        {"pruned": 1},
    ):
        with pytest.raises(MalformedError):
            Pieces(cbor.encode({**good, **changed}))
    del good["logs"]
    with pytest.raises(MalformedError):
        Pieces(cbor.encode(good))


@hypothesis.given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_malformed(data: bytes) -> None:
    """No bytes raise anything else."""
    try:
        Pieces(data)
    except MalformedError:
        return
