"""Measured-boot event logs: parsing, replay, what a digest covers, description, writing.

``parse_event_log`` gives an unverified :class:`EventLog`, ``replay`` the PCRs its digests lead
to. Only when those equal the PCRs of a verified quote are the digests attested, and event data
only as far as :func:`verified_data` finds it under a digest.
"""

from bootlease.eventlog.coverage import (
    DATA_IS_MEASURED,
    Coverage,
    VerifiedData,
    contradicts_digest,
    verified_data,
)
from bootlease.eventlog.describe import describe
from bootlease.eventlog.encode import (
    EventRecord,
    encode_event,
    encode_event_log,
    encode_sha1_event,
    encode_sha1_event_log,
    encode_spec_id_event,
    encode_startup_locality,
)
from bootlease.eventlog.eventtypes import EventType, type_name
from bootlease.eventlog.log import (
    DEFAULT_LIMITS,
    Event,
    EventLog,
    EventLogLimits,
    LogFormat,
    bank_label,
)
from bootlease.eventlog.parse import parse_event_log
from bootlease.eventlog.replay import ReplayedLog, replay

__all__ = [
    "DATA_IS_MEASURED",
    "DEFAULT_LIMITS",
    "Coverage",
    "Event",
    "EventLog",
    "EventLogLimits",
    "EventRecord",
    "EventType",
    "LogFormat",
    "ReplayedLog",
    "VerifiedData",
    "bank_label",
    "contradicts_digest",
    "describe",
    "encode_event",
    "encode_event_log",
    "encode_sha1_event",
    "encode_sha1_event_log",
    "encode_spec_id_event",
    "encode_startup_locality",
    "parse_event_log",
    "replay",
    "type_name",
    "verified_data",
]
