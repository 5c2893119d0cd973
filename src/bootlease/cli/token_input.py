"""What the commands of ``bootlease token`` read: tokens, key sets, confirmation keys."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bootlease.cli.files import read_file
from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.node.bundle import MAX_BUNDLE, parse_bundle
from bootlease.relyingparty import (
    ContinuitySource,
    FetchedKeys,
    FileKeys,
    KeySource,
    PolledContinuity,
    StaticContinuity,
    StaticKeys,
    UnsafeNoContinuity,
)
from bootlease.token import PrivateKeySigner, base64url
from bootlease.token.verified import MAX_TOKEN_BYTES
from bootlease.token.verify import unwrap

_MAX_INPUT: Final = 2 * MAX_TOKEN_BYTES
_MAX_PATH: Final = 1024
_MAX_KEY: Final = 64 * 1024
_SHORTEST_TOKEN: Final = 200
"""Characters; a signature and the mandatory claims alone need more. Shorter text is a file name
with a typo."""


class RequestURL(click.ParamType[str]):
    """An absolute http or https URL."""

    name = "url"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Check the form."""
        text = str(value)
        try:
            parts = urlsplit(text)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            self.fail(f"{text!r} is not an absolute http or https URL", param, ctx)
        return text


def read_token(text: str) -> bytes:
    """Return a token given as itself, as a file that holds it, or as "-" for standard input.

    Raises:
        MalformedError: It is none of them.
        TransportError: The file cannot be read.
    """
    try:
        if text == "-" or (len(text) <= _MAX_PATH and _is_readable(Path(text))):
            with click.open_file(text, "rb") as file:
                data: bytes = file.read(_MAX_INPUT + 1)
            if not data.strip():
                raise MalformedError(f"{'standard input' if text == '-' else text} is empty")
        elif len(text) < _SHORTEST_TOKEN:
            raise MalformedError(f"no file {text!r}, and too short for a token")
        else:
            data = text.encode()
    except OSError as exc:
        raise TransportError(f"cannot read {text}: {exc.strerror}") from exc
    except (UnicodeEncodeError, ValueError) as exc:
        raise MalformedError("neither a token nor a file") from exc
    if len(data) > _MAX_INPUT:
        raise MalformedError(f"a token has at most {MAX_TOKEN_BYTES} bytes")
    # A CWT is binary, and may well end in a byte that looks like white space.
    return data if data[:1] and data[0] > 0x7F else data.strip()  # noqa: PLR2004 - not ASCII


def _is_readable(path: Path) -> bool:
    """Tell whether ``path`` is there.

    Raises:
        MalformedError: It is, and can hold no token.
    """
    if not path.exists():
        return False
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise MalformedError(f"{path} is a directory")
    # A pipe is what a shell makes of <(…).
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        raise MalformedError(f"{path} is no regular file")
    return True


def as_text(raw: bytes) -> str:
    """Return a token as HTTP carries it."""
    form = unwrap(raw)
    return form if isinstance(form, str) else base64url.encode(form)


def key_source(text: str) -> KeySource:
    """Return the verifier's keys, from a URL or a file.

    Raises:
        MalformedError: The file holds no keys.
        TransportError: It cannot be read.
    """
    if "://" in text:
        try:
            fetched = FetchedKeys(text)
        except ValueError as exc:
            raise click.BadParameter(str(exc), param_hint="--keys") from exc
        click.get_current_context().call_on_close(fetched.close)
        return fetched
    path = Path(text)
    try:
        return FileKeys(path)
    except MalformedError as exc:
        try:
            return StaticKeys(parse_bundle(read_file(path, at_most=MAX_BUNDLE)).keys)
        except MalformedError:
            raise MalformedError(
                f"no JWK Set, COSE key set, PEM key or join bundle in {path}"
            ) from exc


def continuity_source(
    url: str | None, keys: KeySource, issuer: str
) -> ContinuitySource | UnsafeNoContinuity:
    """Return what a verifier says of revocation, asked once; without URL nothing is asked.

    Raises:
        TransportError: It cannot be had.
        VerificationError: What the verifier says does not count.
    """
    if url is None:
        # Reading a token on one's own is allowed; the command says what it did not look at.
        return UnsafeNoContinuity()
    try:
        source = PolledContinuity(url, keys, issuer=issuer)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--continuity") from exc
    with contextlib.closing(source):
        try:
            return StaticContinuity(source.current())
        except VerificationError as exc:
            if isinstance(exc.__cause__, TransportError):
                raise exc.__cause__ from exc
            raise


def read_signer(path: Path) -> PrivateKeySigner:
    """Read a confirmation key.

    Raises:
        MalformedError: The file holds no private key of an accepted kind.
        OSError: It cannot be read.
    """
    data = read_file(path, at_most=_MAX_KEY)
    try:
        key = load_pem_private_key(data, None)
        return PrivateKeySigner(key)  # type: ignore[arg-type] # refuses what it does not accept
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise MalformedError(
            f"no unencrypted PEM private key of an accepted kind in {path}"
        ) from exc
