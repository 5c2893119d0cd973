"""The names of what is tolerated are in records for good."""

from __future__ import annotations

from bootlease.endorsement import Tolerance


def test_the_ids_are_those_of_the_records() -> None:
    """Another name for a deviation would be another deviation to whoever reads old records."""
    assert {each.finding().id for each in Tolerance} == {
        "endorsement.tolerated.nv-frame",
        "endorsement.tolerated.padding",
        "endorsement.tolerated.set-order",
        "endorsement.tolerated.ecdsa-parameters",
        "endorsement.tolerated.oaep-key",
        "endorsement.tolerated.no-key-usage",
        "endorsement.tolerated.sha1-signature",
    }
