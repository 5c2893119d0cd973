"""The verifier's folder: its database, its signing key, its settings, and the lock on them.

    verifier.json     {"schema": 1, "issuer": "https://…"}
    verifier.db       the store
    signing-key.pem   signs tokens: P-256, PKCS #8, mode 0600
    ledger-key.pem    signs checkpoints and receipts: Ed25519, PKCS #8, mode 0600
    event-key.pem     signs security events: RSA of 2048 bits, PKCS #8, mode 0600; made anew where
                      it is lost, for receivers fetch its public half
    leash-key.pem     signs permits to use expiring keys: P-256, PKCS #8, mode 0600; made where it
                      is not there: keys that wait for permits by a lost one are over with their
                      leases, and nodes need a new join bundle
    key-rotations.json  which token key took the place of which (``keyfolder``)
    lock              held while a verifier serves

Nothing outside this folder is needed to run, and nothing in it may be read by others.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bootlease.errors import MalformedError, TransportError
from bootlease.ledger import LedgerSigner
from bootlease.ledger.checkpoint import ledger_name
from bootlease.token import PrivateKeySigner, Signer, strictjson
from bootlease.token.keys import PrivateKey
from bootlease.token.publickey import RSA_EXPONENT, KeyKind
from bootlease.verifier.keys import Keys

SETTINGS: Final = "verifier.json"
DATABASE: Final = "verifier.db"
SIGNING_KEY: Final = "signing-key.pem"
NEXT_SIGNING_KEY: Final = "signing-key.next.pem"
ROTATIONS: Final = "key-rotations.json"
LEDGER_KEY: Final = "ledger-key.pem"
EVENT_KEY: Final = "event-key.pem"
LEASH_KEY: Final = "leash-key.pem"
LOCK: Final = "lock"

_SCHEMA: Final = 1
_PRIVATE_FILE: Final = 0o600
_PRIVATE_FOLDER: Final = 0o700
_MAX_SETTINGS: Final = 64 * 1024
_MAX_ISSUER: Final = 512
_RSA_BITS: Final = 2048
"""What the CAEP interoperability profile demands; events are heeded for days, not for years."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``init`` fixed for good.

    Attributes:
        issuer: The verifier's URL as every token's ``iss`` has it.
    """

    issuer: str


def check_issuer(issuer: str) -> str:
    """Return ``issuer`` if it can be one.

    Raises:
        MalformedError: It is no http or https URL in the form that tokens carry.
    """
    try:
        parts = urlsplit(issuer)
        port = parts.port
    except ValueError as exc:
        raise MalformedError(f"issuer {issuer!r:.80} is not a URL") from exc
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.query
        or parts.fragment
        or parts.username is not None
        or port == 0
        or issuer.endswith("/")
        or not issuer.isascii()
        or not issuer.isprintable()
        or " " in issuer
        or len(issuer) > _MAX_ISSUER
    ):
        raise MalformedError(
            f"issuer {issuer!r:.80} must be an http or https URL without a final slash, such as"
            " https://verifier.example:8443"
        )
    return issuer


def write_private(path: Path, data: bytes) -> None:
    """Make a file that only its owner can read, durable before this returns.

    Raises:
        FileExistsError: There is one.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_settings(folder: Path, settings: Settings) -> None:
    """Write ``verifier.json``: the last file that ``init`` makes."""
    text = json.dumps({"schema": _SCHEMA, "issuer": settings.issuer}, indent=2) + "\n"
    write_private(folder / SETTINGS, text.encode())


def read_settings(folder: Path, *, restoring: bool = False) -> Settings:
    """Read ``verifier.json``.

    Args:
        folder: The verifier's folder.
        restoring: Its database is to be made again, and so must not be there.

    Raises:
        MalformedError: The folder has none, or it is damaged or of another version, or the
            database beside it is gone.
    """
    path = folder / SETTINGS
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_SETTINGS + 1)
    except FileNotFoundError as exc:
        raise MalformedError(
            f"{folder} holds no verifier; make one with: bootlease verifier init"
            f" --data {shlex.quote(str(folder))} --issuer URL --policy FILE --ek-root FILE"
        ) from exc
    except OSError as exc:
        raise MalformedError(f"{path}: {exc.strerror}") from exc
    if len(data) > _MAX_SETTINGS:
        raise MalformedError(f"{path} is too long")
    members = strictjson.parse_object(data)
    if members.keys() != {"schema", "issuer"} or members["schema"] != _SCHEMA:
        raise MalformedError(f"{path} is not of schema {_SCHEMA}")
    if type(members["issuer"]) is not str:
        raise MalformedError(f"{path} names no issuer")
    if restoring and (folder / DATABASE).exists():
        raise MalformedError(
            f"{folder} has a {DATABASE}: move it away, with its -wal and -shm files"
        )
    if not restoring and not (folder / DATABASE).is_file():
        raise MalformedError(
            f"{folder} has lost its {DATABASE}: restore it from a backup; a new one would"
            " forget every node, counter and decision"
        )
    return Settings(check_issuer(members["issuer"]))


def make_keys(folder: Path) -> None:
    """Generate the verifier's keys and store them with mode 0600."""
    keep_key(folder / SIGNING_KEY, ec.generate_private_key(ec.SECP256R1()))
    keep_key(folder / LEDGER_KEY, ed25519.Ed25519PrivateKey.generate())
    make_event_key(folder)
    make_leash_key(folder)


def make_leash_key(folder: Path) -> None:
    """Generate the key for permits where there is none: an older folder has not got it."""
    if os.path.lexists(folder / LEASH_KEY):
        return
    with suppress(FileExistsError):
        keep_key(folder / LEASH_KEY, ec.generate_private_key(ec.SECP256R1()))


def make_event_key(folder: Path) -> None:
    """Generate the key for security events where there is none."""
    if os.path.lexists(folder / EVENT_KEY):
        return
    with suppress(FileExistsError):
        keep_key(folder / EVENT_KEY, rsa.generate_private_key(RSA_EXPONENT, _RSA_BITS))


def keep_key(path: Path, key: PrivateKey) -> None:
    """Write a private key to a new file that only its owner can read."""
    write_private(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def load_keys(folder: Path, issuer: str) -> Keys:
    """Load the verifier's keys.

    Args:
        folder: The verifier's folder.
        issuer: Its URL, which names its ledger.

    Raises:
        MalformedError: One cannot be read, others can read it too, or it is of another kind.
    """
    token, ledger = load_signing_key(folder / SIGNING_KEY), _load_key(folder / LEDGER_KEY)
    leash = _load_leash_key(folder / LEASH_KEY)
    if leash is not None and leash.key_id == token.key_id:
        # What a leash key signs begins with bytes that a node chose.
        raise MalformedError(f"{folder / LEASH_KEY} is the token key: it must be one of its own")
    if not isinstance(ledger, ed25519.Ed25519PrivateKey):
        raise MalformedError(f"{folder / LEDGER_KEY} is not an Ed25519 key")
    try:
        return Keys(
            token,
            LedgerSigner(ledger_name(issuer), PrivateKeySigner(ledger)),
            _load_event_key(folder / EVENT_KEY),
            leash,
        )
    except ValueError as exc:
        raise MalformedError(f"{folder / LEDGER_KEY}: {exc}") from exc


def load_signing_key(path: Path) -> PrivateKeySigner:
    """Load a token key.

    Raises:
        MalformedError: It cannot be read, others can read it too, or it is of another kind.
    """
    key = _load_key(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise MalformedError(f"{path} is not an EC key")
    try:
        return PrivateKeySigner(key)
    except ValueError as exc:
        raise MalformedError(f"{path}: {exc}") from exc


def _load_event_key(path: Path) -> Signer | None:
    # A link that leads nowhere is no missing file: whoever put it there is told.
    if not os.path.lexists(path):
        return None
    key = _load_key(path)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise MalformedError(f"{path} is not an RSA key")
    try:
        return PrivateKeySigner(key)
    except ValueError as exc:
        raise MalformedError(f"{path}: {exc}") from exc


def _load_leash_key(path: Path) -> Signer | None:
    if not os.path.lexists(path):
        return None
    signer = load_signing_key(path)
    if signer.public.kind is not KeyKind.P256:
        raise MalformedError(f"{path} is not a key on P-256, which TPMs verify with")
    return signer


def _load_key(path: Path) -> object:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        raise MalformedError(
            f"{path} is not there: put it back from where you keep it. A folder that `bootlease"
            " ledger import` made has none: it is audited with keys from outside, as options"
        ) from exc
    except OSError as exc:
        raise MalformedError(f"{path}: {exc.strerror}") from exc
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        data = file.read(_MAX_SETTINGS)
    if mode & ~_PRIVATE_FILE:
        raise MalformedError(
            f"{path} has mode {mode:04o}: others may have read it; expected at most 0600"
        )
    try:
        return serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as exc:
        raise MalformedError(f"{path} is not a PEM private key") from exc


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder for one serving process; the kernel lets go when it dies.

    Raises:
        TransportError: Another process serves it.
        MalformedError: It cannot be written to.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE)
    except OSError as exc:
        raise MalformedError(f"{folder / LOCK}: {exc.strerror}") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(descriptor)
        raise TransportError(f"another verifier serves {folder}") from exc
    try:
        yield
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder that only its owner can enter."""
    path.mkdir(mode=_PRIVATE_FOLDER, parents=True)
