"""Rules of a reference set over what a boot means, where a PCR's value would say too little.

A value of PCR 7 allows one dbx and one order of events; these rules say what must hold instead:
which keys may start programs, which programs must be revoked (attack D9), which kernel parameters
there may be (attack D17). They only ever narrow what the set's PCRs accept, except that an event
of a PCR matched by events need not be known where a rule says all there is to say of it.

Keys and revoked images are named by digest: SHA-256 of a certificate, or the listed digest itself.

A pattern is for one kernel parameter. ``*`` stands for any characters. ``-`` and ``_`` are one
character in a name, as for the kernel. ``name=value`` speaks of that value, ``name`` alone of the
parameter without a value; as something forbidden, ``name`` alone means any value.

Not handled: rules that relate one parameter to another.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

MAX_KEYS: Final = 4096
MAX_REVOKED: Final = 16_384
"""Entries of a minimum dbx; that of Microsoft has some hundreds."""

MAX_COMPONENTS: Final = 256
MAX_PATTERNS: Final = 256
MAX_PATTERN: Final = 512
MAX_KNOWN: Final = 16
MAX_LINE: Final = 2048
"""COMMAND_LINE_SIZE of x86 and arm64."""

MAX_GENERATION: Final = 0xFFFF_FFFF
_DIGEST_SIZE: Final = 32
_COMPONENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeyRule:
    """What a key database may hold.

    Attributes:
        required: Entries that must be there.
        allowed: The only entries that may be there besides; ``None`` allows any.
        accepted: All that may be there, ``None`` for any.
    """

    required: frozenset[bytes] = frozenset()
    allowed: frozenset[bytes] | None = None
    accepted: frozenset[bytes] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.required and self.allowed is None:
            raise ValueError("a key rule that requires nothing and allows everything is no rule")
        for digests in (self.required, self.allowed or ()):
            _check_digests(digests, MAX_KEYS)
        accepted = None if self.allowed is None else self.allowed | self.required
        object.__setattr__(self, "accepted", accepted)

    def wire(self) -> dict[str, Any]:
        """Return the canonical form."""
        allowed = {} if self.allowed is None else {"allowed": sorted(self.allowed)}
        return {"required": sorted(self.required), **allowed}


@dataclass(frozen=True, slots=True)
class TokenPattern:
    """A pattern for one kernel parameter, ready to be compared.

    Attributes:
        text: As written.
        key: The name, ``-`` written as ``_``.
        names_value: It speaks of a value.
    """

    text: str
    key: str
    names_value: bool
    _name: tuple[str, ...] = field(repr=False, compare=False)
    _value: tuple[str, ...] | None = field(repr=False, compare=False)

    def is_for(self, key: str) -> bool:
        """Tell whether it is about parameters of this name."""
        return _glob(self._name, key)

    def matches(self, key: str, value: str | None, *, any_value: bool = False) -> bool:
        """Tell whether a parameter is one that the pattern is for.

        Args:
            key: The parameter's name, ``-`` written as ``_``.
            value: Its value.
            any_value: A pattern without a value is for any.
        """
        if not self.is_for(key):
            return False
        if self._value is None:
            return any_value or value is None
        return value is not None and _glob(self._value, value)


@functools.lru_cache(maxsize=4096)
def token_pattern(text: str) -> TokenPattern:
    """Compile a pattern.

    Raises:
        ValueError: It is empty, too long, or holds what no parameter holds.
    """
    if not 0 < len(text) <= MAX_PATTERN or not text.isprintable():
        raise ValueError(f"a pattern has 1 to {MAX_PATTERN} printable characters")
    name, equals, value = text.partition("=")
    if not name:
        raise ValueError(f"{text!r:.80} is no pattern for a kernel parameter: it names none")
    key = name.replace("-", "_")
    value_parts = tuple(value.split("*")) if equals else None
    return TokenPattern(text, key, bool(equals), tuple(key.split("*")), value_parts)


def _glob(parts: tuple[str, ...], text: str) -> bool:
    # Each part where it first occurs: linear, whereas a regular expression could be led to try
    # everything by a command line of an untrusted log.
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return text == first
    end = len(text) - len(last)
    if len(first) > end or not text.startswith(first) or not text.endswith(last):
        return False
    position = len(first)
    for part in parts[1:-1]:
        found = text.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


@dataclass(frozen=True, slots=True)
class CommandLineRule:
    """Which kernel parameters a boot may have. Forbidden ones win over all else.

    Attributes:
        required: Patterns, each of which a parameter must match. A name that is required with a
            value must not appear with any other: of two, most readers take the last.
        allowed: If there are any, patterns for the only parameters besides the required ones.
        forbidden: Patterns that no parameter may match, whoever reads the line.
        known: Command lines to recognise where a log holds a digest alone, as that of a unified
            kernel image. They must keep the rule like any other.
        texts: The same as bytes.
    """

    required: tuple[str, ...] = ()
    allowed: tuple[str, ...] | None = None
    forbidden: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    texts: tuple[bytes, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.required and not self.forbidden and self.allowed is None:
            raise ValueError("command_line has no rule")
        for name in ("required", "allowed", "forbidden"):
            patterns = getattr(self, name)
            if patterns is None:
                continue
            if len(patterns) > MAX_PATTERNS:
                raise ValueError(f"command_line.{name} has more than {MAX_PATTERNS} patterns")
            if len(set(patterns)) != len(patterns):
                raise ValueError(f"command_line.{name} lists something twice")
            for text in patterns:
                token_pattern(text)
            object.__setattr__(self, name, tuple(sorted(patterns)))
        if len(self.known) > MAX_KNOWN or len(set(self.known)) != len(self.known):
            raise ValueError(f"command_line.known has up to {MAX_KNOWN} lines, each once")
        if any(not 0 < len(line) <= MAX_LINE or not line.isprintable() for line in self.known):
            raise ValueError("command_line.known: a line is printable and not too long")
        object.__setattr__(self, "known", tuple(sorted(self.known)))
        object.__setattr__(self, "texts", tuple(line.encode() for line in self.known))

    def wire(self) -> dict[str, Any]:
        """Return the canonical form."""
        allowed = {} if self.allowed is None else {"allowed": list(self.allowed)}
        return {
            "required": list(self.required),
            **allowed,
            "forbidden": list(self.forbidden),
            "known": list(self.known),
        }


@dataclass(frozen=True, slots=True)
class BootRules:
    """What a boot must mean; at least one rule.

    A fact that a rule needs and that no attested event proves refuses.

    Attributes:
        secure_boot: The state that Secure Boot must have.
        pk: What the platform key must be.
        kek: What may change db and dbx.
        db: What may start programs.
        dbx: What must be revoked, at least.
        sbat: Least generation by component that shim must enforce.
        command_line: Which kernel parameters there may be.
        reads_secure_boot: A rule is about what PCR 7 proves.
    """

    secure_boot: bool | None = None
    pk: KeyRule | None = None
    kek: KeyRule | None = None
    db: KeyRule | None = None
    dbx: frozenset[bytes] = frozenset()
    sbat: Mapping[str, int] = field(default_factory=dict)
    command_line: CommandLineRule | None = None
    reads_secure_boot: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_digests(self.dbx, MAX_REVOKED)
        if len(self.sbat) > MAX_COMPONENTS:
            raise ValueError(f"sbat has more than {MAX_COMPONENTS} components")
        for component, generation in self.sbat.items():
            if not _COMPONENT.fullmatch(component):
                raise ValueError(f"sbat: {component!r:.80} is no component")
            if not 0 < generation <= MAX_GENERATION:
                raise ValueError(f"sbat: generation {generation} of {component} is out of range")
        object.__setattr__(self, "sbat", dict(sorted(self.sbat.items())))
        rules = self.wire().keys()
        if not rules:
            raise ValueError("boot rules that say nothing are no rules")
        object.__setattr__(self, "reads_secure_boot", rules != {"command_line"})

    def wire(self) -> dict[str, Any]:
        """Return the canonical form: absent rules are left out, digests are bytes."""
        found: dict[str, Any] = {}
        if self.secure_boot is not None:
            found["secure_boot"] = "on" if self.secure_boot else "off"
        for name in KEY_DATABASES:
            rule: KeyRule | None = getattr(self, name)
            if rule is not None:
                found[name] = rule.wire()
        if self.dbx:
            found["dbx"] = {"required": sorted(self.dbx)}
        if self.sbat:
            found["sbat"] = dict(self.sbat)
        if self.command_line is not None:
            found["command_line"] = self.command_line.wire()
        return found


KEY_DATABASES: Final = ("pk", "kek", "db")
"""Rules that are about certificates of a variable."""

RULE_NAMES: Final = tuple(each.name for each in fields(BootRules) if each.init)
"""All rules there are, as files name them."""


def _check_digests(digests: Collection[bytes], limit: int) -> None:
    if len(digests) > limit:
        raise ValueError(f"more than {limit} keys or revoked images")
    if any(len(digest) != _DIGEST_SIZE for digest in digests):
        raise ValueError(f"keys and revoked images are named by {_DIGEST_SIZE} bytes")
