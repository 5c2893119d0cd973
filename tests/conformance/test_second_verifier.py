"""The page on proof files is enough: a verifier written from it agrees with the first one."""

from __future__ import annotations

import ast
import importlib.util
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bootlease.audit import build_proof
from bootlease.evidence import TokenEncoding
from bootlease.ledger import Ed25519Cosigner, MLDSA44Cosigner
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded import RecordedHistory
from bootlease.testing.scene import Scene, default_lease
from bootlease.token import PrivateKeySigner

FLIPS: Final = 1500
SOURCE: Final = Path(__file__).with_name("second_verifier.py")


def loaded() -> Any:
    """Load the second verifier, which is a program of its own and in no package."""
    spec = importlib.util.spec_from_file_location("second_verifier", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


second_verifier = loaded()
Refused = second_verifier.Refused


def history_of(local_ca: LocalCA, encoding: TokenEncoding) -> RecordedHistory:
    """Record three decisions in two shards, under two witnesses."""
    history = RecordedHistory(Scene.create(local_ca))
    wishes = [replace(default_lease(), encoding=encoding), default_lease(("repo:acme/x",))]
    history.decide(wishes)
    history.decide()
    history.open_shard("2026-12")
    history.decide(wishes)
    signer = PrivateKeySigner(ed25519.Ed25519PrivateKey.generate())
    history.cosign(Ed25519Cosigner("witness.example/one", signer))
    history.cosign(MLDSA44Cosigner("witness.example/two", MLDSA44PrivateKey.generate()))
    return history


def proof_of(history: RecordedHistory) -> bytes:
    """Return the proof of the last decision's first lease."""
    decided = history.decided[-1]
    return build_proof(
        decided.record.digest,
        decided.claims[0].lease_id,
        history,
        token=history.token(decided),
        witnesses=[each.key for each in history.shards[-1].cosigners],
    ).encode()


def trusted(history: RecordedHistory) -> tuple[str, list[bytes]]:
    """Return what the second verifier trusts."""
    key = history.signer.public.load()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return str(history.ledger.key), [pem]


@pytest.mark.parametrize("encoding", TokenEncoding)
def test_the_second_verifier_accepts_our_proofs(local_ca: LocalCA, encoding: TokenEncoding) -> None:
    """A proof over shards, with several leases, witnesses and a receipt is accepted."""
    history = history_of(local_ca, encoding)
    second_verifier.verify(proof_of(history), *trusted(history))


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("encoding", TokenEncoding)
def test_the_second_verifier_refuses_altered_proofs(
    local_ca: LocalCA, encoding: TokenEncoding
) -> None:
    """A changed bit, wherever it is sampled, is refused by the second verifier too."""
    history = history_of(local_ca, encoding)
    data, trust = proof_of(history), trusted(history)
    chosen = random.Random(1)  # noqa: S311 - the same sample in every run
    accepted = []
    for place in sorted(chosen.sample(range(len(data)), FLIPS)):
        altered = bytearray(data)
        altered[place] ^= 1 << place % 8
        try:
            second_verifier.verify(bytes(altered), *trust)
            accepted.append(place)
        except Refused:
            continue
    assert accepted == []


def test_the_second_verifier_refuses_other_keys(local_ca: LocalCA) -> None:
    """Another ledger's key, or another token key, refuses."""
    history, other = (history_of(local_ca, TokenEncoding.CWT) for _ in "ab")
    data, (ledger, tokens) = proof_of(history), trusted(history)
    strange_ledger, strange_tokens = trusted(other)
    with pytest.raises(Refused, match=r"line's key|did not sign"):
        second_verifier.verify(data, strange_ledger, tokens)
    with pytest.raises(Refused, match="no token key"):
        second_verifier.verify(data, ledger, strange_tokens)


def test_the_second_verifier_shares_nothing_with_the_first() -> None:
    """It imports two libraries and the standard library alone."""
    tree = ast.parse(SOURCE.read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - sys.stdlib_module_names == {"cbor2", "cryptography"}
