"""Reference values: what a good boot measures, and how far a boot is from it."""

from bootlease.reference.difference import Change, Difference, diff
from bootlease.reference.file import parse_reference, serialise_reference
from bootlease.reference.imafile import parse_ima_reference, serialise_ima_reference
from bootlease.reference.imamatch import (
    IMADemands,
    IMAOutcome,
    IMASignatures,
    appraise_entries,
)
from bootlease.reference.imaset import IMAReferenceSet
from bootlease.reference.kinds import (
    MAX_ANY_FILE,
    AnyReference,
    kind_of,
    parse_any_canonical_reference,
    parse_any_reference,
    serialise_any_reference,
)
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
    "MAX_ANY_FILE",
    "AnyReference",
    "Change",
    "Difference",
    "EventsReference",
    "IMADemands",
    "IMAOutcome",
    "IMAReferenceSet",
    "IMASignatures",
    "KnownEvent",
    "Measured",
    "PCRReference",
    "ReferenceOutcome",
    "ReferenceSet",
    "ValueReference",
    "appraise_entries",
    "appraise_reference",
    "describe_measured",
    "diff",
    "expected_value",
    "is_reference_name",
    "kind_of",
    "learn",
    "measured_events",
    "note_unknown_names",
    "parse_any_canonical_reference",
    "parse_any_reference",
    "parse_ima_reference",
    "parse_reference",
    "serialise_any_reference",
    "serialise_ima_reference",
    "serialise_reference",
]
