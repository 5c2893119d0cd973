"""Reference values: what a good boot measures, and how far a boot is from it."""

from bootlease.reference.difference import Change, Difference, diff
from bootlease.reference.file import parse_reference, serialise_reference
from bootlease.reference.learn import DEFAULT_PCRS, learn
from bootlease.reference.match import ReferenceOutcome, appraise_reference, note_unknown_names
from bootlease.reference.measured import (
    Measured,
    describe_measured,
    expected_value,
    measured_events,
)
from bootlease.reference.values import (
    EventsReference,
    KnownEvent,
    PCRReference,
    ReferenceSet,
    ValueReference,
    is_reference_name,
)

__all__ = [
    "DEFAULT_PCRS",
    "Change",
    "Difference",
    "EventsReference",
    "KnownEvent",
    "Measured",
    "PCRReference",
    "ReferenceOutcome",
    "ReferenceSet",
    "ValueReference",
    "appraise_reference",
    "describe_measured",
    "diff",
    "expected_value",
    "is_reference_name",
    "learn",
    "measured_events",
    "note_unknown_names",
    "parse_reference",
    "serialise_reference",
]
