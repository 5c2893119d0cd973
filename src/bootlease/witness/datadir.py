"""A witness's folder: its keys, its state, and the lock on both.

witness.json     {"schema": 1, "name": "…"}
ed25519.pem      PKCS #8, mode 0600
ml-dsa-44.pem    the same, where it was asked for
state.db         the largest tree of each log
lock             held while it serves
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from bootlease.errors import MalformedError, TransportError
from bootlease.ledger.cosignature import Cosigner, Ed25519Cosigner, MLDSA44Cosigner
from bootlease.ledger.note import check_name
from bootlease.token import PrivateKeySigner, strictjson
from bootlease.witness.state import WitnessState

SETTINGS: Final = "witness.json"
STATE: Final = "state.db"
LOCK: Final = "lock"
ED25519: Final = "ed25519.pem"
ML_DSA_44: Final = "ml-dsa-44.pem"

_SCHEMA: Final = 1
_PRIVATE: Final = 0o600
_MAX_FILE: Final = 64 * 1024


def make_witness(folder: Path, name: str, *, ml_dsa_44: bool = False) -> tuple[str, ...]:
    """Make a witness's folder and return its verifier keys.

    An interrupted call leaves no half-made witness: the folder gets its name last.

    Args:
        folder: To be made.
        name: Under which it cosigns; a URL without scheme by custom.
        ml_dsa_44: Make an ML-DSA-44 key besides the Ed25519 key.

    Raises:
        MalformedError: The name cannot be a key's, or the folder cannot be made.
    """
    try:
        check_name(name)
    except ValueError as exc:
        raise MalformedError(f"--name {name!r:.80}: {exc}") from exc
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MalformedError(f"{folder} exists and is not empty; choose another folder")
    building: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        _write_key(building / ED25519, Ed25519PrivateKey.generate())
        if ml_dsa_44:
            _write_key(building / ML_DSA_44, MLDSA44PrivateKey.generate())
        WitnessState(building / STATE, make=True).close()
        settings = json.dumps({"schema": _SCHEMA, "name": name}, indent=2) + "\n"
        _write_private(building / SETTINGS, settings.encode())
        vkeys = tuple(str(cosigner.key) for cosigner in _cosigners(building))
        building.rename(folder)
        _sync(folder.parent)
    except OSError as exc:
        raise MalformedError(f"{folder}: {exc.strerror}") from exc
    finally:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)
    return vkeys


@contextmanager
def open_witness(folder: Path) -> Iterator[tuple[WitnessState, tuple[Cosigner, ...]]]:
    """Hold a witness's folder: its state and its keys.

    Raises:
        MalformedError: It is no witness's, or a key can be read by others.
        TransportError: Another process holds it.
    """
    cosigners = _cosigners(folder)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TransportError(f"another witness serves {folder}") from exc
        state = WitnessState(folder / STATE)
        try:
            yield state, cosigners
        finally:
            state.close()
    finally:
        os.close(descriptor)


def _cosigners(folder: Path) -> tuple[Cosigner, ...]:
    name = _read_name(folder)
    ed25519 = _read_key(folder / ED25519)
    if not isinstance(ed25519, Ed25519PrivateKey):
        raise MalformedError(f"{folder / ED25519} is not an Ed25519 key")
    cosigners: list[Cosigner] = [Ed25519Cosigner(name, PrivateKeySigner(ed25519))]
    if (folder / ML_DSA_44).exists():
        ml_dsa = _read_key(folder / ML_DSA_44)
        if not isinstance(ml_dsa, MLDSA44PrivateKey):
            raise MalformedError(f"{folder / ML_DSA_44} is not an ML-DSA-44 key")
        cosigners.append(MLDSA44Cosigner(name, ml_dsa))
    return tuple(cosigners)


def _read_name(folder: Path) -> str:
    path = folder / SETTINGS
    try:
        with path.open("rb") as file:
            members = strictjson.parse_object(file.read(_MAX_FILE))
    except FileNotFoundError as exc:
        raise MalformedError(
            f"{folder} holds no witness; make one with: bootlease ledger witness init"
        ) from exc
    name = members.get("name")
    if members.get("schema") != _SCHEMA or type(name) is not str:
        raise MalformedError(f"{path} is not of schema {_SCHEMA}")
    return name


def _read_key(path: Path) -> object:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        raise MalformedError(f"{path}: {exc.strerror}") from exc
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        data = file.read(_MAX_FILE)
    if mode & ~_PRIVATE:
        raise MalformedError(
            f"{path} has mode {mode:04o}: others may have read it; expected at most 0600"
        )
    try:
        return serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise MalformedError(f"{path} is not a PEM private key") from exc


def _write_key(path: Path, key: Ed25519PrivateKey | MLDSA44PrivateKey) -> None:
    _write_private(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
