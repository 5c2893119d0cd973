"""The record of an enrolled node: which TPM it is, and with which key it attests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from bootlease import cbor
from bootlease.endorsement.chain import Endorsement
from bootlease.endorsement.labels import MAX_LABELS, parse_labels
from bootlease.errors import MalformedError
from bootlease.evidence.fields import Fields
from bootlease.evidence.request import MAX_TPM_STRUCTURE
from bootlease.model import Effect, Finding, HashAlg
from bootlease.tpm import TPMRH

MAX_RECORD: Final = 16 * 1024
MAX_NOTES: Final = 32
_MAX_TEXT: Final = 512
_NOTE_PARTS: Final = 3


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One node: EK, AK and endorsement in one atomic record (attack B9).

    Attributes:
        node: Node id, 32 bytes, derived from the EK.
        ek_public: TPMT_PUBLIC of the EK.
        ek_digest: SHA-256 of the EK's DER SubjectPublicKeyInfo: how policies name it.
        ak_public: TPMT_PUBLIC of the AK.
        ak_name: Name of the AK, as credential activation proved it.
        endorsement: The manufacturer's word; ``None`` for an EK that an operator lists by hand.
        enrolled_at: Seconds since the epoch.
        notes: What was found when it was accepted and refused nothing, each deviation of the
            certificates among it.
        labels: What an operator says of the node, sorted; policy reads them as facts.
        ak_qualified_name: What the TPM must name the AK as a primary of the endorsement hierarchy.
        digest: SHA-256 of the encoded record: what a decision was made about.
    """

    node: bytes
    ek_public: bytes
    ek_digest: bytes
    ak_public: bytes
    ak_name: bytes
    endorsement: Endorsement | None
    enrolled_at: int
    notes: tuple[Finding, ...] = ()
    labels: tuple[str, ...] = ()
    ak_qualified_name: bytes = field(init=False, repr=False, compare=False)
    digest: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Renewals use these; the record is made once for many of them.
        object.__setattr__(self, "ak_qualified_name", _qualified_name(self.ak_name))
        object.__setattr__(self, "digest", hashlib.sha256(self.encode()).digest())

    def encode(self) -> bytes:
        """Return the deterministic CBOR."""
        record: dict[str, object] = {
            "v": 1,
            "node": self.node,
            "ek": self.ek_public,
            "ak": self.ak_public,
            "name": self.ak_name,
            "at": self.enrolled_at,
            "id": self.ek_digest,
            "notes": [_note(each) for each in self.notes],
        }
        if self.endorsement is not None:
            record["endorsement"] = self.endorsement.wire()
        if self.labels:
            # Whoever made the record by hand made it wrong: what is encoded parses.
            record["labels"] = list(_sound(self.labels))
        return cbor.encode(record)

    @classmethod
    def parse(cls, data: bytes) -> Enrolment:
        """Parse an encoded record.

        Raises:
            MalformedError: The bytes are no enrolment record.
        """
        fields = Fields(cbor.decode(data, max_bytes=MAX_RECORD), "enrolment record")
        fields.version("v", 1)
        enrolment = cls(
            node=fields.digest("node"),
            ek_public=fields.octets("ek", at_most=MAX_TPM_STRUCTURE),
            ek_digest=fields.digest("id"),
            ak_public=fields.octets("ak", at_most=MAX_TPM_STRUCTURE),
            ak_name=fields.octets("name", at_most=MAX_TPM_STRUCTURE),
            endorsement=Endorsement.from_wire(fields.map("endorsement", at_most=8))
            if fields.has("endorsement")
            else None,
            enrolled_at=fields.unsigned("at"),
            notes=tuple(map(_parse_note, fields.array("notes", at_most=MAX_NOTES))),
            labels=_parse_labels(fields),
        )
        fields.end()
        return enrolment


def _parse_labels(fields: Fields) -> tuple[str, ...]:
    if not fields.has("labels"):
        return ()
    labels = parse_labels(fields.array("labels", at_most=MAX_LABELS))
    if not labels:
        # One record has one encoding: its digest is what decisions name.
        raise MalformedError("enrolment record has an empty list of labels")
    return labels


def _sound(labels: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return parse_labels(labels)
    except MalformedError as exc:
        raise ValueError(str(exc)) from exc


def _note(finding: Finding) -> list[str | None]:
    if finding.effect is not Effect.NOTES:
        raise ValueError("an enrolment record notes nothing that refuses")
    return [finding.id, finding.message, finding.seen]


def _parse_note(value: object) -> Finding:
    if isinstance(value, list | tuple) and len(value) == _NOTE_PARTS:
        name, message, seen = value
        texts = (name, message) if seen is None else (name, message, seen)
        if all(type(text) is str and len(text) <= _MAX_TEXT for text in texts):
            return Finding(name, message, effect=Effect.NOTES, seen=seen)
    raise MalformedError("enrolment record has a note that is none")


def _qualified_name(name: bytes) -> bytes:
    """Return nameAlg || H(TPM_RH_ENDORSEMENT || name) (TPM 2.0 part 1 §16).

    Raises:
        MalformedError: The name is not that of a key.
    """
    try:
        alg = HashAlg(int.from_bytes(name[:2], "big"))
    except ValueError as exc:
        raise MalformedError("the name of an AK has an unknown hash algorithm") from exc
    if len(name) != 2 + alg.size:
        raise MalformedError("the name of an AK has not the size of its hash")
    return name[:2] + alg.digest(TPMRH.ENDORSEMENT.to_bytes(4, "big") + name)
