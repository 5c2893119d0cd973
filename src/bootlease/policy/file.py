"""The file form of a policy: TOML 1.0 with a strict schema.

    schema = 1
    id = "default"
    mode = "enforce"   ("report-only": appraise and record, but never issue)
    [quote]       banks, pcrs, unsafe_clock ("refuse" or "note")
    [references]  accept
    [boot]        secure_boot, deployed_mode, exit_boot_services ("required" or "not-required");
                  option_roms, unsafe_setup_mode, unsafe_test_keys, unsafe_debug_mode, unsafe_dma,
                  unsafe_shim_validation ("refuse" or "note"); phases
    [ima]         appraise: "off" alone, or "required" with accept, unlisted, violations
                  ("refuse" or "note"), signatures ("ignored", "sufficient" or "required")
    [lease]       life, continuity, audiences, unsafe_bearer_audiences, delegation_depth,
                  max_leases
    [authorization]  cedar: Cedar policies, as text
    [enrolment]   admit, ek_algorithm, allow_ek, vendors, refuse_firmware, crl ("required" or
                  "when-given"), unsafe_unendorsed_ek, unsafe_software_tpm, unsafe_sha1_signatures

Every key must be there and no other may be: what is forgotten or misspelt is an error, never
"accept". An error names the key; all keys that are wrong are named at once.
"""

from __future__ import annotations

import difflib
import enum
import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from bootlease.endorsement import MakePattern
from bootlease.errors import MalformedError
from bootlease.model import Effect, HashAlg, legible
from bootlease.policy.authorization import Authorization
from bootlease.policy.boot import NO_IMA, BootPolicy, IMAPolicy, Mode
from bootlease.policy.enrolment import (
    Admission,
    CRLRule,
    EKAlgorithm,
    EnrolmentPolicy,
    make_patterns,
    vendor_ids,
)
from bootlease.policy.values import (
    LeasePolicy,
    Policy,
    QuotePolicy,
)
from bootlease.reference import IMASignatures

MAX_FILE: Final = 1024 * 1024
_BYTE_ORDER_MARK: Final = "\ufeff"
_MAX_TOLD: Final = 8
_MAX_KEY: Final = 80
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
EFFECT_WORDS: Final = {"refuse": Effect.REFUSES, "note": Effect.NOTES}
DEMAND_WORDS: Final = {"required": True, "not-required": False}
_APPRAISE_WORDS: Final = {"off": False, "required": True}
_IMA_OFF: Final = ("appraise",)
_IMA: Final = ("appraise", "accept", "unlisted", "violations", "signatures")
TABLES: Final = {
    "quote": ("banks", "pcrs", "unsafe_clock"),
    "references": ("accept",),
    "boot": (
        "secure_boot",
        "deployed_mode",
        "exit_boot_services",
        "option_roms",
        "unsafe_setup_mode",
        "unsafe_test_keys",
        "unsafe_debug_mode",
        "unsafe_dma",
        "unsafe_shim_validation",
        "phases",
    ),
    "ima": _IMA,
    "lease": (
        "life",
        "continuity",
        "audiences",
        "unsafe_bearer_audiences",
        "delegation_depth",
        "max_leases",
    ),
    "authorization": ("cedar",),
    "enrolment": (
        "admit",
        "ek_algorithm",
        "allow_ek",
        "vendors",
        "refuse_firmware",
        "crl",
        "unsafe_unendorsed_ek",
        "unsafe_software_tpm",
        "unsafe_sha1_signatures",
    ),
}
_Choice = TypeVar("_Choice", bound=enum.Enum)
_Item = TypeVar("_Item", bool, int, str)
_Value = TypeVar("_Value")


def parse_policy(text: str | bytes) -> Policy:
    """Parse a policy file.

    Raises:
        MalformedError: The text is not a policy of this schema; the message names the key.
    """
    file = _decode(text)[1]
    _demand_keys(file)
    try:
        return Policy(
            id=_typed(file["id"], "id", str),
            mode=_choice(file["mode"], "mode", Mode),
            quote=_quote(file["quote"]),
            accept=_array(file["references"]["accept"], "references.accept", str),
            boot=_boot(file["boot"]),
            ima=_ima(file["ima"]),
            lease=_lease(file["lease"]),
            authorization=Authorization(
                _typed(file["authorization"]["cedar"], "authorization.cedar", str)
            ),
            enrolment=_enrolment(file["enrolment"]),
        )
    except ValueError as exc:
        raise MalformedError(f"policy: {exc}") from exc


def _decode(text: str | bytes) -> tuple[str, dict[str, Any]]:
    if len(text) > MAX_FILE:
        raise MalformedError(f"a policy of more than {MAX_FILE} bytes")
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        if decoded.startswith(_BYTE_ORDER_MARK):
            raise MalformedError(
                "policy: the file begins with a byte order mark, which TOML does not allow; save"
                " it as UTF-8 without one"
            )
        file = tomllib.loads(decoded)
    # tomllib descends once for each level of nesting.
    except (ValueError, RecursionError) as exc:
        raise MalformedError(f"policy: not TOML: {exc}") from exc
    return decoded, file


def with_cedar(text: str | bytes, cedar: str) -> str:
    """Return a policy file with Cedar policies put into it, as its ``[authorization]``.

    Args:
        text: The file, without that table.
        cedar: The policies.

    Raises:
        MalformedError: The file has the table, or is not TOML.
    """
    decoded, file = _decode(text)
    if "authorization" in file:
        raise MalformedError(
            "policy: [authorization] is in the file, and Cedar policies are given besides"
        )
    # A line of its own, and the last table: whatever the file ends in, nothing else changes.
    return f"{decoded}\n[authorization]\ncedar = {_toml_text(cedar)}\n"


def _toml_text(text: str) -> str:
    """Write text as a TOML string: readable where its letters allow it."""
    lines = text.replace("\r\n", "\n")
    if "'''" not in lines and all(each.isprintable() or each in "\n\t" for each in lines):
        # TOML drops a first line end.
        return f"'''\n{lines}'''"
    return json.dumps(lines, ensure_ascii=False).replace("\x7f", "\\u007f")


def _demand_keys(file: dict[str, Any]) -> None:
    # Another schema has other keys: nothing else that could be said of it would help.
    if "schema" in file and (type(file["schema"]) is not int or file["schema"] != 1):
        raise MalformedError("policy: schema must be 1")
    wrong = _wrong_keys(file, "", ("schema", "id", "mode", *TABLES))
    for name, keys in TABLES.items():
        table = file.get(name, {})
        if type(table) is not dict:
            wrong.append(f"[{name}] must be a table")
        elif name in file:
            wrong += _wrong_ima(table) if name == "ima" else _wrong_keys(table, f"{name}.", keys)
    if len(wrong) > _MAX_TOLD:
        wrong[_MAX_TOLD:] = [f"and {len(wrong) - _MAX_TOLD} more"]
    if wrong:
        raise MalformedError(f"policy: {'; '.join(wrong)}")


def _wrong_ima(table: dict[str, Any]) -> list[str]:
    word = table.get("appraise")
    if word == "required":
        return _wrong_keys(table, "ima.", _IMA)
    if word == "off":
        # The other keys would say something of a list that nobody reads.
        return _wrong_keys(table, "ima.", _IMA_OFF)
    # Which keys belong beside it is not known before that is mended.
    wrong = _wrong_keys(table, "ima.", tuple(key for key in _IMA if key in {*_IMA_OFF, *table}))
    if "appraise" in table:
        wrong.append(f"ima.appraise must be one of {', '.join(map(repr, _APPRAISE_WORDS))}")
    return wrong


def _wrong_keys(table: dict[str, Any], prefix: str, keys: tuple[str, ...]) -> list[str]:
    # The unknown first: a key is missing most often because it is misspelt.
    unknown = [_unknown(key, prefix, keys) for key in table if key not in keys]
    return unknown + [f"{prefix}{key} is missing" for key in keys if key not in table]


def _unknown(key: str, prefix: str, keys: tuple[str, ...]) -> str:
    shown = legible(key, at_most=_MAX_KEY)
    hint = "".join(
        f" (did you mean {close!r}?)" for close in difflib.get_close_matches(shown, keys, n=1)
    )
    return f"{prefix}{shown} is not a known key{hint}"


def _typed(value: Any, name: str, kind: type[_Item]) -> _Item:  # noqa: ANN401 - TOML is dynamic
    if type(value) is not kind:
        raise MalformedError(f"policy: {name} must be {_KINDS[kind]}")
    typed: _Item = value
    return typed


_KINDS: Final = {bool: "true or false", int: "an integer", str: "a string"}


def _array(value: Any, name: str, kind: type[_Item]) -> tuple[_Item, ...]:  # noqa: ANN401 - as above
    if type(value) is not list:
        raise MalformedError(f"policy: {name} must be an array")
    items = tuple(_typed(item, f"every entry of {name}", kind) for item in value)
    if len(set(items)) != len(items):
        raise MalformedError(f"policy: {name} lists something twice")
    return items


def _choice(value: Any, name: str, kind: type[_Choice]) -> _Choice:  # noqa: ANN401 - as above
    try:
        return kind(_typed(value, name, str))
    except ValueError as exc:
        known = ", ".join(repr(member.value) for member in kind)
        raise MalformedError(f"policy: {name} must be one of {known}") from exc


def _word(table: dict[str, Any], section: str, key: str, words: Mapping[str, _Value]) -> _Value:
    word = _typed(table[key], f"{section}.{key}", str)
    if word not in words:
        known = ", ".join(map(repr, words))
        raise MalformedError(f"policy: {section}.{key} must be one of {known}")
    return words[word]


def _digests(value: Any, name: str) -> frozenset[bytes]:  # noqa: ANN401 - as above
    digests = _array(value, name, str)
    for digest in digests:
        if not _DIGEST.fullmatch(digest):
            raise MalformedError(
                f"policy: {name} needs SHA-256 digests of 64 lower-case hex digits"
            )
    return frozenset(map(bytes.fromhex, digests))


def _quote(table: dict[str, Any]) -> QuotePolicy:
    banks = _array(table["banks"], "quote.banks", str)
    try:
        algorithms = tuple(map(HashAlg.from_label, banks))
    except ValueError as exc:
        raise MalformedError(f"policy: quote.banks: {exc}") from exc
    return QuotePolicy(
        banks=algorithms,
        pcrs=_array(table["pcrs"], "quote.pcrs", int),
        unsafe_clock=_word(table, "quote", "unsafe_clock", EFFECT_WORDS),
    )


def _boot(table: dict[str, Any]) -> BootPolicy:
    return BootPolicy(
        secure_boot=_word(table, "boot", "secure_boot", DEMAND_WORDS),
        deployed_mode=_word(table, "boot", "deployed_mode", DEMAND_WORDS),
        exit_boot_services=_word(table, "boot", "exit_boot_services", DEMAND_WORDS),
        option_roms=_word(table, "boot", "option_roms", EFFECT_WORDS),
        unsafe_setup_mode=_word(table, "boot", "unsafe_setup_mode", EFFECT_WORDS),
        unsafe_test_keys=_word(table, "boot", "unsafe_test_keys", EFFECT_WORDS),
        unsafe_debug_mode=_word(table, "boot", "unsafe_debug_mode", EFFECT_WORDS),
        unsafe_dma=_word(table, "boot", "unsafe_dma", EFFECT_WORDS),
        unsafe_shim_validation=_word(table, "boot", "unsafe_shim_validation", EFFECT_WORDS),
        phases=_array(table["phases"], "boot.phases", str),
    )


def _ima(table: dict[str, Any]) -> IMAPolicy:
    if not _word(table, "ima", "appraise", _APPRAISE_WORDS):
        return NO_IMA
    return IMAPolicy(
        required=True,
        accept=_array(table["accept"], "ima.accept", str),
        unlisted=_word(table, "ima", "unlisted", EFFECT_WORDS),
        violations=_word(table, "ima", "violations", EFFECT_WORDS),
        signatures=_choice(table["signatures"], "ima.signatures", IMASignatures),
    )


def _lease(table: dict[str, Any]) -> LeasePolicy:
    bearer = "unsafe_bearer_audiences"
    return LeasePolicy(
        life=_typed(table["life"], "lease.life", int),
        continuity=_typed(table["continuity"], "lease.continuity", int),
        audiences=frozenset(_array(table["audiences"], "lease.audiences", str)),
        unsafe_bearer_audiences=frozenset(_array(table[bearer], f"lease.{bearer}", str)),
        delegation_depth=_typed(table["delegation_depth"], "lease.delegation_depth", int),
        max_leases=_typed(table["max_leases"], "lease.max_leases", int),
    )


def _enrolment(table: dict[str, Any]) -> EnrolmentPolicy:
    unsafe, software, sha1 = (
        "unsafe_unendorsed_ek",
        "unsafe_software_tpm",
        "unsafe_sha1_signatures",
    )
    return EnrolmentPolicy(
        admit=_choice(table["admit"], "enrolment.admit", Admission),
        ek_algorithm=_choice(table["ek_algorithm"], "enrolment.ek_algorithm", EKAlgorithm),
        allow_ek=_digests(table["allow_ek"], "enrolment.allow_ek"),
        vendors=vendor_ids(_array(table["vendors"], "enrolment.vendors", str)),
        refuse_firmware=_patterns(table, "refuse_firmware"),
        crl=_choice(table["crl"], "enrolment.crl", CRLRule),
        unsafe_unendorsed_ek=_digests(table[unsafe], f"enrolment.{unsafe}"),
        unsafe_software_tpm=_patterns(table, software),
        unsafe_sha1_signatures=_typed(table[sha1], f"enrolment.{sha1}", bool),
    )


def _patterns(table: dict[str, Any], key: str) -> frozenset[MakePattern]:
    return make_patterns(_array(table[key], f"enrolment.{key}", str), key)
