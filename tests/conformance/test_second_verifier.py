"""The page on proof files is enough: a verifier written from it agrees with the first one."""

from __future__ import annotations

import ast
import importlib.util
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bootlease import cbor
from bootlease.audit import build_proof
from bootlease.evidence import TokenEncoding
from bootlease.ledger import Ed25519Cosigner, MLDSA44Cosigner, parse_tlog_proof
from bootlease.node.bundle import parse_bundle
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import AUDIENCE, make_policy
from bootlease.testing.recorded import RecordedHistory
from bootlease.testing.scene import IMA_POLICY, Scene, default_lease, files_reference
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
    scene = Scene.create(local_ca)
    if encoding is TokenEncoding.UNSAFE_BEARER:
        scene.use_policy(make_policy(lease__unsafe_bearer_audiences=f'["{AUDIENCE}"]'))
    history = RecordedHistory(scene)
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


@pytest.mark.parametrize("encoding", TokenEncoding)
def test_the_second_verifier_reads_what_not_every_lease_has(
    local_ca: LocalCA, encoding: TokenEncoding
) -> None:
    """A level that the agent named, labels that an operator gave, and a depth of delegation."""
    scene = Scene.create(local_ca)
    scene.use_policy(
        make_policy(lease__delegation_depth="2", lease__unsafe_bearer_audiences=f'["{AUDIENCE}"]')
    )
    history = RecordedHistory(scene)
    scene.enrolled_as(labels=("role=build", "site=a"))
    enrolment = scene.enrolment
    history.records[enrolment.digest] = enrolment
    history.govern("node.labelled", {"node": enrolment.node, "enrolment": enrolment.digest})
    for _ in range(5):
        history.decide([replace(default_lease(), encoding=encoding, level=2)])
    assert history.decided[-1].claims[0].level == 2
    second_verifier.verify(proof_of(history), *trusted(history))


HISTORY: Final = Path(__file__).parents[2] / "fixtures" / "history"


@pytest.mark.parametrize(
    "path", sorted(HISTORY.glob("*/*.proof")), ids=lambda path: str(path.relative_to(HISTORY))
)
def test_the_second_verifier_accepts_recorded_proofs(path: Path) -> None:
    """What a version of the program left is what the page says."""
    bundle = parse_bundle(path.with_name("bundle.json").read_bytes())
    (key,) = bundle.keys.keys
    pem = key.public.load().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    second_verifier.verify(path.read_bytes(), str(bundle.ledger_key), [pem])


def refused(data: bytes, history: RecordedHistory, change: Callable[[Any], object]) -> str:
    """Return why a file of which something was changed is refused."""
    file = cbor.decode(data, max_bytes=len(data))
    change(file)
    with pytest.raises(Refused) as why:
        second_verifier.verify(cbor.encode(file), *trusted(history))
    return str(why.value)


def test_the_second_verifier_refuses_what_nothing_needs(local_ca: LocalCA) -> None:
    """A certificate beside the path, a shard that nothing lies in, a key that cosigns nothing."""
    history = history_of(local_ca, TokenEncoding.CWT)
    data = proof_of(history)

    def certify(file: Any) -> None:
        file["enrolment"][1].append(LocalCA.create().intermediate_der)

    def list_key(file: Any) -> None:
        file["witnesses"] = sorted([*file["witnesses"], str(history.ledger.key)])

    def extend(file: Any) -> None:
        history.open_shard("2027-01")
        path = list(history.inclusion(3, 0, 1) or ())
        file["shards"].append([history.checkpoint(3), [history.opening(3), path]])

    assert "does not need" in refused(data, history, certify)
    assert "does not cosign" in refused(data, history, list_key)
    assert "first or last shard" in refused(data, history, extend)


def test_the_second_verifier_demands_certificates_valid_at_the_enrolment(
    local_ca: LocalCA,
) -> None:
    """The EK's path counts at the second of the record, and in any order."""
    root = x509.load_pem_x509_certificate(local_ca.roots_pem)
    device = Scene.create(local_ca).node
    ek, *rest = [x509.load_der_x509_certificate(der) for der in device.ek_chain()]
    at = int(ek.not_valid_before_utc.timestamp())
    second_verifier.leads_to(root, [ek, *rest[::-1]], at)
    for other in (at - 86_400 * 365, at + 86_400 * 36_500):
        with pytest.raises(Refused, match="not valid"):
            second_verifier.leads_to(root, [ek, *rest], other)


def test_the_second_verifier_demands_the_leaf_in_a_receipt(local_ca: LocalCA) -> None:
    """The receipt beside a JWT holds the entry that it proves."""
    history = history_of(local_ca, TokenEncoding.JWT)

    def bare(file: Any) -> None:
        file["receipt"] = replace(parse_tlog_proof(file["receipt"]), extra=None).encode()

    assert "another leaf" in refused(proof_of(history), history, bare)


def looking_history_of(local_ca: LocalCA) -> RecordedHistory:
    """Record four decisions about a node that measures what it loads; then its rules change."""
    scene = Scene.create(local_ca, policy=IMA_POLICY)
    files = {"/usr/bin/bash": b"bash", "/usr/bin/cat": b"cat"}
    scene.ima_references = (files_reference(files),)
    ima = scene.node.start_ima()
    ima.measure("/usr/bin/bash", b"bash")
    history = RecordedHistory(scene)
    history.decide()
    ima.measure("/usr/bin/cat", b"cat")
    history.decide()
    history.decide()
    scene.ima_references = (files_reference(files, version="2"),)
    history.decide(first=0)
    assert all(each.result.accepted for each in history.decided)
    return history


def test_the_second_verifier_replays_ima_lists(local_ca: LocalCA) -> None:
    """It comes from part to part to the states that the records go on from."""
    history = looking_history_of(local_ca)
    second_verifier.verify(proof_of(history), *trusted(history))


def test_the_second_verifier_refuses_another_ima_list(
    local_ca: LocalCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay that comes out otherwise, or not at all, is no proof."""
    history = looking_history_of(local_ca)
    data, trust = proof_of(history), trusted(history)
    replay = second_verifier.ima_state
    for bend, complaint in (
        (lambda state, listed, pcrs: replay(state, listed[:-1], pcrs), "lead to PCR 10"),
        (lambda state, listed, pcrs: [1, *replay(state, listed, pcrs)[1:]], "another place"),
    ):
        monkeypatch.setattr(second_verifier, "ima_state", bend)
        with pytest.raises(Refused, match=complaint):
            second_verifier.verify(data, *trust)


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
