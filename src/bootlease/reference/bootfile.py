"""Boot rules read from decoded JSON or CBOR, and written for a reference file.

    "boot": {"secure_boot": "on",                                     ("on" or "off")
             "pk":  {"required": ["<sha256>"], "allowed": ["<sha256>"]},
             "kek": {"required": []},                                 ("allowed" left out: any)
             "db":  {"required": [], "allowed": ["<sha256>"]},
             "dbx": {"required": ["<sha256>"]},
             "sbat": {"shim": 4, "grub": 5},
             "command_line": {"required": ["ro"], "allowed": ["root=*"], "forbidden": ["init"],
                              "known": ["root=/dev/vda1 ro"]}}

Every member of "boot" may be left out, but not all. In a rule, only "allowed" may be: what it
means when it is absent must not be what it means when it is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.reference.bootrules import (
    KEY_DATABASES,
    MAX_LINE,
    MAX_REVOKED,
    RULE_NAMES,
    BootRules,
    CommandLineRule,
    KeyRule,
)

_STATES: Final = {"on": True, "off": False}
_KEYS: Final = frozenset({"required", "allowed"})
_COMMAND_LINE: Final = frozenset({"required", "allowed", "forbidden", "known"})
_OPTIONAL: Final = frozenset({"allowed"})
_NO_MEMBERS: Final = frozenset[str]()

ReadDigest = Callable[[object], bytes]


def parse_boot_rules(value: object, read_digest: ReadDigest) -> BootRules:
    """Return boot rules.

    Args:
        value: Decoded JSON or CBOR, unverified.
        read_digest: Takes a digest as the encoding writes it, or raises ``MalformedError``.

    Raises:
        MalformedError: They are no boot rules; the message names the rule.
    """
    rules = _members(value, "boot", frozenset(RULE_NAMES), frozenset(RULE_NAMES))
    found: dict[str, Any] = {}
    if "secure_boot" in rules:
        state = rules["secure_boot"]
        if type(state) is not str or state not in _STATES:
            raise MalformedError('reference: boot.secure_boot must be "on" or "off"')
        found["secure_boot"] = _STATES[state]
    for name in KEY_DATABASES:
        if name in rules:
            found[name] = _key_rule(rules[name], f"boot.{name}", read_digest)
    if "dbx" in rules:
        dbx = _members(rules["dbx"], "boot.dbx", frozenset({"required"}), _NO_MEMBERS)
        found["dbx"] = _digests(dbx["required"], "boot.dbx.required", read_digest)
    if "sbat" in rules:
        found["sbat"] = _generations(rules["sbat"])
    if "command_line" in rules:
        found["command_line"] = _command_line(rules["command_line"])
    try:
        return BootRules(**found)
    except ValueError as exc:
        raise MalformedError(f"reference: boot: {exc}") from exc


def _members(
    value: object, what: str, known: frozenset[str], optional: frozenset[str]
) -> dict[str, Any]:
    if type(value) is not dict:
        raise MalformedError(f"reference: {what} must be an object")
    if any(type(key) is not str for key in value):
        raise MalformedError(f"reference: {what} has a member whose name is no text")
    if missing := sorted(known - optional - value.keys()):
        raise MalformedError(f"reference: {what} lacks {missing[0]!r}")
    if unknown := sorted(value.keys() - known):
        raise MalformedError(f"reference: {what} has the unknown member {unknown[0]!r:.80}")
    return value


def _array(value: object, what: str) -> list[Any]:
    if type(value) is not list:
        raise MalformedError(f"reference: {what} must be an array")
    if len(value) > MAX_REVOKED:
        raise MalformedError(f"reference: {what} has more than {MAX_REVOKED} entries")
    return value


def _digests(value: object, what: str, read_digest: ReadDigest) -> frozenset[bytes]:
    digests = [read_digest(item) for item in _array(value, what)]
    if len(set(digests)) != len(digests):
        raise MalformedError(f"reference: {what} lists something twice")
    return frozenset(digests)


def _key_rule(value: object, what: str, read_digest: ReadDigest) -> KeyRule:
    rule = _members(value, what, _KEYS, _OPTIONAL)
    allowed = None
    if "allowed" in rule:
        allowed = _digests(rule["allowed"], f"{what}.allowed", read_digest)
    required = _digests(rule["required"], f"{what}.required", read_digest)
    try:
        return KeyRule(required, allowed)
    except ValueError as exc:
        raise MalformedError(f"reference: {what}: {exc}") from exc


def _generations(value: object) -> dict[str, int]:
    if type(value) is not dict or not value:
        raise MalformedError("reference: boot.sbat must be an object with a component")
    for component, generation in value.items():
        if type(component) is not str or type(generation) is not int:
            raise MalformedError("reference: boot.sbat gives a number by component")
    return value


def _command_line(value: object) -> CommandLineRule:
    what = "boot.command_line"
    rule = _members(value, what, _COMMAND_LINE, _OPTIONAL)
    patterns = {name: _patterns(rule[name], f"{what}.{name}") for name in rule}
    try:
        return CommandLineRule(**patterns)
    except ValueError as exc:
        raise MalformedError(f"reference: boot: {exc}") from exc


def _patterns(value: object, what: str) -> tuple[str, ...]:
    patterns = _array(value, what)
    if any(type(item) is not str or len(item) > MAX_LINE for item in patterns):
        raise MalformedError(f"reference: {what} must hold texts of up to {MAX_LINE} characters")
    return tuple(patterns)


def boot_rules_file(rules: BootRules) -> dict[str, Any]:
    """Return the JSON form."""
    shown: dict[str, Any] = _readable(rules.wire())
    return shown


def _readable(value: Any) -> Any:  # noqa: ANN401 - the wire form is dynamic
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items()}
    return value
