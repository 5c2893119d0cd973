"""Evidence of real boots, fed to the appraisal; for tests alone.

Each case is a folder of files as tpm2-tools wrote them: a quote over a bare nonce, by an AK that is
a child of the EK. A verifier takes neither: its quotes sign a binding, and its AKs are primaries
of the endorsement hierarchy. So what those two would prove is checked here, and the rest of the
appraisal is given what it would then have.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.appraisal import AttestationResult, accept_enrolment, appraise, boot_log_of
from bootlease.endorsement import Enrolment, TrustedRoots, parse_certificates
from bootlease.eventlog import ReplayedLog, parse_event_log, replay
from bootlease.evidence import (
    IMA_LIST,
    Challenge,
    EnrolmentRequest,
    TokenEncoding,
    VerifiedEvidence,
)
from bootlease.evidence.segment import IMASegment
from bootlease.evidence.verify import VerifiedLease
from bootlease.ima import parse_list
from bootlease.lineage import HighWaterMark
from bootlease.model import HashAlg
from bootlease.policy import Policy, PolicyEpoch, parse_policy
from bootlease.reference import IMAReferenceSet, ReferenceSet, learn
from bootlease.reference.imalearn import learn_files
from bootlease.reference.imaset import Origin
from bootlease.testing.scene import AUDIENCE, IMA_POLICY, IMA_REFERENCE, REFERENCE
from bootlease.token import KeyProtection, PublicKey
from bootlease.tpm import TPMTPublic, VerifiedQuote, accept_attestation_key, verify_quote
from bootlease.tpm.public import parse_public_2b

BANK: Final = HashAlg.SHA256
QUOTED: Final = range(16)
BOOT_PCRS: Final = tuple(pcr for pcr in QUOTED if pcr != 10)
NOW: Final = 1_795_500_000
LIFE: Final = 120

LAB_POLICY: Final = (
    IMA_POLICY.replace("8, 9, 10, 14]", "8, 9, 10, 11, 12, 13, 14, 15]")
    .replace('ek_algorithm = "ecc-p256"', 'ek_algorithm = "rsa-2048"')
    .replace('exit_boot_services = "not-required"', 'exit_boot_services = "required"')
)
"""All that was quoted is demanded, and IMA with it. These machines measure no phases."""

_VALUE: Final = re.compile(r"^\s*(\d+)\s*:\s*0x([0-9A-F]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class LabCase:
    """One boot.

    Attributes:
        folder: Its files.
    """

    folder: Path

    def read(self, name: str) -> bytes:
        """Return a file."""
        return (self.folder / name).read_bytes()

    @property
    def log(self) -> bytes:
        """The firmware's event log."""
        return self.read("eventlog")

    def replayed(self) -> ReplayedLog:
        """Return the event log, replayed."""
        return replay(parse_event_log(self.log))

    def command_line(self) -> str:
        """Return the command line that the running kernel showed."""
        return self.read("cmdline").decode().strip()

    def ek(self) -> TPMTPublic:
        """Return the EK's public area."""
        return parse_public_2b(self.read("ek.pub"))

    def nonce(self) -> bytes:
        """Return what the quote answers."""
        return bytes.fromhex(self.read("nonce").decode().strip())

    def quote(self, nonce: bytes | None = None) -> VerifiedQuote:
        """Verify the quote, over the bare nonce, and that the AK is a child of the EK."""
        key = accept_attestation_key(parse_public_2b(self.read("ak.pub")))
        read = dict(_VALUE.findall(self.read("pcrread.yaml").decode()))
        values = {BANK: {pcr: bytes.fromhex(read[str(pcr)]) for pcr in QUOTED}}
        quote = verify_quote(
            self.read("quote.msg"), self.read("quote.sig"), key, nonce or self.nonce(), values
        )
        assert quote.qualified_signer == key.public.qualified_name(self.ek().qualified_name())
        return quote

    def enrolment(self, roots: TrustedRoots, intermediate: bytes, policy: Policy) -> Enrolment:
        """Enrol the machine as a verifier does, by its EK certificate."""
        request = EnrolmentRequest(
            self.ek().marshal(),
            parse_public_2b(self.read("ak.pub")).marshal(),
            (self.read("ek-rsa.crt"), intermediate),
        )
        return accept_enrolment(request, roots, policy, now=NOW).enrolment(now=NOW)

    def reference(
        self,
        match_events: tuple[int, ...] = (),
        *,
        command_line: bool = False,
        known_command_lines: tuple[str, ...] = (),
    ) -> ReferenceSet:
        """Learn what this boot measured."""
        return learn(
            self.replayed(),
            self.quote().pcrs,
            name=REFERENCE,
            version="1",
            bank=BANK,
            pcrs=BOOT_PCRS,
            match_events=match_events,
            command_line=command_line,
            known_command_lines=known_command_lines,
        )

    def files(self) -> IMAReferenceSet:
        """Learn what the system had loaded."""
        learned = learn_files(parse_list(self.read("ima")))
        return IMAReferenceSet(IMA_REFERENCE, "1", Origin.LEARNED, learned.files, learned.buffers)

    def evidence(self, enrolment: Enrolment) -> VerifiedEvidence:
        """Return what a verifier would have at hand had it set the challenge."""
        listed = self.read("ima")
        quote = replace(self.quote(), qualified_signer=enrolment.ak_qualified_name)
        key = ec.derive_private_key(4711, ec.SECP256R1()).public_key()
        confirmation = PublicKey.from_cryptography(key)
        return VerifiedEvidence(
            digest=hashlib.sha256(self.read("quote.msg")).digest(),
            nonce=self.nonce(),
            previous=None,
            leases=(
                VerifiedLease(
                    *(("tool:search",), AUDIENCE, TokenEncoding.CWT),
                    *(confirmation, KeyProtection.PROCESS, None),
                ),
            ),
            quote=quote,
            log_digests={"tcg": hashlib.sha256(self.log).digest()},
            logs={"tcg": self.log, IMA_LIST: listed},
            ima=IMASegment.of(0, listed),
        )


@dataclass(frozen=True)
class Lab:
    """All cases.

    Attributes:
        folder: Where they are.
    """

    folder: Path

    def case(self, name: str) -> LabCase:
        """Return a case by its name."""
        return LabCase(self.folder / name)

    def appraise(
        self,
        case: LabCase,
        reference: ReferenceSet,
        files: IMAReferenceSet,
        *,
        policy: str = LAB_POLICY,
        high_water: HighWaterMark | None = None,
    ) -> AttestationResult:
        """Take one boot through the whole appraisal."""
        rules = parse_policy(policy)
        authority = self.folder / "_ca"
        root = (authority / "swtpm-localca-rootca-cert.pem").read_bytes()
        roots = TrustedRoots.of(parse_certificates(root))
        (intermediate,) = parse_certificates((authority / "issuercert.pem").read_bytes())
        enrolment = case.enrolment(roots, intermediate, rules)
        evidence = case.evidence(enrolment)
        challenge = Challenge(
            nonce=case.nonce(),
            node=enrolment.node,
            issued_at=NOW,
            expires_at=NOW + LIFE,
            pcrs=rules.quote.selection,
            ima=0,
        )
        return appraise(
            evidence,
            boot_log_of(evidence, rules.quote.banks),
            challenge=challenge,
            prior=None,
            high_water=high_water or HighWaterMark(),
            enrolment=enrolment,
            roots=roots,
            references=[reference],
            policy=PolicyEpoch(rules, 1),
            now=NOW,
            ima_references=[files],
        )
