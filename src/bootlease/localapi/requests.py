"""What a workload asks of the agent.

Unknown members are refused, not ignored. What JSON cannot say in one way only (a repeated member,
a fraction) is refused by ``strictjson``.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from bootlease.errors import MalformedError
from bootlease.localapi import fields
from bootlease.token import base64url, strictjson
from bootlease.token import scope as scopes
from bootlease.token.kinds import MAX_LEVEL, TokenFormat

if TYPE_CHECKING:
    from bootlease.token import PublicKey

HANDLE_BYTES: Final = 32
"""Random bytes of a handle: who has one speaks for the lease, and nobody guesses it."""
MAX_AUDIENCE: Final = 512
MAX_URL: Final = 4096
MAX_METHOD: Final = 16
MAX_NONCE: Final = 256

_HANDLE_CHARACTERS: Final = 43
_METHOD: Final = re.compile(r"[A-Z]+(?:-[A-Z]+)*", re.ASCII)
_NONCE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+", re.ASCII)
"""NQCHAR of RFC 6749 appendix A, which RFC 9449 §8.1 demands of a nonce."""


class ConfirmationChoice(enum.Enum):
    """Where the private half of a lease's confirmation key is to live."""

    PROCESS = "process"
    """In the agent."""
    TPM = "tpm"
    """In the node's TPM."""
    TPM_EXPIRING = "tpm-expiring"
    """In the node's TPM, which stops using it when the lease ends."""
    OWN = "own"
    """With the workload; the agent knows its public half."""


_ASKED: Final = {
    choice.value: choice for choice in ConfirmationChoice if choice is not ConfirmationChoice.OWN
}


def is_handle(value: object) -> TypeGuard[str]:
    """Tell whether ``value`` has the form of a handle."""
    if type(value) is not str or len(value) != _HANDLE_CHARACTERS:
        return False
    try:
        return len(base64url.decode(value)) == HANDLE_BYTES
    except MalformedError:
        return False


@dataclass(frozen=True, slots=True)
class LeaseAsk:
    """A lease that a workload asks the agent to hold for it.

    Attributes:
        scope: Scope names, at least one.
        audience: The relying party.
        handle: 32 random bytes as base64url, chosen by who asks: its name for the lease.
        encoding: Form of the token.
        confirmation: Where the confirmation key lives.
        key: The workload's own confirmation key; then ``confirmation`` is ``OWN``.
        level: Level 0 to 3 at which who asks says that it will enforce the end of the lease.

    Raises:
        ValueError: One of them has not its form.
    """

    scope: tuple[str, ...]
    audience: str
    handle: str
    encoding: TokenFormat = TokenFormat.CWT
    confirmation: ConfirmationChoice = ConfirmationChoice.PROCESS
    key: PublicKey | None = None
    level: int | None = None

    def __post_init__(self) -> None:
        scopes.check(self.scope)
        if not 0 < len(self.audience) <= MAX_AUDIENCE or not self.audience.isprintable():
            raise ValueError(f"an audience has 1 to {MAX_AUDIENCE} printable characters")
        if not is_handle(self.handle):
            raise ValueError(f"a handle is {HANDLE_BYTES} bytes as base64url")
        if (self.key is not None) != (self.confirmation is ConfirmationChoice.OWN):
            raise ValueError("a key goes with confirmation by an own key, and only with it")
        if self.key is not None:
            _refuse_other_kinds(self.key)
        if self.level is not None and not 0 <= self.level <= MAX_LEVEL:
            raise ValueError(f"a level is an integer from 0 to {MAX_LEVEL}")

    def encode(self) -> bytes:
        """Return the wire form."""
        members: dict[str, Any] = {
            "scope": list(self.scope),
            "audience": self.audience,
            "encoding": self.encoding.value,
            "handle": self.handle,
        }
        if self.key is None:
            members["confirmation"] = self.confirmation.value
        else:
            members["key"] = self.key.jwk()
        if self.level is not None:
            members["level"] = self.level
        return strictjson.serialise(members)


def _refuse_other_kinds(key: PublicKey) -> None:
    from bootlease.token import KeyKind  # noqa: PLC0415 - a guard has no key, and does without

    if key.kind is not KeyKind.P256:
        raise ValueError("an own confirmation key is a P-256 key")


def parse_lease_ask(data: bytes) -> LeaseAsk:
    """Read a request for a lease into unverified values; the caller has bounded its length.

    Raises:
        MalformedError: It is none.
    """
    members = strictjson.parse_object(data)
    known = ("scope", "audience", "handle", "encoding", "confirmation", "key", "level")
    fields.only(members, known, "the request")
    key, choice = _confirmation(members)
    try:
        return LeaseAsk(
            scope=fields.texts(members, "scope", at_most=scopes.MAX_NAMES),
            audience=fields.text(members, "audience", at_most=MAX_AUDIENCE),
            handle=_handle(members),
            encoding=_encoding(members),
            confirmation=choice,
            key=key,
            level=fields.number(members, "level", at_most=MAX_LEVEL)
            if "level" in members
            else None,
        )
    except ValueError as exc:
        raise MalformedError(str(exc)) from exc


def _handle(members: dict[str, Any]) -> str:
    # Unlike the others it is nothing that is asked for: who asks has to make it up.
    handle = members.get("handle")
    if not is_handle(handle):
        wrong = "is missing" if "handle" not in members else "has another form"
        raise MalformedError(
            f"handle {wrong}: who asks names the lease by {HANDLE_BYTES} random bytes as base64url"
            " without padding"
        )
    return handle


def _encoding(members: dict[str, Any]) -> TokenFormat:
    if "encoding" not in members:
        return TokenFormat.CWT
    try:
        return TokenFormat(fields.text(members, "encoding", at_most=16))
    except ValueError as exc:
        raise MalformedError("encoding is not cwt, jwt or unsafe-bearer") from exc


def _confirmation(members: dict[str, Any]) -> tuple[PublicKey | None, ConfirmationChoice]:
    if "key" in members:
        from bootlease.token import PublicKey  # noqa: PLC0415 - as above

        if "confirmation" in members:
            raise MalformedError("key and confirmation exclude each other")
        key = PublicKey.from_jwk(members["key"])
        key.load()
        return key, ConfirmationChoice.OWN
    asked = members.get("confirmation", ConfirmationChoice.PROCESS.value)
    choice = _ASKED.get(asked) if type(asked) is str else None
    if choice is None:
        raise MalformedError(f"confirmation is not one of {', '.join(_ASKED)}")
    return None, choice


@dataclass(frozen=True, slots=True)
class ProofAsk:
    """A proof of possession that a workload asks the agent to make.

    Attributes:
        method: HTTP method of the request to prove.
        url: Its URL.
        nonce: The relying party's nonce (RFC 9449 §8), if it gave one.

    Raises:
        ValueError: One of them has not its form.
    """

    method: str
    url: str
    nonce: str | None = None

    def __post_init__(self) -> None:
        if len(self.method) > MAX_METHOD or _METHOD.fullmatch(self.method) is None:
            raise ValueError(f"a method has 1 to {MAX_METHOD} capital letters")
        if not 0 < len(self.url) <= MAX_URL or not (self.url.isascii() and self.url.isprintable()):
            raise ValueError(f"a URL has 1 to {MAX_URL} printable ASCII characters")
        if self.nonce is not None and (
            len(self.nonce) > MAX_NONCE or _NONCE.fullmatch(self.nonce) is None
        ):
            raise ValueError(f"a nonce has 1 to {MAX_NONCE} characters of RFC 6749's NQCHAR")

    def encode(self) -> bytes:
        """Return the wire form."""
        members = {"method": self.method, "url": self.url}
        if self.nonce is not None:
            members["nonce"] = self.nonce
        return strictjson.serialise(members)


def parse_proof_ask(data: bytes) -> ProofAsk:
    """Read a request for a proof into unverified values; the caller has bounded its length.

    Raises:
        MalformedError: It is none.
    """
    members = strictjson.parse_object(data)
    fields.only(members, ("method", "url", "nonce"), "the request")
    try:
        return ProofAsk(
            method=fields.text(members, "method", at_most=MAX_METHOD),
            url=fields.text(members, "url", at_most=MAX_URL),
            nonce=fields.text(members, "nonce", at_most=MAX_NONCE) if "nonce" in members else None,
        )
    except ValueError as exc:
        raise MalformedError(str(exc)) from exc
