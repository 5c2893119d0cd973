"""What a monitor has seen and verified, kept in one file.

The file is JSON; it is replaced at once or not at all, and only by what was verified. Lost, the
monitor reads everything again; put back from a backup, it accepts what it had not seen by then.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bootlease.errors import MalformedError, TransportError
from bootlease.ledger.merkle import Frontier
from bootlease.ledger.note import MAX_NOTE
from bootlease.ledger.shardlist import MAX_SHARDS, is_shard_name
from bootlease.token import strictjson

MAX_STATE: Final = 64 * 1024 * 1024
_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class SeenShard:
    """A shard as far as it was read and verified.

    Attributes:
        name: Its period.
        tree: The tree, ready to grow.
        checkpoint: The signed note over it; empty where nothing was read.
        closed: Another shard has followed.
    """

    name: str
    tree: Frontier = field(default_factory=Frontier)
    checkpoint: bytes = b""
    closed: bool = False


@dataclass(frozen=True, slots=True)
class MonitorState:
    """Everything that one monitor remembers.

    Attributes:
        key: Verifier key of the log that it follows.
        shards: The shards, the first one first.
        reread_shard: Where the next reading of old entries starts: place in ``shards``.
        reread_bundle: And the entry bundle in it.
    """

    key: str
    shards: tuple[SeenShard, ...] = ()
    reread_shard: int = 0
    reread_bundle: int = 0


def load_state(path: Path, key: str) -> MonitorState:
    """Read what was seen of a log; nothing, where there is no file.

    Args:
        path: The file.
        key: Verifier key of the log.

    Raises:
        MalformedError: It is damaged, or belongs to another log.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_STATE + 1)
    except FileNotFoundError:
        return MonitorState(key)
    except OSError as exc:
        raise MalformedError(f"{path}: {exc.strerror}") from exc
    try:
        state = _parse(data)
    except MalformedError as exc:
        raise MalformedError(f"{path} is not a monitor's state: {exc}") from exc
    if state.key != key:
        raise MalformedError(f"{path} follows the log of {state.key}: give each log its own file")
    return state


def save_state(path: Path, state: MonitorState) -> None:
    """Replace the file, durably.

    Raises:
        TransportError: It cannot be written; the old one is still there.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as exc:
        raise TransportError(f"cannot write {path}: {exc.strerror}") from exc
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_serialise(state))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as exc:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise TransportError(f"cannot write {path}: {exc.strerror}") from exc


def _serialise(state: MonitorState) -> bytes:
    shards = [
        {
            "name": shard.name,
            "size": shard.tree.size,
            "hashes": [one.hex() for one in shard.tree.hashes],
            "checkpoint": base64.b64encode(shard.checkpoint).decode(),
            "closed": shard.closed,
        }
        for shard in state.shards
    ]
    members = {
        "schema": _SCHEMA,
        "key": state.key,
        "shards": shards,
        "reread": [state.reread_shard, state.reread_bundle],
    }
    return json.dumps(members, indent=1).encode() + b"\n"


def _parse(data: bytes) -> MonitorState:
    if len(data) > MAX_STATE:
        raise MalformedError("it is too long")
    members = strictjson.parse_object(data)
    key, shards, reread = (members.get(name) for name in ("key", "shards", "reread"))
    if members.get("schema") != _SCHEMA or type(key) is not str:
        raise MalformedError(f"it is not of schema {_SCHEMA}")
    if not isinstance(shards, list) or len(shards) > MAX_SHARDS:
        raise MalformedError("it has no list of shards")
    match reread:
        case [int(shard), int(bundle)] if shard >= 0 and bundle >= 0:
            return MonitorState(key, tuple(map(_parse_shard, shards)), shard, bundle)
    raise MalformedError("it does not say where to read again")


def _parse_shard(value: Any) -> SeenShard:  # noqa: ANN401 - whatever JSON holds
    match value:
        case {
            "name": str(name),
            "size": int(size),
            "hashes": list(hashes),
            "checkpoint": str(checkpoint),
            "closed": bool(closed),
        } if is_shard_name(name) and len(checkpoint) <= 2 * MAX_NOTE:
            pass
        case _:
            raise MalformedError("a shard has not the members that it must have")
    try:
        tree = Frontier(size, tuple(bytes.fromhex(one) for one in hashes))
        note = base64.b64decode(checkpoint, validate=True)
    except (TypeError, ValueError, binascii.Error) as exc:
        raise MalformedError(f"shard {name} is damaged") from exc
    return SeenShard(name, tree, note, closed)
