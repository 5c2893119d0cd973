"""What a running verifier publishes of its ledger, read as a stranger would."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace

import httpx2
import pytest
from fastapi.testclient import TestClient

from bootlease.ledger import (
    NoteKey,
    VerifiedCheckpoint,
    leaf_hash,
    parse_leaf,
    verify_checkpoint,
    verify_consistency,
    verify_tlog_proof,
)
from bootlease.ledger.addcheckpoint import parse_proof
from bootlease.ledger.governance import GovernanceRecord
from bootlease.ledger.shardlist import ListedShard, parse_shard_list
from bootlease.ledger.tiles import parse_entries, parse_tile
from bootlease.ports import Shard
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.memory_ledger import MemoryLedger, ledger_app
from bootlease.testing.verifier_process import VerifierProcess
from bootlease.verifier.limits import DEFAULT_LIMITS, Rate
from bootlease.verifier.rates import RateCounter

NewClient = Callable[..., AttestingClient]
TEXT = "text/plain; charset=utf-8"
OCTETS = "application/octet-stream"


@pytest.fixture
def key(http: httpx2.Client) -> NoteKey:
    """The ledger's key, as the verifier publishes it."""
    configuration = http.get("/.well-known/bootlease-configuration").json()
    return NoteKey.parse(configuration["ledger_key"])


def shard_of(http: httpx2.Client) -> ListedShard:
    """Return the shard that grows."""
    answer = http.get("/ledger/shards")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return parse_shard_list(answer.content)[-1]


def checkpoint_of(http: httpx2.Client, key: NoteKey) -> VerifiedCheckpoint:
    """Return its latest checkpoint, verified."""
    shard = shard_of(http)
    answer = http.get(f"/ledger/{shard.name}/checkpoint")
    assert answer.headers["content-type"] == TEXT
    assert answer.headers["cache-control"] == "no-store"
    return verify_checkpoint(answer.content, key, origin=shard.origin)


def test_the_log_is_named_after_the_verifier(
    running: VerifierProcess, http: httpx2.Client, key: NoteKey
) -> None:
    """Key name and origins are the issuer's URL without its scheme."""
    name = running.url.partition("://")[2] + "/ledger"
    assert key.name == name
    shard = shard_of(http)
    assert shard.origin == f"{name}/{shard.name}"
    assert (shard.number, shard.final) == (1, False)


def test_a_lease_is_in_the_ledger_when_it_is_answered(
    http: httpx2.Client, new_client: NewClient, key: NoteKey
) -> None:
    """Enrolment and grant have grown the tree, consistently, before the answer came."""
    before = checkpoint_of(http, key)
    client = new_client()
    client.renew()
    after = checkpoint_of(http, key)
    assert after.size >= before.size + 2
    shard = shard_of(http).name
    answer = http.get(f"/ledger/{shard}/consistency?from={before.size}&to={after.size}")
    assert answer.headers["content-type"] == TEXT
    assert "immutable" in answer.headers["cache-control"]
    verify_consistency(
        before.size, after.size, parse_proof(answer.content), before.root, after.root
    )


def test_tiles_and_entries_are_one_tree(http: httpx2.Client, key: NoteKey) -> None:
    """Each entry hashes to its place in the tile; each has a proof under the checkpoint."""
    checkpoint, shard = checkpoint_of(http, key), shard_of(http).name
    size = checkpoint.size
    bundle = http.get(f"/ledger/{shard}/tile/entries/000.p/{size}")
    tile = http.get(f"/ledger/{shard}/tile/0/000.p/{size}")
    for answer in (bundle, tile):
        assert answer.headers["content-type"] == OCTETS
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    leaves = parse_entries(bundle.content)
    assert tuple(map(leaf_hash, leaves)) == parse_tile(tile.content)
    for index, leaf in enumerate(leaves):
        parse_leaf(leaf)
        proof = http.get(f"/ledger/{shard}/inclusion/{index}")
        assert proof.headers["content-type"] == TEXT
        assert verify_tlog_proof(proof.content, leaf, key).checkpoint.root == checkpoint.root


def test_a_proof_for_an_earlier_checkpoint(
    http: httpx2.Client, new_client: NewClient, key: NoteKey
) -> None:
    """Under the checkpoint of the size that was asked for."""
    early, shard = checkpoint_of(http, key), shard_of(http).name
    new_client()
    answer = http.get(f"/ledger/{shard}/inclusion/0?size={early.size}")
    leaf = parse_entries(http.get(f"/ledger/{shard}/tile/entries/000.p/1").content)[0]
    assert verify_tlog_proof(answer.content, leaf, key).checkpoint.size == early.size
    assert answer.headers["cache-control"] == "public, max-age=60"


def test_the_opening_is_the_first_leaf(http: httpx2.Client) -> None:
    """It is the one record that is published, and says nothing but that the ledger was opened."""
    shard = shard_of(http).name
    answer = http.get(f"/ledger/{shard}/opening")
    assert answer.headers["content-type"] == "application/cbor"
    record = GovernanceRecord.parse(answer.content)
    assert record.kind == "ledger.opened"
    leaf = parse_entries(http.get(f"/ledger/{shard}/tile/entries/000.p/1").content)[0]
    assert parse_leaf(leaf).record == hashlib.sha256(answer.content).digest()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("2025-01/checkpoint", 404),
        ("..%2f/checkpoint", 404),
        ("x/checkpoint", 404),
        ("{}/nothing", 404),
        ("{}/cosigned", 404),
        ("{}/tile/0/001", 404),
        ("{}/tile/0/000", 404),
        ("{}/tile/1/000.p/1", 404),
        ("{}/tile/entries/x001/000", 404),
        ("{}/tile/63/x999/x999/x999/x999/999", 404),
        ("{}/tile/0/000.p/0", 400),
        ("{}/tile/0/000.p/256", 400),
        ("{}/tile/64/000", 400),
        ("{}/tile/00/000", 400),
        ("{}/tile/0/0", 400),
        ("{}/tile/0/x000/000", 400),
        ("{}/tile/0/000.p/-1", 400),
        ("{}/tile/" + "x" * 4000, 400),
        ("{}/inclusion/x", 400),
        ("{}/inclusion/01", 400),
        ("{}/inclusion/99999999999999999999", 400),
        ("{}/inclusion/0?size=x", 400),
        ("{}/inclusion/9223372036854775807", 404),
        ("{}/inclusion/0?size=0", 404),
        ("{}/inclusion/0?size=9223372036854775807", 404),
        ("{}/consistency", 400),
        ("{}/consistency?from=1", 400),
        ("{}/consistency?from=2&to=1", 400),
        ("{}/consistency?from=0&to=9223372036854775807", 404),
    ],
)
def test_what_is_not_there_is_a_problem(http: httpx2.Client, path: str, status: int) -> None:
    """400 for what could never be, 404 for what is not yet; always a problem document."""
    answer = http.get("/ledger/" + path.format(shard_of(http).name))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"


def test_openapi_describes_the_ledger(http: httpx2.Client) -> None:
    """Every route with its parameters, its media type and its problems."""
    shard = shard_of(http).name
    paths = http.get("/openapi.json").json()["paths"]
    asked = {
        "/ledger/shards": "/ledger/shards",
        "/ledger/{shard}/checkpoint": f"/ledger/{shard}/checkpoint",
        "/ledger/{shard}/cosigned": f"/ledger/{shard}/cosigned",
        "/ledger/{shard}/opening": f"/ledger/{shard}/opening",
        "/ledger/{shard}/tile/{tile}": f"/ledger/{shard}/tile/0/000.p/1",
        "/ledger/{shard}/inclusion/{index}": f"/ledger/{shard}/inclusion/0",
        "/ledger/{shard}/consistency": f"/ledger/{shard}/consistency?from=0&to=1",
    }
    assert {path for path in paths if path.startswith("/ledger")} == asked.keys()
    for template, path in asked.items():
        described = paths[template]["get"]
        placed = {one["name"] for one in described.get("parameters", ()) if one["in"] == "path"}
        assert {f"{{{name}}}" for name in placed} == {
            part for part in template.split("/") if part.startswith("{")
        }
        for where in (path, path.replace(shard, "2001-01")):
            answer = http.get(where)
            content = described["responses"][str(answer.status_code)]["content"]
            assert answer.headers["content-type"] in content
    assert "422" not in json.dumps(paths)


def test_no_secret_is_published(running: VerifierProcess, http: httpx2.Client) -> None:
    """Neither the admin credential nor a key; entries are digests."""
    shard = shard_of(http)
    for path in ("checkpoint", "opening", f"tile/entries/000.p/{shard.size}", "inclusion/0"):
        content = http.get(f"/ledger/{shard.name}/{path}").content
        assert running.credential.encode() not in content


@pytest.mark.parametrize("size", [256, 257, 600])
def test_full_tiles_of_a_large_shard(size: int) -> None:
    """Full and partial tiles, levels above the leaves, and two shards."""
    ledger = MemoryLedger()
    ledger.grow(size - 1)
    ledger.open_shard("2026-12")
    with TestClient(ledger_app(ledger)) as http:
        listed = parse_shard_list(http.get("/ledger/shards").content)
        assert [(shard.name, shard.size, shard.final) for shard in listed] == [
            ("2026-11", size, True),
            ("2026-12", 1, False),
        ]
        full = parse_tile(http.get("/ledger/2026-11/tile/0/000").content)
        assert len(full) == 256
        upper = http.get(f"/ledger/2026-11/tile/1/000.p/{size // 256}").content
        assert parse_tile(upper)[0] == ledger.shards_held[0].node(8, 0)
        assert http.get(f"/ledger/2026-11/tile/1/000.p/{size // 256 + 1}").status_code == 404
        rest = http.get(f"/ledger/2026-11/tile/entries/001.p/{size % 256}")
        assert rest.status_code == (400 if size == 256 else 200)


class Unsealed(MemoryLedger):
    """A ledger whose store holds more than the signed tree covers."""

    async def shards(self) -> Sequence[Shard]:
        """List the shards with the sizes that were sealed."""
        return [replace(shard, size=5) for shard in await super().shards()]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("tile/0/000.p/5", 200),
        ("tile/0/000.p/6", 404),
        ("tile/entries/000.p/5", 200),
        ("tile/entries/000.p/6", 404),
        ("inclusion/4?size=5", 200),
        ("inclusion/4?size=8", 404),
        ("consistency?from=2&to=5", 200),
        ("consistency?from=2&to=8", 404),
    ],
)
def test_only_what_is_sealed_is_published(path: str, status: int) -> None:
    """What a checkpoint does not cover yet may still be taken back."""
    ledger = Unsealed()
    ledger.grow(4)
    ledger.grow(3)
    with TestClient(ledger_app(ledger)) as http:
        assert http.get(f"/ledger/2026-11/{path}").status_code == status


@pytest.mark.parametrize("query", ["5", "5?size=5", "4?size=4"])
def test_an_entry_behind_the_end_of_the_tree_is_told_from_a_size_without_checkpoint(
    query: str,
) -> None:
    """The one will never have a proof of that size; the other has one of another size."""
    ledger = MemoryLedger()
    ledger.grow(3)
    ledger.grow(1)
    with TestClient(ledger_app(ledger)) as http:
        behind = http.get(f"/ledger/2026-11/inclusion/{query}")
        unsigned = http.get("/ledger/2026-11/inclusion/1?size=3")
    assert (behind.status_code, unsigned.status_code) == (404, 404)
    assert behind.json()["detail"] == "The tree of that size has no such entry."
    assert "No checkpoint of that size" in unsigned.json()["detail"]


def test_a_client_that_reads_too_fast_is_slowed() -> None:
    """It is told for how long, and others are not slowed; a monitor's pace is well below."""
    app = ledger_app(MemoryLedger())
    app.state.service.clock = SimpleNamespace(now=lambda: 1_000)
    app.state.service.throttle.ledger = RateCounter(Rate(3, 2), 10)
    fast, other = (TestClient(app, client=(host, 50_000)) for host in ("192.0.2.1", "192.0.2.2"))
    answers = [fast.get("/ledger/shards") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429]
    assert answers[-1].headers["retry-after"] == "2"
    assert fast.get("/ledger/2026-11/inclusion/0").status_code == 429
    assert other.get("/ledger/2026-11/inclusion/0").status_code == 200
    assert DEFAULT_LIMITS.ledger.count * 256 > 100_000
    assert DEFAULT_LIMITS.ledger.window < 5
