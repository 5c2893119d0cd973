"""Strict base64url without padding (RFC 4648 §5, RFC 7515 §2).

One value has one text form: padding, the other alphabet, white space and non-zero trailing bits
are refused. A decoder that shrugs at them lets one token be written in many ways, which defeats
caches and replay checks that are keyed by the text.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import Final

from bootlease.errors import MalformedError

_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
_PADDING: Final = (b"", b"", b"==", b"=")
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_LAST: Final[tuple[frozenset[int], ...]] = (
    frozenset(_ALPHABET),
    frozenset(),
    frozenset(_ALPHABET[::16]),
    frozenset(_ALPHABET[::4]),
)
"""Last characters whose unused bits are zero, by length modulo 4; no text has length 1 modulo 4."""


def encode(data: bytes) -> str:
    """Return ``data`` as base64url text without padding."""
    return b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Decode base64url text; ``encode(decode(text)) == text`` holds for all that is accepted.

    Raises:
        MalformedError: ``text`` is not base64url in its only form.
    """
    try:
        raw = text.encode("ascii")
        rest = len(raw) & 3
        data = a2b_base64(raw.translate(_FROM_URL) + _PADDING[rest], strict_mode=True)
    except (UnicodeEncodeError, Base64Error) as exc:
        raise MalformedError("text is not base64url without padding") from exc
    if raw and raw[-1] not in _LAST[rest]:
        raise MalformedError("base64url text ends in bits that encode nothing")
    return data
