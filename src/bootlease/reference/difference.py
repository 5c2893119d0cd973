"""What changed from one reference set to another, in words."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bootlease.reference.bootfile import boot_rules_file
from bootlease.reference.bootrules import BootRules
from bootlease.reference.values import (
    EventsReference,
    PCRReference,
    ReferenceSet,
    ValueReference,
)

_SHOWN: Final = 16
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Change(enum.Enum):
    """How something differs in the second set."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        change: How it differs.
        what: One phrase for people.
        pcr: The PCR it is about, if any.
        before: In the first set, as text.
        after: In the second set, as text.
    """

    change: Change
    what: str
    pcr: int | None = None
    before: str | None = None
    after: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, absent members left out."""
        full = {
            "change": self.change.value,
            "what": self.what,
            "pcr": self.pcr,
            "before": self.before,
            "after": self.after,
        }
        return {key: value for key, value in full.items() if value is not None}

    def __str__(self) -> str:
        where = "" if self.pcr is None else f"PCR {self.pcr}: "
        sign = {Change.ADDED: "+", Change.REMOVED: "-", Change.CHANGED: "~"}[self.change]
        values = f" ({self.before} -> {self.after})" if self.before and self.after else ""
        return f"{sign} {where}{self.what}{values}"


def diff(first: ReferenceSet, second: ReferenceSet) -> tuple[Difference, ...]:
    """Return what differs in ``second``, in a stable order; empty for sets of one digest."""
    found = [
        Difference(Change.CHANGED, name, before=str(before), after=str(after))
        for name, before, after in (
            ("name", first.name, second.name),
            ("version", first.version, second.version),
            ("bank", first.bank.label, second.bank.label),
            ("not_before", first.not_before, second.not_before),
            ("not_after", first.not_after, second.not_after),
        )
        if before != after
    ]
    found += _rule_differences(_flat(first.boot), _flat(second.boot))
    for pcr in sorted({*first.pcrs, *second.pcrs}):
        before, after = first.pcrs.get(pcr), second.pcrs.get(pcr)
        if before is None:
            found.append(Difference(Change.ADDED, "is now constrained", pcr))
        elif after is None:
            found.append(Difference(Change.REMOVED, "is no longer constrained", pcr))
        elif before != after:
            found += _pcr_differences(pcr, before, after)
    return tuple(found)


def _flat(rules: BootRules | None) -> Mapping[str, frozenset[str]]:
    """Return what each rule lists, as text, under the rule's name."""
    found: dict[str, frozenset[str]] = {}
    for name, rule in ({} if rules is None else boot_rules_file(rules)).items():
        if name == "sbat":
            found[name] = frozenset(f"{key},{least}" for key, least in rule.items())
        elif isinstance(rule, dict):
            found |= {f"{name}.{part}": frozenset(items) for part, items in rule.items()}
        else:
            found[name] = frozenset({rule})
    return found


def _rule_differences(
    before: Mapping[str, frozenset[str]], after: Mapping[str, frozenset[str]]
) -> Iterator[Difference]:
    nothing: frozenset[str] = frozenset()
    for name in sorted({*before, *after}):
        what = f"boot rule {name}"
        if name not in before:
            yield Difference(Change.ADDED, what)
        elif name not in after:
            yield Difference(Change.REMOVED, what)
        old, new = before.get(name, nothing), after.get(name, nothing)
        for change, items in ((Change.REMOVED, old - new), (Change.ADDED, new - old)):
            for item in sorted(items):
                yield Difference(change, f"{what}: {_short(item)}")


def _short(item: str) -> str:
    return f"{item[:_SHOWN]}…" if _DIGEST.fullmatch(item) else item


def _pcr_differences(pcr: int, before: PCRReference, after: PCRReference) -> Iterator[Difference]:
    if type(before) is not type(after):
        yield Difference(Change.CHANGED, "match", pcr, _match(before), _match(after))
    old, new = _values(before), _values(after)
    for change, values in ((Change.REMOVED, old - new), (Change.ADDED, new - old)):
        for value in sorted(values):
            yield Difference(change, f"value {value.hex()[:_SHOWN]}…", pcr)
    first = {event.key: event for event in before.events}
    second = {event.key: event for event in after.events}
    for change, known, other in ((Change.REMOVED, first, second), (Change.ADDED, second, first)):
        for key, event in known.items():
            if key not in other:
                shown = event.digest.hex()[:_SHOWN]
                yield Difference(change, f"{event.description}, digest {shown}…", pcr)
    common = [key for key in first if key in second]
    for key in common:
        if first[key].required != second[key].required:
            word = "required" if second[key].required else "no longer required"
            yield Difference(Change.CHANGED, f"{second[key].description} is {word}", pcr)
    if common != [key for key in second if key in first]:
        yield Difference(Change.CHANGED, "the order of its events", pcr)


def _match(reference: PCRReference) -> str:
    return "events" if isinstance(reference, EventsReference) else "value"


def _values(reference: PCRReference) -> frozenset[bytes]:
    return frozenset(reference.values) if isinstance(reference, ValueReference) else frozenset()
