"""Token keys in the verifier's folder, where one takes the place of another.

    signing-key.pem        the key that signs
    signing-key.next.pem   the one that will, while a rotation is under way
    key-rotations.json     {"schema": 1, "rotations": [{"at", "previous": JWK, "rotation": JWS}]}

The last file decides: a rotation is done once it names the new key. A verifier that was killed
before has the old key and forgets the new one; one that was killed after it takes the new one up.
The private half of a key that was replaced is gone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.errors import MalformedError, VerificationError
from bootlease.token import KeySet, PrivateKeySigner, PublicKey, Signer, VerificationKey, strictjson
from bootlease.token.keyrotation import MAX_ROTATION, MAX_ROTATIONS, verify_rotation
from bootlease.verifier.datadir import (
    NEXT_SIGNING_KEY,
    ROTATIONS,
    SIGNING_KEY,
    keep_key,
    load_signing_key,
    sync_folder,
    write_private,
)
from bootlease.verifier.tokenkeys import Rotated, TokenKeys

_SCHEMA: Final = 1
_MAX_FILE: Final = 1024 * 1024
_PARTS: Final = frozenset({"at", "previous", "rotation"})


def read_rotations(folder: Path, issuer: str) -> tuple[Rotated, ...]:
    """Return the rotations of a verifier's folder, the oldest first, each signed by its key.

    Raises:
        MalformedError: The file is damaged, or is another verifier's.
    """
    path = folder / ROTATIONS
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        return ()
    except OSError as exc:
        raise MalformedError(f"{path}: {exc.strerror}") from exc
    if len(data) > _MAX_FILE:
        raise MalformedError(f"{path} is too long")
    members = strictjson.parse_object(data)
    listed = members.get("rotations")
    if members.keys() != {"schema", "rotations"} or members["schema"] != _SCHEMA:
        raise MalformedError(f"{path} is not of schema {_SCHEMA}")
    if type(listed) is not list or len(listed) > MAX_ROTATIONS:
        raise MalformedError(f"{path} lists no rotations, or too many")
    rotations = tuple(_rotation(each, path) for each in listed)
    _demand_chain(rotations, path, issuer)
    return rotations


def _rotation(value: object, path: Path) -> Rotated:
    if type(value) is not dict or value.keys() != _PARTS:
        raise MalformedError(f"{path} has a rotation that is none")
    at, statement = value["at"], value["rotation"]
    if type(at) is not int or type(statement) is not str or len(statement) > MAX_ROTATION:
        raise MalformedError(f"{path} has a rotation that is none")
    try:
        return Rotated(at, VerificationKey(PublicKey.from_jwk(value["previous"])), statement)
    except ValueError as exc:
        raise MalformedError(f"{path}: {exc}") from exc


def _demand_chain(rotations: Sequence[Rotated], path: Path, issuer: str) -> None:
    named: str | None = None
    for each in rotations:
        if named not in {None, each.previous.key_id}:
            raise MalformedError(f"{path}: the rotations are not one chain")
        named = _named_by(each, path, issuer)


def _named_by(rotated: Rotated, path: Path, issuer: str) -> str:
    try:
        return verify_rotation(rotated.statement, KeySet((rotated.previous,)), issuer=issuer).key_id
    except VerificationError as exc:
        raise MalformedError(f"{path}: {exc}") from exc


def token_keys_of(folder: Path, issuer: str) -> TokenKeys:
    """Return the token keys of a folder that may be served meanwhile.

    Raises:
        MalformedError: One cannot be read, or they are not one chain.
    """
    return TokenKeys(load_signing_key(folder / SIGNING_KEY), read_rotations(folder, issuer))


class KeyFolder:
    """Makes token keys in a folder, one after the other.

    Args:
        folder: The verifier's folder, held by this process alone.
        issuer: The verifier's URL.
    """

    def __init__(self, folder: Path, issuer: str) -> None:
        self._folder = folder
        self._issuer = issuer

    def recover(self) -> None:
        """Finish or forget a rotation that a killed verifier had begun.

        Raises:
            MalformedError: The key that signs is not the one that the rotations name.
        """
        rotations = read_rotations(self._folder, self._issuer)
        path, upcoming = self._folder / SIGNING_KEY, self._folder / NEXT_SIGNING_KEY
        last = None
        if rotations:
            last = _named_by(rotations[-1], self._folder / ROTATIONS, self._issuer)
        if upcoming.exists():
            if last is not None and _key_id(upcoming) == last:
                self._take_up()
            else:
                upcoming.unlink()
        if last is not None and _key_id(path) != last:
            raise MalformedError(
                f"{path} is not the key that {self._folder / ROTATIONS} names last: put the right"
                " one back from where you keep it"
            )

    def make(self) -> Signer:
        """Make the next key, durable before this returns; it signs nothing yet."""
        path = self._folder / NEXT_SIGNING_KEY
        path.unlink(missing_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        keep_key(path, key)
        sync_folder(self._folder)
        return PrivateKeySigner(key)

    def settle(self, rotations: Sequence[Rotated]) -> None:
        """Let the next key take its place; the private half of the one before is gone."""
        listed: list[dict[str, Any]] = [
            {"at": each.at, "previous": each.previous.public.jwk(), "rotation": each.statement}
            for each in rotations
        ]
        text = json.dumps({"schema": _SCHEMA, "rotations": listed}, indent=2) + "\n"
        partial = self._folder / f"{ROTATIONS}.next"
        partial.unlink(missing_ok=True)
        write_private(partial, text.encode())
        partial.replace(self._folder / ROTATIONS)
        sync_folder(self._folder)
        self._take_up()

    def _take_up(self) -> None:
        (self._folder / NEXT_SIGNING_KEY).replace(self._folder / SIGNING_KEY)
        sync_folder(self._folder)


def _key_id(path: Path) -> str:
    return load_signing_key(path).key_id
