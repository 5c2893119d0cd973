"""The values that every layer speaks in."""

from __future__ import annotations

from typing import Any

import pytest

from bootlease.model import Effect, Finding, FixedPCRValues, HashAlg, refusals


def test_a_finding_reads_as_one_line_with_what_was_compared() -> None:
    """Effect, sentence, expected, seen and id stand in one line."""
    finding = Finding("a.b", "Something differs.", expected="x", seen="y")
    assert str(finding) == "refused: Something differs. (expected x, seen y) [a.b]"


def test_a_note_is_not_called_a_refusal() -> None:
    """A finding that only notes says so."""
    assert str(Finding("a.b", "Odd.", Effect.NOTES)) == "note: Odd. [a.b]"


def test_a_value_that_the_message_tells_is_not_told_twice() -> None:
    """What already stands in the sentence is left out of the comparison."""
    assert str(Finding("a.b", "It is 7.", seen="7")) == "refused: It is 7. [a.b]"


def test_absent_members_are_left_out_of_a_findings_map() -> None:
    """The map for JSON and CBOR has no nulls."""
    assert Finding("a.b", "m", pcr=4).as_dict() == {
        "id": "a.b",
        "effect": "refuses",
        "message": "m",
        "pcr": 4,
    }


def test_only_refusing_findings_refuse() -> None:
    """Notes are told apart from refusals."""
    note, refusal = Finding("a", "m", Effect.NOTES), Finding("b", "m")
    assert refusals((note, refusal)) == (refusal,)


@pytest.mark.parametrize("alg", HashAlg)
def test_every_hash_algorithm_is_known_by_its_label_and_size(alg: HashAlg) -> None:
    """Label, size and digest agree."""
    assert HashAlg.from_label(alg.label) is alg
    assert len(alg.digest(b"")) == alg.size


def test_an_unknown_hash_label_is_an_error() -> None:
    """A typo never becomes another algorithm."""
    with pytest.raises(ValueError, match="md5"):
        HashAlg.from_label("md5")


def test_fixed_pcr_values_are_a_copy_that_nobody_can_change() -> None:
    """What the values came from may change; they do not."""
    bank = {0: bytes(32)}
    values: Any = FixedPCRValues({HashAlg.SHA256: bank})
    bank[0] = b"\1" * 32
    assert values[HashAlg.SHA256] == {0: bytes(32)}
    with pytest.raises(TypeError):
        values[HashAlg.SHA256][0] = bytes(32)
    with pytest.raises(TypeError):
        values[HashAlg.SHA384] = {}


def test_fixed_pcr_values_compare_by_content() -> None:
    """Equal values are equal and hash alike, in whatever order and mapping they stand."""
    low, high = {0: bytes(32)}, {7: b"\7" * 32}
    one = FixedPCRValues({HashAlg.SHA256: low | high, HashAlg.SHA1: {}})
    other = FixedPCRValues({HashAlg.SHA1: {}, HashAlg.SHA256: high | low})
    assert one == other == {HashAlg.SHA256: low | high, HashAlg.SHA1: {}}
    assert hash(one) == hash(other)
    assert one != FixedPCRValues({HashAlg.SHA256: low})
    assert one != {HashAlg.SHA256: low}
    assert (len(one), set(one)) == (2, {HashAlg.SHA1, HashAlg.SHA256})
