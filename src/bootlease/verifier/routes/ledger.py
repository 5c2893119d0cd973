"""The ledger as anybody may read it: checkpoints, tiles, entries, proofs.

Specifications: C2SP tlog-tiles §APIs (checkpoint, tiles, partial tiles, entry bundles; their media
types and caching), tlog-checkpoint, tlog-proof. A shard is one log, with the prefix
``/ledger/NAME``.

Beyond them: the list of shards, the latest checkpoint that a witness cosigned, the record that
opens a shard, and consistency proofs as lines of base64. Nothing here is secret: leaves are
digests, and a shard's opening holds a checkpoint.

Not handled on purpose: compression (digests do not compress), pruning (nothing is pruned).
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from fastapi import APIRouter, Depends, Request, Response

from bootlease.errors import MalformedError
from bootlease.ledger.addcheckpoint import encode_proof
from bootlease.ledger.leaf import parse_leaf
from bootlease.ledger.shardlist import ListedShard, encode_shard_list, is_shard_name
from bootlease.ledger.text import decode_number
from bootlease.ledger.tiles import (
    TILE_WIDTH,
    EntryBundle,
    Tile,
    encode_entries,
    parse_tile_path,
    tile_width,
)
from bootlease.ledger.tlogproof import TLogProof
from bootlease.ports import LedgerReader, Shard
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.contract import JSON, problems, success
from bootlease.verifier.routes.gate import client_of, throttled
from bootlease.verifier.service import Service

Published = TypeVar("Published")


async def pace(request: Request) -> None:
    """Let a client read no faster than others can bear.

    Raises:
        ProblemError: It asks too often.
    """
    service: Service = request.app.state.service
    throttled(service.throttle.ledger, (client_of(request),), service.clock.now())


router: Final = APIRouter(prefix="/ledger", dependencies=[Depends(pace)])

TEXT: Final = "text/plain; charset=utf-8"
OCTETS: Final = "application/octet-stream"
CBOR: Final = "application/cbor"

_IMMUTABLE: Final = {"cache-control": "public, max-age=31536000, immutable"}
"""What is computed from entries for given sizes never changes."""
_FRESH: Final = {"cache-control": "no-store"}
"""A checkpoint out of a cache would look like a log that went back."""
_COSIGNED: Final = {"cache-control": "public, max-age=60"}
"""A proof against a given size never changes, but its checkpoint may still be cosigned."""

_PROBLEMS: Final = problems(ProblemKind.NOT_FOUND, ProblemKind.BUSY_CLIENT, ProblemKind.UNAVAILABLE)


def _described(*, path: tuple[str, ...] = (), query: tuple[str, ...] = ()) -> dict[str, Any]:
    placed = [*((name, "path") for name in path), *((name, "query") for name in query)]
    return {
        "parameters": [
            {
                "name": name,
                "in": place,
                "required": place == "path",
                "schema": {"type": "string"},
            }
            for name, place in placed
        ]
    }


@router.get(
    "/shards",
    responses={200: success("The shards of the ledger, the first one first.", JSON), **_PROBLEMS},
    response_class=Response,
)
async def shards(request: Request) -> Response:
    """List the shards."""
    listed = [
        ListedShard(shard.number, shard.name, shard.origin, shard.size, shard.final)
        for shard in await _ledger(request).shards()
    ]
    return Response(encode_shard_list(listed), media_type=JSON, headers=_FRESH)


@router.get(
    "/{shard}/checkpoint",
    responses={200: success("The latest checkpoint, a signed note.", TEXT), **_PROBLEMS},
    openapi_extra=_described(path=("shard",)),
    response_class=Response,
)
async def checkpoint(request: Request) -> Response:
    """Return the latest checkpoint with the cosignatures that it has."""
    shard = await _shard(request)
    note = await _ledger(request).checkpoint(shard.number)
    return Response(_found(note, "checkpoint"), media_type=TEXT, headers=_FRESH)


@router.get(
    "/{shard}/cosigned",
    responses={200: success("The latest checkpoint that a witness cosigned.", TEXT), **_PROBLEMS},
    openapi_extra=_described(path=("shard",)),
    response_class=Response,
)
async def cosigned(request: Request) -> Response:
    """Return the largest checkpoint with a cosignature: the latest one mostly has none yet."""
    shard = await _shard(request)
    note = await _ledger(request).cosigned_checkpoint(shard.number)
    return Response(_found(note, "checkpoint"), media_type=TEXT, headers=_FRESH)


@router.get(
    "/{shard}/opening",
    responses={200: success("The governance record that opens the shard.", CBOR), **_PROBLEMS},
    openapi_extra=_described(path=("shard",)),
    response_class=Response,
)
async def opening(request: Request) -> Response:
    """Return the record in the shard's first leaf, which chains it to the shard before."""
    ledger, shard = _ledger(request), await _shard(request)
    leaves = await ledger.entries(shard.number, 0, 1)
    if not leaves:
        raise ProblemError(ProblemKind.NOT_FOUND, "The shard has no entry yet.")
    record = await ledger.governance_record(parse_leaf(leaves[0]).record)
    return Response(_found(record, "opening"), media_type=CBOR, headers=_IMMUTABLE)


@router.get(
    "/{shard}/tile/{tile:path}",
    responses={200: success("Hashes of a tile, or entries of a bundle.", OCTETS), **_PROBLEMS},
    openapi_extra=_described(path=("shard", "tile")),
    response_class=Response,
)
async def tile(request: Request) -> Response:
    """Return a tile, ``L/N[.p/W]``, or an entry bundle, ``entries/N[.p/W]``."""
    name = parse_tile_path(f"tile/{request.path_params['tile']}")
    ledger, shard = _ledger(request), await _shard(request)
    level = name.level if isinstance(name, Tile) else 0
    # Only what a signed tree covers is published.
    if tile_width(level, name.index, shard.size) < name.width:
        raise ProblemError(ProblemKind.NOT_FOUND, "The shard has not so many entries.")
    if isinstance(name, EntryBundle):
        first = name.index * TILE_WIDTH
        leaves = await ledger.entries(shard.number, first, first + name.width)
        body = encode_entries(leaves) if len(leaves) == name.width else None
    else:
        body = await ledger.tile(shard.number, name.level, name.index, name.width)
    return Response(_found(body, "tile"), media_type=OCTETS, headers=_IMMUTABLE)


@router.get(
    "/{shard}/inclusion/{index}",
    responses={200: success("A tlog-proof with the entry and a checkpoint.", TEXT), **_PROBLEMS},
    openapi_extra=_described(path=("shard", "index"), query=("size",)),
    response_class=Response,
)
async def inclusion(request: Request) -> Response:
    """Prove that the shard holds an entry, under its latest checkpoint or that of a size."""
    index = _number(request.path_params["index"], "index")
    ledger, shard = _ledger(request), await _shard(request)
    given = request.query_params.get("size")
    size = shard.size if given is None else _number(given, "size")
    if not index < size <= shard.size:
        raise ProblemError(ProblemKind.NOT_FOUND, "The tree of that size has no such entry.")
    note = await ledger.checkpoint(shard.number, size=size)
    if note is None:
        raise ProblemError(
            ProblemKind.NOT_FOUND,
            "No checkpoint of that size was signed; leave `size` out for the latest.",
        )
    path = _found(await ledger.inclusion(shard.number, index, size), "entry")
    leaves = await ledger.entries(shard.number, index, index + 1)
    leaf = _found(leaves[0] if leaves else None, "entry")
    body = TLogProof(leaf, index, tuple(path), note).encode()
    return Response(body, media_type=TEXT, headers=_FRESH if given is None else _COSIGNED)


@router.get(
    "/{shard}/consistency",
    responses={200: success("A consistency proof, one hash a line.", TEXT), **_PROBLEMS},
    openapi_extra=_described(path=("shard",), query=("from", "to")),
    response_class=Response,
)
async def consistency(request: Request) -> Response:
    """Prove that the tree of one size begins that of another."""
    query = request.query_params
    old, new = _number(query.get("from"), "from"), _number(query.get("to"), "to")
    if old > new:
        raise MalformedError("`from` is larger than `to`")
    shard = await _shard(request)
    if new > shard.size:
        raise ProblemError(ProblemKind.NOT_FOUND, "The shard has not so many entries.")
    path = await _ledger(request).consistency(shard.number, old, new)
    body = encode_proof(_found(path, "proof"))
    return Response(body, media_type=TEXT, headers=_IMMUTABLE)


def _ledger(request: Request) -> LedgerReader:
    service: Service = request.app.state.service
    return service.store.ledger


async def _shard(request: Request) -> Shard:
    name = request.path_params["shard"]
    if is_shard_name(name):
        for shard in await _ledger(request).shards():
            if shard.name == name:
                return shard
    raise ProblemError(ProblemKind.NOT_FOUND, "There is no such shard; see /ledger/shards.")


def _found(value: Published | None, what: str) -> Published:
    if value is None:
        raise ProblemError(ProblemKind.NOT_FOUND, f"The shard has no such {what}.")
    return value


def _number(text: str | None, name: str) -> int:
    if text is None:
        raise MalformedError(f"`{name}` is missing")
    try:
        return decode_number(text.encode())
    except MalformedError as exc:
        raise MalformedError(f"`{name}`: {exc}") from exc
