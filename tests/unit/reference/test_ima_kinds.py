"""Digests that a set and a list do not share, learning of weak ones, and signers that go unused."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bootlease.errors import VerificationError
from bootlease.ima.entry import IMAEntry
from bootlease.model import Effect
from bootlease.policy import check_policy, parse_policy
from bootlease.reference import IMAReferenceSet, IMASignatures, appraise_entries
from bootlease.reference.imalearn import learn_files
from bootlease.reference.imaset import (
    Origin,
    Scope,
    ScopeKind,
    SignerRule,
    parse_file_digest,
)
from bootlease.testing.scene import POLICY


@dataclass(frozen=True)
class Demands:
    """A policy's demands."""

    unlisted: Effect = Effect.REFUSES
    violations: Effect = Effect.REFUSES
    signatures: IMASignatures = IMASignatures.IGNORED


def entry(name: bytes, label: bytes, digest: bytes, *more: bytes, template: bytes) -> IMAEntry:
    """An entry as the kernel writes it."""
    fields = (label + b":\0" + digest, name + b"\0", *more)
    data = b"".join(struct.pack("<I", len(each)) + each for each in fields)
    return IMAEntry(1, 10, template, b"\1" * 20, data)


def listing(**members: object) -> IMAReferenceSet:
    """A set of one file and one buffer."""
    digest = parse_file_digest(f"sha256:{'ab' * 32}")
    plain = {"files": {b"/usr/bin/a": (digest,)}, "buffers": {b"kexec-cmdline": (digest,)}}
    return IMAReferenceSet(name="files", version="1", origin=Origin.BUILT, **{**plain, **members})  # type: ignore[arg-type]


def test_a_buffer_by_another_algorithm_cannot_be_compared() -> None:
    """A buffer that is listed by one hash and measured by another is neither listed nor not."""
    line = b"quiet"
    seen = entry(
        b"kexec-cmdline", b"sha512", hashlib.sha512(line).digest(), line, template=b"ima-buf"
    )
    outcome = appraise_entries([seen], (listing(),), Demands(), now=1)
    assert [each.id for each in outcome.findings] == ["ima.buffer.algorithm-mismatch"]


def test_what_is_measured_by_a_weak_hash_is_not_learned() -> None:
    """A set of SHA-1 digests would list whatever somebody makes collide."""
    seen = entry(b"/usr/bin/a", b"sha1", bytes(20), template=b"ima-ng")
    with pytest.raises(VerificationError) as refused:
        learn_files([seen])
    assert [each.id for each in refused.value.findings] == ["ima.digest.weak"]


def test_signers_of_a_policy_that_ignores_signatures_are_told() -> None:
    """A set that names signers does nothing by it where signatures are ignored."""
    ima = (
        '[ima]\nappraise = "required"\naccept = ["files"]\nunlisted = "refuse"\n'
        'violations = "refuse"\nsignatures = "ignored"\n'
    )
    text = POLICY.replace('[ima]\nappraise = "off"\n', ima).replace("9, 14]", "9, 14, 10]")
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    rule = SignerRule(Scope(ScopeKind.BELOW, b"/opt/"), ("vendor",))
    signed = listing(signers={"vendor": spki}, signed=(rule,))
    found = [each.id for each in check_policy(parse_policy(text), [signed], now=1)]
    assert "policy.check.signers-unused" in found
    plain = [each.id for each in check_policy(parse_policy(text), [listing()], now=1)]
    assert "policy.check.signers-unused" not in plain
