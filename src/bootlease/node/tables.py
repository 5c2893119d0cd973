"""Strict reading of TOML tables: an error names file line and key, and no key goes unread.

Specification: TOML 1.0. Its parser keeps no lines; the line that an error names is where the key
stands first in its table, and is left out where it stands nowhere by itself (dotted keys, inline
tables).
"""

from __future__ import annotations

import difflib
import enum
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from bootlease.errors import MalformedError
from bootlease.model import legible

MAX_TABLES: Final = 1024
MAX_ITEMS: Final = 1024
MAX_TEXT: Final = 4096
_MAX_SHOWN: Final = 80
_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([^\]\s]+)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*[.=]""")

_Choice = TypeVar("_Choice", bound=enum.Enum)
_Type = TypeVar("_Type")


class _Lines:
    """Where the tables and keys of a file stand."""

    def __init__(self, text: str) -> None:
        self._known: dict[str, int] = {}
        place, counted = "", dict[str, int]()
        for number, line in enumerate(text.splitlines(), 1):
            if header := _HEADER.match(line):
                place = header[2]
                if header[1] == "[[":
                    counted[place] = counted.get(place, 0) + 1
                    self._known.setdefault(place, number)
                    place = f"{place}[{counted[place]}]"
                self._known.setdefault(place, number)
            elif key := _KEY.match(line):
                self._known.setdefault(f"{place}.{key[1]}" if place else key[1], number)

    def of(self, name: str) -> str:
        """Return the place of a key or table, for an error."""
        number = self._known.get(name)
        return "" if number is None else f"line {number}: "


class Table:
    """One table, read key by key; ``end`` complains about what was not read.

    Args:
        members: As parsed.
        name: Its dotted name; arrays of tables are numbered from 1, as in ``workload[2]``.
        lines: Where keys stand.
    """

    def __init__(self, members: Mapping[str, Any], name: str, lines: _Lines) -> None:
        self._members = members
        self._name = name
        self._lines = lines
        self._read: set[str] = set()

    # -- whether and where

    @property
    def name(self) -> str:
        """Its dotted name; empty for the whole file."""
        return self._name

    def has(self, key: str) -> bool:
        """Tell whether the key is there."""
        self._read.add(key)
        return key in self._members

    def error(self, key: str, why: str) -> MalformedError:
        """Return the error that names a key, and why it is wrong; without a key, the table."""
        full = self._full(key) if key else self._name
        return MalformedError(f"{self._lines.of(full)}{full}: {why}")

    def end(self) -> None:
        """Demand that every key was read.

        Raises:
            MalformedError: There is another.
        """
        for key in self._members:
            if key not in self._read:
                near = difflib.get_close_matches(key, self._read, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                shown = legible(key, at_most=_MAX_SHOWN)
                raise self.error(shown, f"unknown key{hint}")

    # -- values

    def text(self, key: str, default: str | None = None, *, at_most: int = MAX_TEXT) -> str:
        """Return a text, not empty and printable."""
        value = self._value(key, str, "a text", default)
        if not 0 < len(value) <= at_most or not value.isprintable():
            raise self.error(key, f"is not 1 to {at_most} printable characters")
        return value

    def texts(
        self, key: str, default: tuple[str, ...] | None = None, *, at_most: int = MAX_ITEMS
    ) -> tuple[str, ...]:
        """Return an array of texts, none of them empty, at least one."""
        values = self._array(key, "texts", default, at_most)
        if any(type(each) is not str or not 0 < len(each) <= MAX_TEXT for each in values):
            raise self.error(key, "is not an array of texts")
        return tuple(values)

    def integers(
        self, key: str, default: tuple[int, ...] | None = None, *, at_most: int = MAX_ITEMS
    ) -> tuple[int, ...]:
        """Return an array of integers from 0 on, at least one."""
        values = self._array(key, "integers", default, at_most)
        if any(type(each) is not int or each < 0 for each in values):
            raise self.error(key, "is not an array of integers from 0 on")
        return tuple(values)

    def integer(
        self, key: str, default: int | None = None, *, at_least: int = 0, at_most: int
    ) -> int:
        """Return an integer within bounds."""
        value = self._value(key, int, "an integer", default)
        if not at_least <= value <= at_most:
            bounds = f"{at_least} to {at_most}" if at_least < at_most else f"{at_least}"
            raise self.error(key, f"is not {bounds}")
        return value

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """Return true or false."""
        return self._value(key, bool, "true or false", default)

    def choice(self, key: str, kind: type[_Choice], default: _Choice | None = None) -> _Choice:
        """Return a member of an enumeration of texts, by its value."""
        value = self._value(key, str, "a text", None if default is None else default.value)
        try:
            return kind(value)
        except ValueError as exc:
            words = ", ".join(str(each.value) for each in kind)
            raise self.error(key, f"is none of {words}") from exc

    def path(self, key: str, default: str | None = None) -> Path:
        """Return an absolute path."""
        value = Path(self.text(key, default))
        if not value.is_absolute():
            raise self.error(key, "is not an absolute path")
        return value

    def optional_path(self, key: str) -> Path | None:
        """Return an absolute path, or None where the key is not there."""
        return self.path(key) if self.has(key) else None

    # -- tables

    def table(self, key: str) -> Table:
        """Return a table; an empty one where it is not there."""
        value = self._value(key, dict, "a table", {})
        return Table(value, self._full(key), self._lines)

    def tables(self, key: str) -> tuple[Table, ...]:
        """Return an array of tables; empty where it is not there."""
        values = self._value(key, list, f"an array of tables, [[{key}]]", [])
        if len(values) > MAX_TABLES:
            raise self.error(key, f"has more than {MAX_TABLES} tables")
        if any(type(each) is not dict for each in values):
            raise self.error(key, f"is not an array of tables, [[{key}]]")
        full = self._full(key)
        return tuple(
            Table(each, f"{full}[{number}]", self._lines) for number, each in enumerate(values, 1)
        )

    # -- inside

    def _full(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key

    def _value(self, key: str, kind: type[_Type], what: str, default: _Type | None) -> _Type:
        self._read.add(key)
        value = self._members.get(key, default)
        if value is None:
            full = self._full(key)
            raise MalformedError(f"{self._lines.of(self._name)}{full}: is missing")
        # By exact type: to Python true is an integer.
        if type(value) is not kind:
            raise self.error(key, f"is not {what}")
        return value

    def _array(
        self, key: str, what: str, default: tuple[Any, ...] | None, at_most: int
    ) -> list[Any]:
        value = self._value(key, list, f"an array of {what}", _listed(default))
        if key in self._members and not 0 < len(value) <= at_most:
            raise self.error(key, f"has not 1 to {at_most} {what}")
        return value


def _listed(default: tuple[Any, ...] | None) -> list[Any] | None:
    return None if default is None else list(default)


def parse_tables(data: bytes) -> Table:
    """Parse a TOML file; the table of everything in it.

    Raises:
        MalformedError: It is none.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise MalformedError(f"is not UTF-8, at byte {exc.start}") from exc
    try:
        members = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as exc:
        raise MalformedError(f"is not TOML: {exc}") from exc
    return Table(members, "", _Lines(text))
