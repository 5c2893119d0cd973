"""Where a client's token and its key come from: the files of a node's agent, or a function.

``bootlease node run --token-file T --key-file K`` keeps both for as long as the lease stands, takes
them away when it ends, and exchanges them at every renewal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bootlease.errors import BootleaseError, MalformedError, TransportError
from bootlease.token import ExecutionClaims, PrivateKeySigner, Signer, base64url, parse_token
from bootlease.token.verified import MAX_TOKEN_BYTES
from bootlease.token.verify import unwrap

RENEW_AT: Final = 2 / 3
"""Part of a lease's time after which another one is asked for."""

_MAX_KEY: Final = 64 * 1024
_RETRY: Final = 1.0
_TRIES: Final = 5
_BETWEEN: Final = 0.02
"""Seconds after which the second of two files that change together has changed, too."""


@dataclass(frozen=True, slots=True)
class Presentable:
    """A token and what proves possession of it.

    Attributes:
        token: As HTTP carries it.
        signer: Signs with its confirmation key.
        claims: What the token says; nobody verified it.
    """

    token: str
    signer: Signer = field(repr=False)
    claims: ExecutionClaims = field(repr=False)

    @classmethod
    def of(cls, token: bytes | str, signer: Signer) -> Presentable:
        """Put a token and its key together.

        Raises:
            MalformedError: Not a token, or another key than it confirms.
        """
        _, claims = parse_token(token)
        if claims.confirmation != signer.public:
            raise MalformedError("the token confirms another key")
        form = unwrap(token)
        return cls(form if isinstance(form, str) else base64url.encode(form), signer, claims)


class TokenSource(Protocol):
    """Gives the token to present now."""

    def current(self) -> Presentable:
        """Return it.

        Raises:
            TransportError: There is none that has not expired.
        """


class FileTokenSource:
    """The two files that a node's agent keeps; read again when they change."""

    def __init__(
        self, token_file: Path, key_file: Path, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Look at nothing yet."""
        self._paths = token_file, key_file
        self._clock = clock
        self._lock = threading.Lock()
        self._read: tuple[object, Presentable] | None = None

    def current(self) -> Presentable:
        """Return what the files hold.

        Raises:
            TransportError: The agent holds no lease, or the one in the files has expired.
            MalformedError: The files hold something else.
        """
        with self._lock:
            found = self._current()
        return _unexpired(found, self._clock())

    def _current(self) -> Presentable:
        for last in (False,) * (_TRIES - 1) + (True,):
            stamp = self._stamp()
            if self._read is not None and self._read[0] == stamp:
                return self._read[1]
            try:
                found = Presentable.of(self._bytes(0, 2 * MAX_TOKEN_BYTES), self._signer())
            except MalformedError:
                # The agent may have written one of the two and not yet the other.
                if last:
                    raise
                time.sleep(_BETWEEN)
                continue
            if self._stamp() == stamp:
                self._read = stamp, found
                return found
        raise TransportError(f"{self._paths[0]} changes faster than it can be read")

    def _stamp(self) -> tuple[object, ...]:
        try:
            found = [path.stat() for path in self._paths]
        except OSError as exc:
            self._read = None
            raise TransportError(f"no lease is held: {exc.filename}: {exc.strerror}") from exc
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)

    def _bytes(self, which: int, at_most: int) -> bytes:
        try:
            with self._paths[which].open("rb") as file:
                return file.read(at_most + 1)
        except OSError as exc:
            raise TransportError(f"no lease is held: {exc.filename}: {exc.strerror}") from exc

    def _signer(self) -> PrivateKeySigner:
        try:
            key = load_pem_private_key(self._bytes(1, _MAX_KEY), None)
            return PrivateKeySigner(key)  # type: ignore[arg-type] # refuses what it does not accept
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise MalformedError(f"no PEM private key of an accepted kind: {exc}") from exc


class RenewingTokenSource:
    """Tokens that a function gets; the next one before the last one's time is over.

    One caller at a time renews; others go on with the token in hand while it has not expired.
    """

    def __init__(
        self,
        renew: Callable[[], Presentable],
        *,
        renew_at: float = RENEW_AT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to ask ``renew``, which raises one of bootlease's errors where it cannot.

        Raises:
            ValueError: ``renew_at`` is no part of 1.
        """
        if not 0 < renew_at < 1:
            raise ValueError("a lease is renewed before its time is over")
        self._renew = renew
        self._renew_at = renew_at
        self._clock = clock
        self._lock = threading.Lock()
        self._held: Presentable | None = None
        self._next_try = float("-inf")

    def current(self) -> Presentable:
        """Return the token in hand, or the next one.

        Raises:
            BootleaseError: There is none, and renewing failed.
        """
        held = self._held
        if held is not None and not self._is_due(held):
            return held
        alive = held is not None and held.claims.expires_at > self._clock()
        if not self._lock.acquire(blocking=not alive) and held is not None:
            return held
        try:
            return self._renewed()
        finally:
            self._lock.release()

    def _is_due(self, held: Presentable) -> bool:
        claims = held.claims
        life = claims.expires_at - claims.issued_at
        return self._clock() >= claims.issued_at + self._renew_at * life

    def _renewed(self) -> Presentable:
        held, now = self._held, self._clock()
        alive = held is not None and held.claims.expires_at > now
        if held is not None and (not self._is_due(held) or (alive and now < self._next_try)):
            return held
        try:
            self._held = fresh = self._renew()
        except BootleaseError:
            self._next_try = now + _RETRY
            if held is None or not alive:
                raise
            return held
        return _unexpired(fresh, self._clock())


def _unexpired(found: Presentable, now: float) -> Presentable:
    if found.claims.expires_at <= now:
        raise TransportError("no lease is held: the token has expired")
    return found
