"""A node that renews at the price of one signature: thousands of them fit into one process.

Layout of what it sends: docs/protocol.md, "Binding" and "Evidence"; TPM 2.0 Library part 2 §10.12
(TPMS_ATTEST, TPMS_QUOTE_INFO). The nodes of a fleet have booted one image, so what a quote says of
PCRs is made once for all of them; keys, certificates, clocks and signatures are each node's own.

Not simulated: reboots, lies, certified confirmation keys. ``SimulatedNode`` does all three.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.eventlog import parse_event_log, replay
from bootlease.evidence import (
    Challenge,
    EnrolmentRequest,
    LeaseAnswer,
    LeaseRequest,
    PlainKey,
    confirmation_digest,
    log_digest,
    scope_digest,
)
from bootlease.evidence.binding import BINDING_TYPE
from bootlease.model import HashAlg
from bootlease.reference import DEFAULT_PCRS, learn, serialise_reference
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import AUDIENCE, REFERENCE
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.token import PublicKey
from bootlease.tpm import TPM_GENERATED, TPMST, PCRSelection, TPMSQuoteInfo, parse_public

_FIRMWARE: Final = 0x2019102300163636
_HEAD: Final = struct.Struct(">IH")
_CLOCK: Final = struct.Struct(">QIIBQ")
_DIGEST_HEAD: Final = b"\x58\x20"
_NO_LOGS: Final = b"\xa7\x61v\x01\x64logs\xa0"
_ONE_LOG: Final = b"\xa7\x61v\x01\x64logs\xa1\x63tcg"


@dataclass(frozen=True, slots=True)
class QuotedBoot:
    """What every quote of one selection says of one boot.

    Attributes:
        wire: The selection as a challenge spells it.
        pcrs: The member ``pcrs`` of the evidence, encoded, with its name.
        quoted: TPMS_QUOTE_INFO.
    """

    wire: bytes
    pcrs: bytes
    quoted: bytes


class FleetImage:
    """What the nodes of a fleet have in common: maker, boot, and what follows from them.

    Attributes:
        ca: Certifies the EKs.
        event_log: The log of the boot.
        log_digest: Its SHA-256.
    """

    def __init__(self, ca: LocalCA | None = None, boot: SimulatedBoot | None = None) -> None:
        """Boot one machine for all of them.

        Args:
            ca: The maker of their TPMs; a new one by default.
            boot: What they have booted; a Debian-like machine by default.
        """
        self.ca = ca or LocalCA.create()
        self._machine = SimulatedNode(self.ca, boot=boot or simulate_boot(grub_description()))
        self.event_log = self._machine.event_log
        self.log_digest = log_digest(self.event_log)
        self._quoted: dict[bytes, QuotedBoot] = {}

    def reference(self) -> bytes:
        """Return the reference file that this boot matches."""
        learned = learn(
            replay(parse_event_log(self.event_log)),
            None,
            name=REFERENCE,
            version="1",
            bank=HashAlg.SHA256,
            pcrs=DEFAULT_PCRS,
            match_events=(),
        )
        return serialise_reference(learned)

    def quoted(self, selection: Mapping[HashAlg, tuple[int, ...]]) -> QuotedBoot:
        """Return what a quote over ``selection`` says."""
        wire = cbor.encode({int(bank): list(pcrs) for bank, pcrs in selection.items()})
        known = self._quoted.get(wire)
        if known is None:
            values = self._machine.read_pcrs(selection)
            digest = hashlib.sha256(b"".join(v for bank in values.values() for v in bank.values()))
            known = self._quoted[wire] = QuotedBoot(
                wire=wire,
                pcrs=b"\x64pcrs"
                + cbor.encode({int(bank): dict(pcrs) for bank, pcrs in values.items()}),
                quoted=TPMSQuoteInfo(
                    tuple(PCRSelection(alg, pcrs) for alg, pcrs in selection.items()),
                    digest.digest(),
                ).marshal(),
            )
        return known


class FleetNode:
    """One software TPM and where its lineage stands.

    Attributes:
        node: Node id, once enrolled.
        path: Path of its leases, once enrolled.
        head: Head of its lineage, or None where the next evidence begins one.
        nonce: Nonce of the challenge to answer next, or None where one must be asked for.
        asked_at: ``time.monotonic`` at which that challenge came.
        fresh_until: ``time.monotonic`` until which lease and challenge are good, as far as the
            node can tell.
    """

    __slots__ = (
        "_attest_head",
        "_boot",
        "_device",
        "_image",
        "_leases",
        "_life",
        "_scope",
        "_started",
        "_tail_of_binding",
        "asked_at",
        "fresh_until",
        "head",
        "node",
        "nonce",
        "path",
    )

    def __init__(self, image: FleetImage) -> None:
        """Manufacture a TPM with its EK certificate, and boot."""
        self._image = image
        self._device = SimulatedNode(image.ca)
        name = parse_public(self._device.ak_public()).qualified_name()
        self._attest_head = (
            _HEAD.pack(TPM_GENERATED, TPMST.ATTEST_QUOTE) + struct.pack(">H", len(name)) + name
        ) + b"\x00\x20"
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        key = PlainKey(cbor.encode(PublicKey.from_cryptography(public).cose()))
        wishes = (LeaseRequest(("tool:search",), AUDIENCE, key),)
        self._leases = b"\x66leases" + cbor.encode([wish.wire() for wish in wishes])
        # What stands before the binding's changing parts, and between and behind them.
        self._scope = (b"\xa6\x63cnf" + _DIGEST_HEAD + confirmation_digest(wishes)) + (
            b"\x64logs\xa1\x63tcg" + _DIGEST_HEAD + image.log_digest + b"\x64prev"
        )
        self._tail_of_binding = b"\x65scope" + _DIGEST_HEAD + scope_digest(wishes)
        self._boot: QuotedBoot | None = None
        self._life = 0
        self._started = time.monotonic()
        self.node = b""
        self.path = ""
        self.head: bytes | None = None
        self.nonce: bytes | None = None
        self.asked_at = 0.0
        self.fresh_until = 0.0

    # -- enrolment

    def enrolment_request(self) -> bytes:
        """Return the first message of the enrolment."""
        device = self._device
        return EnrolmentRequest(
            device.ek_public(), device.ak_public(), tuple(device.ek_chain())
        ).encode()

    def open_credential(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Return the secret that MakeCredential wrapped for this EK and AK.

        Raises:
            TransportError: It is meant for another TPM.
        """
        return self._device.activate_credential(id_object, encrypted_secret)

    def enrolled_as(self, node: bytes) -> None:
        """Keep the node id."""
        self.node = node
        self.path = f"/v1/nodes/{node.hex()}"

    # -- attestation

    def take_challenge(self, challenge: Challenge) -> None:
        """Keep a challenge that was asked for just now."""
        self._boot = self._image.quoted(challenge.pcrs)
        self._life = challenge.expires_at - challenge.issued_at
        self.nonce = challenge.nonce
        self.asked_at = time.monotonic()
        self.fresh_until = self.asked_at + self._life

    def begin_again(self) -> None:
        """Give up the lineage: the next evidence begins one, on a new challenge."""
        self.head = self.nonce = None
        self.fresh_until = 0.0

    def evidence(self, *, full: bool | None = None) -> bytes:
        """Quote for the challenge at hand; different bytes each time, as the clock runs.

        Args:
            full: Send the log; by default, only to begin a lineage.
        """
        head, nonce, boot = self.head, self.nonce, self._boot
        if nonce is None or boot is None:
            raise RuntimeError("there is no challenge to answer")
        binding = b"".join(
            (
                self._scope,
                b"\xf6" if head is None else _DIGEST_HEAD + head,
                _TYPE_AND_NONCE,
                nonce,
                self._tail_of_binding,
            )
        )
        clock = int((time.monotonic() - self._started) * 1000)
        attest = b"".join(
            (
                self._attest_head,
                hashlib.sha256(binding).digest(),
                _CLOCK.pack(clock, 1, 0, 1, _FIRMWARE),
                boot.quoted,
            )
        )
        encode = cbor.encode_bytes
        full = head is None if full is None else full
        return b"".join(
            (
                _ONE_LOG + encode(self._image.event_log) if full else _NO_LOGS,
                boot.pcrs,
                b"\x65quote",
                encode(attest),
                self._leases,
                b"\x67binding",
                encode(binding),
                b"\x69signature",
                encode(self._device.sign_as_ak(attest)),
            )
        )

    def take_answer(self, answer: LeaseAnswer, received: float) -> None:
        """Continue from an answer.

        Args:
            answer: The answer.
            received: ``time.monotonic`` at which it came.
        """
        self.head = answer.head
        self._life = answer.life
        self._boot = self._image.quoted(answer.challenge.pcrs)
        self._take_nonce(answer.challenge.nonce, received)

    def take_encoded_answer(self, data: bytes, received: float) -> None:
        """Continue from an answer of the usual form without decoding all of it.

        A node trusts its verifier that far only where what is measured is the verifier: tokens
        stay unread.

        Args:
            data: The encoded lease answer.
            received: ``time.monotonic`` at which it came.

        Raises:
            MalformedError: It is no lease answer.
        """
        if self.head is None:
            # The first answer of a lineage tells how long its leases live.
            self.take_answer(LeaseAnswer.parse(data), received)
            return
        head = data.find(_HEAD_MEMBER)
        challenge = data.rfind(_CHALLENGE_MEMBER)
        nonce = data.find(_NONCE_MEMBER, challenge)
        if (
            self._boot is None
            or not 0 < head < challenge < nonce
            or self._boot.wire not in data[challenge:]
        ):
            self.take_answer(LeaseAnswer.parse(data), received)
            return
        self.head = data[head + len(_HEAD_MEMBER) : head + len(_HEAD_MEMBER) + 32]
        if len(data) < nonce + len(_NONCE_MEMBER) + 32:
            raise MalformedError("the answer ends in its challenge")
        self._take_nonce(data[nonce + len(_NONCE_MEMBER) :][:32], received)

    def _take_nonce(self, nonce: bytes, received: float) -> None:
        # A lease lives from the issue of the challenge that was answered: the one before this.
        self.fresh_until = self.asked_at + self._life
        self.nonce = nonce
        self.asked_at = received


_HEAD_MEMBER: Final = b"\x64head" + _DIGEST_HEAD
_CHALLENGE_MEMBER: Final = b"\x69challenge"
_NONCE_MEMBER: Final = b"\x65nonce" + _DIGEST_HEAD
_TYPE_AND_NONCE: Final = b"\x64type" + cbor.encode(BINDING_TYPE) + b"\x65nonce" + _DIGEST_HEAD
