"""Typed access to the members of a decoded CBOR map.

Every message of the protocol is a map with text keys. A member that is missing, of another type or
too long makes the message malformed; so does an unknown one in what a node sends, where ``end`` is
called: what is signed must mean one thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bootlease.errors import MalformedError

DIGEST_SIZE: Final = 32
"""Length of every SHA-256 digest, nonce and node id on the wire."""


class Fields:
    """A decoded map whose members are taken one by one.

    Args:
        value: What the CBOR decoder returned.
        what: The message's name, for errors.
    """

    __slots__ = ("_left", "_what")

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, Mapping):
            raise MalformedError(f"{what} is not a CBOR map")
        self._left: dict[Any, Any] = dict(value)
        self._what = what

    def _take(self, name: str, kind: type, label: str) -> Any:  # noqa: ANN401 - CBOR is dynamic
        value = self._left.pop(name, None)
        if type(value) is not kind:
            problem = "lacks" if value is None else "has another type than " + label + " in"
            raise MalformedError(f"{self._what} {problem} {name!r}")
        return value

    def octets(self, name: str, *, at_most: int) -> bytes:
        """Take a byte string of up to ``at_most`` bytes."""
        value: bytes = self._take(name, bytes, "bytes")
        if len(value) > at_most:
            raise MalformedError(f"{self._what} has more than {at_most} bytes in {name!r}")
        return value

    def digest(self, name: str) -> bytes:
        """Take a byte string of exactly 32 bytes."""
        value: bytes = self._take(name, bytes, "bytes")
        if len(value) != DIGEST_SIZE:
            raise MalformedError(f"{self._what} needs {DIGEST_SIZE} bytes in {name!r}")
        return value

    def optional_digest(self, name: str) -> bytes | None:
        """Take a byte string of exactly 32 bytes, or an explicit null."""
        if name in self._left and self._left[name] is None:
            del self._left[name]
            return None
        return self.digest(name)

    def text(self, name: str, *, at_most: int) -> str:
        """Take a text string of 1 to ``at_most`` characters."""
        value: str = self._take(name, str, "text")
        if not value or len(value) > at_most:
            raise MalformedError(f"{self._what} needs 1 to {at_most} characters in {name!r}")
        return value

    def unsigned(self, name: str, *, at_most: int = (1 << 63) - 1) -> int:
        """Take an integer from 0 to ``at_most``."""
        value: int = self._take(name, int, "an integer")
        if not 0 <= value <= at_most:
            raise MalformedError(f"{self._what} needs 0 to {at_most} in {name!r}")
        return value

    def flag(self, name: str) -> bool:
        """Take true or false."""
        value: bool = self._take(name, bool, "true or false")
        return value

    def null(self, name: str) -> bool:
        """Take an explicit null if that is what the member is, and tell whether it was."""
        if name not in self._left or self._left[name] is not None:
            return False
        del self._left[name]
        return True

    def version(self, name: str, known: int) -> None:
        """Take the message's version, which must be ``known``."""
        value: int = self._take(name, int, "an integer")
        if value != known:
            raise MalformedError(f"{self._what} is of version {value}, this one knows {known}")

    def array(self, name: str, *, at_most: int) -> tuple[Any, ...]:
        """Take an array of up to ``at_most`` items."""
        value = self._left.pop(name, None)
        if not isinstance(value, list | tuple):
            raise MalformedError(f"{self._what} lacks the array {name!r}")
        if len(value) > at_most:
            raise MalformedError(f"{self._what} has more than {at_most} items in {name!r}")
        return tuple(value)

    def map(self, name: str, *, at_most: int) -> Mapping[Any, Any]:
        """Take a map of up to ``at_most`` members."""
        value = self._left.pop(name, None)
        if not isinstance(value, Mapping):
            raise MalformedError(f"{self._what} lacks the map {name!r}")
        if len(value) > at_most:
            raise MalformedError(f"{self._what} has more than {at_most} members in {name!r}")
        return value

    def has(self, name: str) -> bool:
        """Tell whether an optional member is present and not yet taken."""
        return name in self._left

    def end(self) -> None:
        """Refuse members that nobody took.

        Raises:
            MalformedError: The message has a member this version does not know.
        """
        if self._left:
            names = ", ".join(sorted(repr(key)[:40] for key in self._left)[:4])
            raise MalformedError(f"{self._what} has unknown members: {names}")
