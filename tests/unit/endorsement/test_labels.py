"""Labels: their one form, and that they are in the enrolment record."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.endorsement import Enrolment
from bootlease.endorsement.labels import MAX_LABEL, MAX_LABELS, parse_labels, sorted_labels
from bootlease.errors import MalformedError
from bootlease.testing.store_scene import enrolment

MANY = [f"l{number}" for number in range(MAX_LABELS + 1)]
NO_LABELS = [
    "",
    "a" * (MAX_LABEL + 1),
    "Role=build",
    "role build",
    "role=build\n",
    "rôle",
    "a/b",
    1,
    b"a",
    None,
]


@pytest.mark.parametrize("label", NO_LABELS)
def test_what_is_no_label_is_malformed(label: object) -> None:
    """Letters of other cases and alphabets, blanks, lengths and types that no label has."""
    for read in (parse_labels, sorted_labels):
        with pytest.raises(MalformedError, match="no label"):
            read([label])


def test_labels_have_one_order() -> None:
    """One set of labels has one form, whatever order a person gives them in."""
    assert sorted_labels(["role=build", "a", "a", "x.y_z-1"]) == ("a", "role=build", "x.y_z-1")
    assert parse_labels(["a", "role=build"]) == ("a", "role=build")
    for labels in (["b", "a"], ["a", "a"]):
        with pytest.raises(MalformedError, match="sorted"):
            parse_labels(labels)


def test_there_are_so_many_at_most() -> None:
    """A record stays small."""
    assert len(sorted_labels(MANY[:-1])) == MAX_LABELS
    for read in (parse_labels, sorted_labels):
        with pytest.raises(MalformedError, match="more than"):
            read(sorted(MANY))


def test_labels_are_in_the_record_and_its_digest() -> None:
    """What policy reads as a fact is what the decision names by the record's digest."""
    plain = enrolment()
    labelled = replace(plain, labels=("env=prod", "role=build"))
    again = Enrolment.parse(labelled.encode())
    assert again == labelled
    assert again.labels == ("env=prod", "role=build")
    assert len({each.digest for each in (plain, labelled, replace(plain, labels=("x",)))}) == 3


def test_a_record_with_labels_out_of_form_is_malformed() -> None:
    """One record has one encoding: none is an absent member, and some are sorted."""
    members = cbor.decode(enrolment().encode(), max_bytes=10_000)
    for labels in ([], ["b", "a"], ["A"], "a", MANY):
        with pytest.raises(MalformedError):
            Enrolment.parse(cbor.encode({**members, "labels": labels}))


def test_a_record_is_not_made_with_what_is_no_label() -> None:
    """What is encoded parses."""
    with pytest.raises(ValueError, match="sorted"):
        replace(enrolment(), labels=("b", "a"))


@given(st.lists(st.text(max_size=70) | st.binary(max_size=4) | st.integers(), max_size=40))
def test_labels_parse_or_are_malformed(values: list[object]) -> None:
    """Parse, or MalformedError, never any other."""
    try:
        labels = sorted_labels(values)
    except MalformedError:
        return
    assert parse_labels(labels) == labels
