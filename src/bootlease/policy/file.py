"""The file form of a policy: TOML 1.0 with a strict schema.

    schema = 1
    id = "default"
    [quote]       banks, pcrs, unsafe_clock ("refuse" or "note")
    [references]  accept
    [lease]       life, scopes, audiences, max_leases
    [enrolment]   admit, ek_algorithm, allow_ek, unsafe_unendorsed_ek

Every key must be there and no other may be: what is forgotten or misspelt is an error, never
"accept". An error names the key; all keys that are wrong are named at once.
"""

from __future__ import annotations

import difflib
import enum
import re
import tomllib
from typing import Any, Final, TypeVar

from bootlease.errors import MalformedError
from bootlease.model import Effect, HashAlg
from bootlease.policy.values import (
    Admission,
    EKAlgorithm,
    EnrolmentPolicy,
    LeasePolicy,
    Policy,
    QuotePolicy,
)

MAX_FILE: Final = 1024 * 1024
_BYTE_ORDER_MARK: Final = "\ufeff"
_MAX_TOLD: Final = 8
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CLOCK_EFFECTS: Final = {"refuse": Effect.REFUSES, "note": Effect.NOTES}
_TABLES: Final = {
    "quote": ("banks", "pcrs", "unsafe_clock"),
    "references": ("accept",),
    "lease": ("life", "scopes", "audiences", "max_leases"),
    "enrolment": ("admit", "ek_algorithm", "allow_ek", "unsafe_unendorsed_ek"),
}
_Choice = TypeVar("_Choice", bound=enum.Enum)
_Item = TypeVar("_Item", int, str)


def parse_policy(text: str | bytes) -> Policy:
    """Parse a policy file.

    Raises:
        MalformedError: The text is not a policy of this schema; the message names the key.
    """
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
        raise MalformedError(f"policy: {exc}") from exc
    _demand_keys(file)
    try:
        return Policy(
            id=_typed(file["id"], "id", str),
            quote=_quote(file["quote"]),
            accept=_array(file["references"]["accept"], "references.accept", str),
            lease=_lease(file["lease"]),
            enrolment=_enrolment(file["enrolment"]),
        )
    except ValueError as exc:
        raise MalformedError(f"policy: {exc}") from exc


def _demand_keys(file: dict[str, Any]) -> None:
    # Another schema has other keys: nothing else that could be said of it would help.
    if "schema" in file and (type(file["schema"]) is not int or file["schema"] != 1):
        raise MalformedError("policy: schema must be 1")
    wrong = _wrong_keys(file, "", ("schema", "id", *_TABLES))
    for name, keys in _TABLES.items():
        table = file.get(name, {})
        if type(table) is not dict:
            wrong.append(f"[{name}] must be a table")
        elif name in file:
            wrong += _wrong_keys(table, f"{name}.", keys)
    if len(wrong) > _MAX_TOLD:
        wrong[_MAX_TOLD:] = [f"and {len(wrong) - _MAX_TOLD} more"]
    if wrong:
        raise MalformedError(f"policy: {'; '.join(wrong)}")


def _wrong_keys(table: dict[str, Any], prefix: str, keys: tuple[str, ...]) -> list[str]:
    # The unknown first: a key is missing most often because it is misspelt.
    unknown = [_unknown(key, prefix, keys) for key in table if key not in keys]
    return unknown + [f"{prefix}{key} is missing" for key in keys if key not in table]


def _unknown(key: str, prefix: str, keys: tuple[str, ...]) -> str:
    shown = _shown(key)
    hint = "".join(
        f" (did you mean {close!r}?)" for close in difflib.get_close_matches(shown, keys, n=1)
    )
    return f"{prefix}{shown} is not a known key{hint}"


def _shown(key: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in key)[:80]


def _typed(value: Any, name: str, kind: type[_Item]) -> _Item:  # noqa: ANN401 - TOML is dynamic
    if type(value) is not kind:
        raise MalformedError(f"policy: {name} must be {_KINDS[kind]}")
    typed: _Item = value
    return typed


_KINDS: Final = {int: "an integer", str: "a string"}


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


def _digests(value: Any, name: str) -> frozenset[bytes]:  # noqa: ANN401 - as above
    digests = _array(value, name, str)
    for digest in digests:
        if not _DIGEST.fullmatch(digest):
            raise MalformedError(
                f"policy: {name} needs SHA-256 digests of 64 lower-case hex digits"
            )
    return frozenset(map(bytes.fromhex, digests))


def _quote(table: dict[str, Any]) -> QuotePolicy:
    clock = _typed(table["unsafe_clock"], "quote.unsafe_clock", str)
    if clock not in _CLOCK_EFFECTS:
        raise MalformedError("policy: quote.unsafe_clock must be one of 'refuse', 'note'")
    banks = _array(table["banks"], "quote.banks", str)
    try:
        algorithms = tuple(map(HashAlg.from_label, banks))
    except ValueError as exc:
        raise MalformedError(f"policy: quote.banks: {exc}") from exc
    return QuotePolicy(algorithms, _array(table["pcrs"], "quote.pcrs", int), _CLOCK_EFFECTS[clock])


def _lease(table: dict[str, Any]) -> LeasePolicy:
    return LeasePolicy(
        life=_typed(table["life"], "lease.life", int),
        scopes=_array(table["scopes"], "lease.scopes", str),
        audiences=frozenset(_array(table["audiences"], "lease.audiences", str)),
        max_leases=_typed(table["max_leases"], "lease.max_leases", int),
    )


def _enrolment(table: dict[str, Any]) -> EnrolmentPolicy:
    unsafe = "unsafe_unendorsed_ek"
    return EnrolmentPolicy(
        admit=_choice(table["admit"], "enrolment.admit", Admission),
        ek_algorithm=_choice(table["ek_algorithm"], "enrolment.ek_algorithm", EKAlgorithm),
        allow_ek=_digests(table["allow_ek"], "enrolment.allow_ek"),
        unsafe_unendorsed_ek=_digests(table[unsafe], f"enrolment.{unsafe}"),
    )
