"""What an agent remembers from run to run, and how it is written down.

``agent.json`` in the state directory: one JSON object, bytes as hex. Nothing in it is secret, and
nothing in it is trusted by anybody but this agent: the worst a wrong head does is a refusal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence import Challenge
from bootlease.evidence.fields import Fields
from bootlease.node.tpm.key_kinds import EKAlgorithm
from bootlease.token import strictjson

MAX_MEMORY: Final = 64 * 1024
MAX_SENT: Final = 1024 * 1024
"""Renewals are far smaller. One that carries a whole log again is not kept: all that is lost with
it is a lineage."""
_MAX_BOOT_ID: Final = 64
_MAX_MOMENT: Final = (1 << 53) - 1
_VERSION: Final = 1
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """That a verifier knows this TPM.

    Attributes:
        verifier: Digest of the join bundle's issuer and keys.
        node: Node id, 32 bytes.
        ak: Name of the attestation key it knows.
    """

    verifier: bytes
    node: bytes
    ak: bytes


@dataclass(frozen=True, slots=True)
class Lineage:
    """The chain of leases to continue.

    Attributes:
        root: Digest of the evidence it began with.
        head: What the next evidence continues.
        sequence: Number of its last lease.
        reset_count: The TPM's resetCount throughout it.
        restart_count: The TPM's restartCount throughout it.
        log: Digest of the event log that the verifier has seen.
        expires_at: Wall clock at which its last lease ends.
        deadline: CLOCK_BOOTTIME at which its last lease ends.
    """

    root: bytes
    head: bytes
    sequence: int
    reset_count: int
    restart_count: int
    log: bytes
    expires_at: int
    deadline: float


@dataclass(frozen=True, slots=True)
class Question:
    """A challenge with the moment from which the agent counts its life.

    Attributes:
        challenge: What the verifier asked.
        asked_at: CLOCK_BOOTTIME when the request was sent that it answered: not later than its
            issue, so that nothing counted from here ends later than it may.
    """

    challenge: Challenge
    asked_at: float

    def over(self, boottime: float) -> bool:
        """Tell whether an answer would come too late."""
        life = self.challenge.expires_at - self.challenge.issued_at
        return boottime >= self.asked_at + life


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything that outlives a run.

    Attributes:
        boot_id: The boot whose CLOCK_BOOTTIME is meant.
        ak: Name of the attestation key kept in the TPM.
        ek_algorithm: Endorsement key in use, where it was chosen.
        enrolment: The verifier that knows it.
        lineage: The chain of leases to continue.
        question: The challenge that came with the last lease.
    """

    boot_id: str
    ak: bytes | None = None
    ek_algorithm: EKAlgorithm | None = None
    enrolment: Enrolment | None = None
    lineage: Lineage | None = None
    question: Question | None = None

    def enrolled(self, enrolment: Enrolment) -> Memory:
        """Return what is still true after ``enrolment``: no lease outlives it."""
        return Memory(self.boot_id, enrolment.ak, self.ek_algorithm, enrolment)

    def in_boot(self, boot_id: str) -> Memory:
        """Return what is still true in the boot ``boot_id``."""
        if boot_id == self.boot_id:
            return self
        return Memory(boot_id, self.ak, self.ek_algorithm, self.enrolment)

    def encode(self) -> bytes:
        """Return the JSON form."""
        members: dict[str, Any] = {"v": _VERSION, "boot_id": self.boot_id}
        if self.ak is not None:
            members["ak"] = self.ak.hex()
        if self.ek_algorithm is not None:
            members["ek_algorithm"] = self.ek_algorithm.value
        if self.enrolment is not None:
            members["enrolment"] = _fields(self.enrolment)
        if self.lineage is not None:
            members["lineage"] = _fields(self.lineage)
        if self.question is not None:
            members["question"] = {
                "challenge": self.question.challenge.encode().hex(),
                "asked_at": _milliseconds(self.question.asked_at),
            }
        return strictjson.serialise(members) + b"\n"


@dataclass(frozen=True, slots=True)
class Sent:
    """Evidence that was sent to continue a lineage, and may have been answered.

    An agent that is killed before it has the answer asks for it again with the same bytes:
    otherwise the verifier would have moved on alone, and the lineage would end as a fork.

    Attributes:
        boot_id: The boot whose CLOCK_BOOTTIME is meant.
        question: What it answers.
        sent_at: CLOCK_BOOTTIME when it was sent for the first time.
        evidence: The document.
    """

    boot_id: str
    question: Question
    sent_at: float
    evidence: bytes

    def encode(self) -> bytes:
        """Return the CBOR form."""
        return cbor.encode(
            {
                "v": _VERSION,
                "boot_id": self.boot_id,
                "challenge": self.question.challenge.encode(),
                "asked_at": _milliseconds(self.question.asked_at),
                "sent_at": _milliseconds(self.sent_at),
                "evidence": self.evidence,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Sent:
        """Parse the CBOR form.

        Raises:
            MalformedError: It is damaged, or of another version.
        """
        fields = Fields(cbor.decode(data, max_bytes=MAX_SENT), "evidence on its way")
        if fields.unsigned("v", at_most=_VERSION) != _VERSION:
            raise MalformedError("evidence on its way is of another version")
        sent = cls(
            boot_id=fields.text("boot_id", at_most=_MAX_BOOT_ID),
            question=Question(
                Challenge.parse(fields.octets("challenge", at_most=MAX_MEMORY)),
                fields.unsigned("asked_at", at_most=_MAX_MOMENT) / 1000,
            ),
            sent_at=fields.unsigned("sent_at", at_most=_MAX_MOMENT) / 1000,
            evidence=fields.octets("evidence", at_most=MAX_SENT),
        )
        fields.end()
        return sent


def parse_memory(data: bytes) -> Memory:
    """Parse ``agent.json``.

    Raises:
        MalformedError: It is damaged, or of another version.
    """
    members = strictjson.parse_object(data)
    if members.get("v") != _VERSION:
        raise MalformedError("agent state is of another version")
    try:
        enrolment, lineage = members.get("enrolment"), members.get("lineage")
        question = members.get("question")
        return Memory(
            boot_id=_string(members["boot_id"]),
            ak=_hex(members["ak"]) if "ak" in members else None,
            ek_algorithm=EKAlgorithm(members["ek_algorithm"])
            if "ek_algorithm" in members
            else None,
            enrolment=None if enrolment is None else _enrolment(enrolment),
            lineage=None if lineage is None else _lineage(lineage),
            question=None if question is None else _question(question),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise MalformedError(f"agent state is damaged: {exc}") from exc


def _fields(value: Enrolment | Lineage) -> dict[str, Any]:
    fields = {}
    for name in value.__slots__:
        member = getattr(value, name)
        if isinstance(member, bytes):
            member = member.hex()
        elif isinstance(member, float):
            member = _milliseconds(member)
        fields[name] = member
    return fields


def _milliseconds(seconds: float) -> int:
    # Rounded down: what is read back must never end later than what was written.
    return int(seconds * 1000)


def _enrolment(value: dict[str, Any]) -> Enrolment:
    return Enrolment(_hex(value["verifier"]), _hex(value["node"]), _hex(value["ak"]))


def _lineage(value: dict[str, Any]) -> Lineage:
    return Lineage(
        root=_hex(value["root"]),
        head=_hex(value["head"]),
        sequence=_integer(value["sequence"]),
        reset_count=_integer(value["reset_count"]),
        restart_count=_integer(value["restart_count"]),
        log=_hex(value["log"]),
        expires_at=_integer(value["expires_at"]),
        deadline=_integer(value["deadline"]) / 1000,
    )


def _question(value: dict[str, Any]) -> Question:
    challenge = Challenge.parse(_hex(value["challenge"]))
    return Question(challenge, _integer(value["asked_at"]) / 1000)


def _hex(value: object) -> bytes:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise ValueError("bytes are not hex")
    return bytes.fromhex(value)


def _integer(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a number is not a non-negative integer")
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is none")
    return value
