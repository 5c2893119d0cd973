"""Inputs that parse, made by the project's own simulator: where fuzzing begins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from bootlease.audit import build_proof
from bootlease.endorsement import parse_certificates
from bootlease.ima import replay_list
from bootlease.ledger import Ed25519Cosigner
from bootlease.model import HashAlg
from bootlease.reference import serialise_reference
from bootlease.reference.corim import encode_corim
from bootlease.reference.corimsign import sign_corim
from bootlease.testing.boot import simulate_boot
from bootlease.testing.chains import chain
from bootlease.testing.examples import grub_description, policy_text, uki_description
from bootlease.testing.ima_templates import (
    Entry,
    Kernel,
    ima_buf,
    ima_ng,
    ima_ngv2,
    ima_sig,
    sign_file,
)
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded import RecordedHistory
from bootlease.testing.scene import Scene, default_lease
from bootlease.testing.tokens import FakeIssuer, execution_claims
from bootlease.token import PrivateKeySigner
from bootlease.verifier.routes.contract import EVIDENCE
from tests.fuzz import authorization, workloads

_REQUEST: Final = (
    f"POST /v1/nodes/{'ab' * 32}/leases HTTP/1.1\r\nHost: v:8443\r\naccept: */*\r\n"
    f"content-type: {EVIDENCE}\r\nContent-Length: 5\r\n\r\n12345"
)


def seeds() -> Iterator[tuple[str, str, bytes]]:
    """Return target, parser and input; made with fresh keys, so no two runs have the same."""
    ca = LocalCA.create()
    history = RecordedHistory(Scene.create(ca, simulate_boot(uki_description())))
    history.decide()
    history.decide()
    history.decide([default_lease()])
    history.cosign(
        Ed25519Cosigner("witness.example/w", PrivateKeySigner(ed25519.Ed25519PrivateKey.generate()))
    )
    scene = history.scene
    yield from _evidence(scene)
    yield from _ledger(history)
    yield from _ima()
    for description in (grub_description(), uki_description()):
        yield "eventlog", "log", simulate_boot(description).event_log
    for der in parse_certificates(ca.roots_pem):
        yield "certificates", "certificate", der
    for der in scene.node.ek_chain():
        yield "certificates", "certificate", der
    yield "certificates", "bundle", ca.roots_pem
    yield "certificates", "enrolment", scene.enrolment.encode()
    yield "tpm", "public", scene.node.ek_public()
    yield "tpm", "public", scene.node.ak_public()
    issuer = FakeIssuer()
    yield "tokens", "token", issuer.cwt(execution_claims())
    yield "tokens", "token", issuer.jwt(execution_claims()).encode()
    yield "tokens", "token", issuer.cwt(chain(2))
    yield "tokens", "token", issuer.jwt(chain(2)).encode()
    yield "tokens", "sign1", issuer.cwt(execution_claims())
    yield "tokens", "keys", json.dumps(history.keys.to_jwks()).encode()
    yield "tokens", "keys", history.keys.to_cose()
    yield "rules", "policy", policy_text().encode()
    yield "rules", "canonical policy", scene.policy.policy.encode()
    for reference in scene.references:
        yield "rules", "canonical reference", reference.encode()
        yield "rules", "reference", serialise_reference(reference)
        corim = encode_corim(reference)
        yield "rules", "corim", corim
        yield "rules", "signed corim", sign_corim(corim, history.signer, name="Example")
    for parser, data in authorization.seeds():
        yield "authorization", parser, data
    for parser, data in workloads.seeds():
        yield "workloads", parser, data
    yield "lease", "edits", bytes(6)
    yield "node", "request", _REQUEST.encode()


def _ima() -> Iterator[tuple[str, str, bytes]]:
    key = ec.generate_private_key(ec.SECP256R1())
    digest = hashlib.sha256(b"file").digest()
    kernel = Kernel((HashAlg.SHA1, HashAlg.SHA256))
    named, signature = ima_ng(b"/usr/bin/true", digest), sign_file(key, digest)
    kernel.measure(
        Entry("ima", bytes(20) + b"boot_aggregate"),
        Entry("ima-ng", ima_ng(b"boot_aggregate", digest)),
        Entry("ima-ngv2", ima_ngv2(b"/usr/bin/true", digest, kind="verity")),
        Entry("ima-sig", ima_sig(named, signature)),
        Entry("ima-ng", named, violation=True),
        Entry("ima-buf", ima_buf(b".ima", b"certificate")),
    )
    for bank in (HashAlg.SHA1, HashAlg.SHA256):
        yield "ima", "list", kernel.list(bank)
    yield "ima", "signature", signature
    yield "ima", "state", replay_list(kernel.list(), [HashAlg.SHA256]).encode()


def _evidence(scene: Scene) -> Iterator[tuple[str, str, bytes]]:
    challenge = scene.challenge()
    evidence = scene.attest(challenge)
    yield "evidence", "evidence", evidence.without_logs().encode()
    yield "evidence", "binding", evidence.encoded_binding
    yield "evidence", "challenge", challenge.encode()
    if scene.prior is not None:
        yield "evidence", "prior", scene.prior.encode()
    yield "evidence", "high water", scene.high_water.encode()
    yield "tpm", "attest", evidence.quote
    yield "tpm", "signature", evidence.signature
    yield "cbor", "decode", evidence.without_logs().encode()


def _ledger(history: RecordedHistory) -> Iterator[tuple[str, str, bytes]]:
    for decided in history.decided:
        yield "records", "decision", decided.record.encoded
    for record in history.governance.values():
        yield "records", "governance", record.encoded
    shard = len(history.shards)
    checkpoint = history.checkpoint(shard)
    yield "notes", "note", checkpoint
    yield "notes", "checkpoint", checkpoint
    yield "notes", "vkey", str(history.ledger.key).encode()
    decided = history.decided[-1]
    yield "notes", "tlog-proof", decided.receipts[0].tlog_proof()
    yield "records", "receipt", decided.receipts[0].cose()
    lease = decided.claims[0].lease_id
    proof = build_proof(
        decided.record.digest, lease, history, token=history.token(decided), witnesses=[]
    )
    yield "records", "proof", proof.encode()
