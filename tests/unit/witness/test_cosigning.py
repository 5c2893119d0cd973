"""What a witness signs, and what it refuses to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from bootlease.errors import MalformedError
from bootlease.ledger import (
    Checkpoint,
    Ed25519Cosigner,
    Ed25519NoteSigner,
    MLDSA44Cosigner,
    consistency_path,
    parse_signature_lines,
    parse_signed_checkpoint,
    sign_note,
    verify_cosignature,
)
from bootlease.ledger.addcheckpoint import SIZE_MEDIA_TYPE, AddCheckpoint
from bootlease.ledger.cosignature import Cosigner
from bootlease.testing.memory_ledger import NAME, MemoryLedger
from bootlease.token import PrivateKeySigner
from bootlease.witness import Answer, Witness
from bootlease.witness.state import WitnessState

NOW = 1_790_000_100
W1 = "witness.example/w1"


@dataclass
class Scene:
    """A ledger, and a witness that knows it."""

    ledger: MemoryLedger
    state: WitnessState
    cosigners: list[Cosigner]

    @property
    def witness(self) -> Witness:
        """The witness; every use opens it anew."""
        return Witness(self.state, [self.ledger.signer.key], self.cosigners)

    def request(self, old: int, size: int) -> bytes:
        """Return a request as the log would make it."""
        shard = self.ledger.current
        proof = consistency_path(old, size, shard.node) if old <= size else ()
        return AddCheckpoint(old, proof, shard.notes[size]).encode()

    def ask(self, old: int, size: int) -> Answer:
        """Ask to cosign what the log has."""
        return self.witness.add_checkpoint(self.request(old, size), now=NOW)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A ledger with checkpoints of 1, 5, 8 and 21 entries."""
    ledger = MemoryLedger()
    for count in (4, 3, 13):
        ledger.grow(count)
    state = WitnessState(tmp_path / "state.db", make=True)
    signer = PrivateKeySigner(Ed25519PrivateKey.generate())
    yield Scene(ledger, state, [Ed25519Cosigner(W1, signer)])
    state.close()


def sizes(answer: Answer) -> tuple[int, bytes, str]:
    """Return status, body and media type."""
    return answer.status, answer.body, answer.media_type


def test_a_tree_that_grows_is_cosigned(scene: Scene) -> None:
    """From nothing to 5, to 8, to 21 entries: each answer is a cosignature with the time."""
    for old, size in ((0, 5), (5, 8), (8, 21)):
        answer = scene.ask(old, size)
        assert answer.status == 200
        (line,) = parse_signature_lines(answer.body)
        body = parse_signed_checkpoint(scene.ledger.current.notes[size]).note.body
        assert verify_cosignature(body, line, scene.cosigners[0].key).timestamp == NOW
    assert scene.state.latest(f"{NAME}/2026-11").size == 21


def test_the_same_tree_is_cosigned_again(scene: Scene) -> None:
    """With the time of now: it is still the largest that was seen."""
    scene.ask(0, 8)
    assert scene.ask(8, 8).status == 200


def test_two_keys_give_two_lines(scene: Scene) -> None:
    """An ML-DSA-44 cosignature stands beside the Ed25519 one."""
    scene.cosigners.append(MLDSA44Cosigner(W1, MLDSA44PrivateKey.generate()))
    lines = parse_signature_lines(scene.ask(0, 5).body)
    body = parse_signed_checkpoint(scene.ledger.current.notes[5]).note.body
    for line, cosigner in zip(lines, scene.cosigners, strict=True):
        verify_cosignature(body, line, cosigner.key)


@pytest.mark.parametrize("old", [0, 1, 8])
def test_another_old_size_is_a_conflict(scene: Scene, old: int) -> None:
    """The answer says which size the witness has."""
    scene.ask(0, 5)
    assert sizes(scene.ask(old, 21)) == (409, b"5\n", SIZE_MEDIA_TYPE)


def test_a_first_request_must_begin_at_nothing(scene: Scene) -> None:
    """A witness that never saw the log has size 0."""
    assert sizes(scene.ask(5, 8)) == (409, b"0\n", SIZE_MEDIA_TYPE)


def test_it_never_goes_back(scene: Scene) -> None:
    """A smaller tree is not cosigned, whatever size the log says was the last."""
    scene.ask(0, 21)
    assert scene.ask(0, 8).status == 409
    assert scene.ask(8, 8).status == 409
    assert scene.ask(21, 8).status == 400


def other(scene: Scene) -> MemoryLedger:
    """Return another history under the same key."""
    ledger = MemoryLedger(scene.ledger.private)
    ledger.grow(7, salt="other")
    ledger.grow(13, salt="other")
    return ledger


def test_two_roots_of_one_size_are_never_signed(scene: Scene) -> None:
    """A second tree of the same size is a conflict, and kept as evidence."""
    scene.ask(0, 8)
    note = other(scene).current.notes[8]
    request = AddCheckpoint(8, (), note).encode()
    for _ in range(2):
        answer = scene.witness.add_checkpoint(request, now=NOW)
        assert sizes(answer) == (409, b"8\n", SIZE_MEDIA_TYPE)
    assert scene.state.conflicts(f"{NAME}/2026-11") == [note]
    assert scene.state.latest(f"{NAME}/2026-11").root == scene.ledger.current.root(8)


def test_a_tree_that_does_not_contain_the_last_one_is_refused(scene: Scene) -> None:
    """A fork cannot be proven consistent, with its own proof or with that of the true log."""
    scene.ask(0, 8)
    fork = other(scene)
    for shard in (fork.current, scene.ledger.current):
        proof = consistency_path(8, 21, shard.node)
        request = AddCheckpoint(8, proof, fork.current.notes[21]).encode()
        assert scene.witness.add_checkpoint(request, now=NOW).status == 422
    assert scene.ask(8, 21).status == 200


@pytest.mark.parametrize(("old", "size"), [(0, 8), (8, 8)])
def test_a_proof_where_there_is_none_is_refused(scene: Scene, old: int, size: int) -> None:
    """From nothing, and to the same size, a proof has no hash."""
    if old:
        scene.ask(0, old)
    request = AddCheckpoint(old, (bytes(32),), scene.ledger.current.notes[size]).encode()
    assert scene.witness.add_checkpoint(request, now=NOW).status == 422


def test_an_unknown_log_is_not_found(scene: Scene) -> None:
    """A key speaks for origins under its own name only."""
    for name in ("elsewhere.example/ledger", f"{NAME}s"):
        note = MemoryLedger(scene.ledger.private, name=name).current.notes[1]
        request = AddCheckpoint(0, (), note).encode()
        assert scene.witness.add_checkpoint(request, now=NOW).status == 404


def test_another_key_is_forbidden(scene: Scene) -> None:
    """The name alone is nobody's."""
    note = MemoryLedger().current.notes[1]
    request = AddCheckpoint(0, (), note).encode()
    assert scene.witness.add_checkpoint(request, now=NOW).status == 403


def test_signatures_of_unknown_keys_are_ignored(scene: Scene) -> None:
    """A cosigned checkpoint is as good as one without."""
    stranger = Ed25519NoteSigner("x.example", PrivateKeySigner(Ed25519PrivateKey.generate()))
    signed = parse_signed_checkpoint(scene.ledger.current.notes[5]).note
    note = scene.ledger.current.notes[5] + stranger.sign(signed.body).line()
    request = AddCheckpoint(0, (), note).encode()
    assert scene.witness.add_checkpoint(request, now=NOW).status == 200


@pytest.mark.parametrize("body", [b"", b"old 0\n\nno note\n", b"old x\n\nnote"])
def test_malformed_requests_are_refused(scene: Scene, body: bytes) -> None:
    """Request or checkpoint."""
    assert scene.witness.add_checkpoint(body, now=NOW).status == 400


def test_extension_lines_are_signed_by_ed25519_only(scene: Scene) -> None:
    """An ML-DSA-44 cosignature would leave them out, so there is none."""
    checkpoint = Checkpoint(f"{NAME}/2026-11", 8, scene.ledger.current.root(8), ("extended",))
    signer = Ed25519NoteSigner(NAME, PrivateKeySigner(scene.ledger.private))
    request = AddCheckpoint(0, (), sign_note(checkpoint.encode(), signer)).encode()
    ml_dsa = MLDSA44Cosigner(W1, MLDSA44PrivateKey.generate())
    alone = Witness(scene.state, [scene.ledger.signer.key], [ml_dsa])
    assert alone.add_checkpoint(request, now=NOW).status == 400
    both = Witness(scene.state, [scene.ledger.signer.key], [*scene.cosigners, ml_dsa])
    (line,) = parse_signature_lines(both.add_checkpoint(request, now=NOW).body)
    assert scene.cosigners[0].key.matches(line)


def test_shards_are_logs_of_their_own(scene: Scene) -> None:
    """One key, several origins, each from nothing."""
    scene.ask(0, 21)
    scene.ledger.open_shard("2026-12")
    assert scene.ask(0, 1).status == 200
    assert [(seen.origin, seen.size) for seen in scene.witness.seen()] == [
        (f"{NAME}/2026-11", 21),
        (f"{NAME}/2026-12", 1),
    ]


def test_of_two_requests_at_once_one_wins(scene: Scene) -> None:
    """Two different trees that both extend the last one: one is signed, the other a conflict."""
    fork = MemoryLedger(scene.ledger.private)
    fork.current.leaves[:] = scene.ledger.current.leaves[:5]
    fork.grow(16, salt="other")
    for _ in range(10):
        scene.ask(0, 5)
        requests = [
            AddCheckpoint(5, consistency_path(5, 21, shard.node), shard.notes[21]).encode()
            for shard in (scene.ledger.current, fork.current)
        ]
        barrier = threading.Barrier(2)

        def submit(request: bytes, barrier: threading.Barrier = barrier) -> int:
            barrier.wait()
            return scene.witness.add_checkpoint(request, now=NOW).status

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(submit, requests)) == [200, 409]
        with scene.state._locked() as connection:
            connection.execute("DELETE FROM latest")


def test_a_cosigners_key_is_no_logs_key(scene: Scene) -> None:
    """Key types are not interchangeable."""
    with pytest.raises(MalformedError, match="not a log's"):
        Witness(scene.state, [scene.cosigners[0].key], scene.cosigners)
