"""The JSON Schema of a policy file, for editors.

Specification: JSON Schema draft-07, which editors of TOML know; a file names its schema in a first
line ``#:schema policy.schema.json``. It catches what an editor can while somebody types: keys,
types, words and ranges. What relates one key to another is the parser's to say.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Final

from bootlease.evidence.request import MAX_AUDIENCE
from bootlease.model import PCR_COUNT, HashAlg
from bootlease.policy.boot import MAX_IMA_SETS, MAX_PHASE_PATHS, Mode
from bootlease.policy.cedartext import MAX_CEDAR
from bootlease.policy.enrolment import MAX_PATTERNS, Admission, CRLRule, EKAlgorithm
from bootlease.policy.file import DEMAND_WORDS, EFFECT_WORDS, TABLES
from bootlease.policy.values import (
    MAX_CONTINUITY,
    MAX_DELEGATION_DEPTH,
    MAX_LEASES,
    MAX_LIFE,
    MAX_LIST,
    RESETTABLE_PCRS,
    WEAK_BANKS,
)
from bootlease.reference import IMASignatures

Schema = dict[str, Any]

_NAME: Final = "^[a-z0-9][a-z0-9._-]{0,63}$"
_PHASES: Final = "^[a-z0-9][a-z0-9-]{0,63}(:[a-z0-9][a-z0-9-]{0,63}){0,31}$"
_DIGEST: Final = "^[0-9a-f]{64}$"


def policy_schema() -> Schema:
    """Return the schema."""
    tables = {name: _table(name, keys) for name, keys in TABLES.items()}
    off = _object({"appraise": {"const": "off", "description": _TEXTS["ima.appraise"]}})
    tables["ima"] = {"description": _TEXTS["ima"], "oneOf": [off, tables["ima"]]}
    top: Schema = {
        "schema": {"const": 1, "description": "Version of this schema."},
        "id": {
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
            "description": "The policy's name, in tokens and records.",
        },
        "mode": _words((mode.value for mode in Mode), "mode"),
    }
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "bootlease policy"}
    return head | _object(top | tables)


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _table(name: str, keys: Iterable[str]) -> Schema:
    properties = {key: _VALUES[f"{name}.{key}"] for key in keys}
    return {"description": _TEXTS[name], **_object(properties)}


def _words(words: Iterable[str], path: str) -> Schema:
    return {"enum": list(words), "description": _TEXTS[path]}


def _members(kind: type[enum.Enum], path: str) -> Schema:
    return _words((member.value for member in kind), path)


def _list(item: Schema, path: str, *, least: int = 0, most: int = MAX_LIST) -> Schema:
    found: Schema = {"type": "array", "items": item, "uniqueItems": True, "maxItems": most}
    if least:
        found["minItems"] = least
    return found | {"description": _TEXTS[path]}


def _texts(pattern: str, path: str, *, least: int = 0, most: int = MAX_LIST) -> Schema:
    return _list({"type": "string", "pattern": pattern}, path, least=least, most=most)


def _number(least: int, most: int, path: str) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most, "description": _TEXTS[path]}


_TEXTS: Final = {
    "mode": '"report-only" appraises and records, but never issues.',
    "quote": "What must be quoted.",
    "quote.banks": "PCR banks, each of which must be quoted and replay.",
    "quote.pcrs": "PCRs, in every bank.",
    "quote.unsafe_clock": "What a clock that the TPM calls unsafe does to a decision.",
    "references": "What a boot must match.",
    "references.accept": "Names of registered reference sets; a boot must match one of them.",
    "boot": "What the events of a boot must mean, whatever reference set it matches.",
    "boot.secure_boot": "Secure Boot must be on.",
    "boot.deployed_mode": "The firmware must be in deployed mode.",
    "boot.exit_boot_services": "The firmware must have been left once, with nothing afterwards.",
    "boot.option_roms": "What drivers of add-in hardware do to a decision.",
    "boot.unsafe_setup_mode": "What setup or audit mode does, in which anybody enrols keys.",
    "boot.unsafe_test_keys": "What keys that vendors ship for tests do (PKfail).",
    "boot.unsafe_debug_mode": "What firmware does that lets a debugger attach.",
    "boot.unsafe_dma": "What firmware does that switched DMA protection off.",
    "boot.unsafe_shim_validation": "What a shim does that was told to verify nothing.",
    "boot.phases": "Paths of words, as of systemd-measure, that may extend PCR 11 after the log.",
    "ima": "What the files that the running system loaded must be.",
    "ima.appraise": "Whether the list of loaded files is appraised.",
    "ima.accept": "Names of registered IMA sets that say which files are good.",
    "ima.unlisted": "What a measured file that no accepted set lists does to a decision.",
    "ima.violations": "What a file does that was written while it was in use.",
    "ima.signatures": "What file signatures count for.",
    "lease": "For how long and for whom leases are.",
    "lease.life": "Seconds a lease lives, counted from the challenge.",
    "lease.continuity": "Seconds for which a continuity statement counts.",
    "lease.audiences": "Relying parties that leases may be for.",
    "lease.unsafe_bearer_audiences": "Those that may get tokens which whoever steals one can use.",
    "lease.delegation_depth": "Links that a chain of delegated leases may have; 0 for none.",
    "lease.max_leases": "Leases that one evidence document may ask for.",
    "authorization": "Which scope a node may have.",
    "authorization.cedar": "Cedar policies: default deny, forbid wins (policy.cedarschema).",
    "enrolment": "Who may enrol.",
    "enrolment.admit": "How a node is let in.",
    "enrolment.ek_algorithm": "The EK it enrols with, so that one TPM has one node id.",
    "enrolment.allow_ek": "SHA-256 of EKs (DER SubjectPublicKeyInfo) that may enrol.",
    "enrolment.vendors": 'Vendors whose TPMs may enrol, such as "STM" or "id:53544D20", or "any".',
    "enrolment.refuse_firmware": "Makes that may not, as VENDOR/MODEL/VERSION.",
    "enrolment.crl": "What revocation lists are needed.",
    "enrolment.unsafe_unendorsed_ek": "EKs that need no certificate: this list vouches for them.",
    "enrolment.unsafe_software_tpm": "Software TPMs that may enrol, as VENDOR/MODEL/VERSION.",
    "enrolment.unsafe_sha1_signatures": "Certificates below a root may be signed over SHA-1.",
}

_EFFECTS: Final = (
    *("quote.unsafe_clock", "boot.option_roms", "ima.unlisted", "ima.violations"),
    *(f"boot.{key}" for key in TABLES["boot"] if key.startswith("unsafe_")),
)
_AUDIENCE: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": MAX_AUDIENCE}
_DEMANDS: Final = ("boot.secure_boot", "boot.deployed_mode", "boot.exit_boot_services")

_VALUES: Final[dict[str, Schema]] = {
    **{path: _words(EFFECT_WORDS, path) for path in _EFFECTS},
    **{path: _words(DEMAND_WORDS, path) for path in _DEMANDS},
    "quote.banks": _list(
        {"enum": [alg.label for alg in HashAlg if alg not in WEAK_BANKS]}, "quote.banks", least=1
    ),
    "quote.pcrs": _list(
        {
            "type": "integer",
            "minimum": 0,
            "maximum": PCR_COUNT - 1,
            "not": {"enum": sorted(RESETTABLE_PCRS)},
        },
        "quote.pcrs",
        least=1,
        most=PCR_COUNT,
    ),
    "references.accept": _texts(_NAME, "references.accept", least=1),
    "boot.phases": _texts(_PHASES, "boot.phases", most=MAX_PHASE_PATHS),
    "ima.appraise": {"const": "required", "description": _TEXTS["ima.appraise"]},
    "ima.accept": _texts(_NAME, "ima.accept", least=1, most=MAX_IMA_SETS),
    "ima.signatures": _members(IMASignatures, "ima.signatures"),
    "lease.life": _number(1, MAX_LIFE, "lease.life"),
    "lease.continuity": _number(1, MAX_CONTINUITY, "lease.continuity"),
    "lease.audiences": _list(_AUDIENCE, "lease.audiences", least=1),
    "lease.unsafe_bearer_audiences": _list(_AUDIENCE, "lease.unsafe_bearer_audiences"),
    "lease.delegation_depth": _number(0, MAX_DELEGATION_DEPTH, "lease.delegation_depth"),
    "lease.max_leases": _number(1, MAX_LEASES, "lease.max_leases"),
    "authorization.cedar": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_CEDAR,
        "description": _TEXTS["authorization.cedar"],
    },
    "enrolment.admit": _members(Admission, "enrolment.admit"),
    "enrolment.ek_algorithm": _members(EKAlgorithm, "enrolment.ek_algorithm"),
    "enrolment.allow_ek": _texts(_DIGEST, "enrolment.allow_ek"),
    "enrolment.vendors": _texts("^.+$", "enrolment.vendors", least=1),
    "enrolment.refuse_firmware": _texts(
        "^[^/]+/[^/]+/[^/]+$", "enrolment.refuse_firmware", most=MAX_PATTERNS
    ),
    "enrolment.crl": _members(CRLRule, "enrolment.crl"),
    "enrolment.unsafe_unendorsed_ek": _texts(_DIGEST, "enrolment.unsafe_unendorsed_ek"),
    "enrolment.unsafe_software_tpm": _texts(
        "^[^/]+/[^/]+/[^/]+$", "enrolment.unsafe_software_tpm", most=MAX_PATTERNS
    ),
    "enrolment.unsafe_sha1_signatures": {
        "type": "boolean",
        "description": _TEXTS["enrolment.unsafe_sha1_signatures"],
    },
}
