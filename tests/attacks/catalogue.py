"""The known ways to fool a verifier of boots, by number: what the suite in this folder must hold.

A row is refused where some test shows it refused and names the findings that did it, and benign
where it is an oddity of real machines that must be accepted. Section F lists what no verifier can
see; its rows say what a policy can do about them instead of being tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Row:
    """One attack.

    Attributes:
        number: Its number, for example ``A1``.
        title: What it is.
    """

    number: str
    title: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """One attack that the evidence of a TPM does not show.

    Attributes:
        number: Its number, for example ``F1``.
        title: What it is.
        shows: What of it can be seen after all.
        remedy: What a policy, or the operator, can do about it.
    """

    number: str
    title: str
    shows: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Section:
    """Attacks on one part of the verifier.

    Attributes:
        letter: First letter of its rows' numbers.
        title: What its rows attack.
        rows: In the order of their numbers.
    """

    letter: str
    title: str
    rows: tuple[Row, ...]


def _section(letter: str, title: str, *titles: str) -> Section:
    rows = tuple(Row(f"{letter}{number}", text) for number, text in enumerate(titles, start=1))
    return Section(letter, title, rows)


QUOTE: Final = _section(
    "A",
    "Quote: structure and signature",
    "Signed bytes that no TPM made: TPM_GENERATED is missing",
    "Another statement of the TPM in place of a quote",
    "Values of other PCRs than those that were quoted",
    "A quote over no PCR at all",
    "A PCR that policy demands is left out of the quote",
    "Another PCR bank, or one left for anybody to fill: policy must demand all that are extended",
    "One bank speaks for another",
    "A bank listed twice; two banks, which is legal",
    "A PCR digest made with the wrong hash",
    "An empty, shortened or zero PCR digest",
    "A nonce that is old, empty, cut, padded, invented or expired",
    "A nonce in another encoding",
    "A challenge that was set for another node",
    "A signature that is wrong, and a verifier that goes on all the same",
    "One RSA signature scheme passed off as the other",
    "A signature that names a weaker hash, or is made with it",
    "ECDSA numbers at the edge: zero, empty, beyond the order, padded, negated",
    "Signature algorithms that prove nothing here",
    "Bytes after the structure",
    "Structures that are cut short, or announce more than they hold",
    "A second spelling of yes",
    "A clock that may have gone back",
    "Counters that went back: a TPM's state copied, restored, or of another boot",
    "Another firmware of the TPM, or another name of the signing key",
    "A genuine quote of another machine, relayed",
    "Other attestations of the same key, replayed as a quote",
)

ENROLMENT: Final = _section(
    "B",
    "Enrolment: attestation key, endorsement key, certificates",
    "An attestation key that signs anything it is given",
    "An attestation key that can leave its TPM, or came from outside",
    "An attestation key that may not sign, or may decrypt",
    "A credential opened for another key than the one enrolled",
    "An endorsement key beside the certificate of another",
    "Guessing the secret of credential activation",
    "A second TPM takes over a node's identity",
    "Administration without a credential",
    "The key that is used is not the key that was checked",
    "A certificate that was not issued for an endorsement key",
    "A critical subject alternative name with the TPM's make, which is legal",
    "Malformed certificates of real TPMs, which must be read",
    "A tolerant parser that changes what was signed",
    "Intermediate certificates that the client brings",
    "Endorsement keys of families that are revoked or known to be weak",
    "A software TPM passed off as hardware",
    "Keys that are too short, on odd curves or with odd exponents",
    "A certified creation or certification of another key",
    "An RSA exponent of 0, which means 65537",
    "An attestation key named by a weak hash",
    "An endorsement key that is none of the known templates",
    "A slip in making credentials that would give the secret away",
    "A TPM that was cleared, or that was given other seeds",
)

LOG_STRUCTURE: Final = _section(
    "C",
    "Event log: structure",
    "A log that is cut off",
    "Sizes and counts that exceed the log",
    "Digests that are missing, repeated or none",
    "Digest algorithms that the header does not list, or lies about",
    "A header that is no header, or comes twice",
    "An unknown digest algorithm beside a known one, which is legal",
    "An event of an unknown type, which must be kept and trusted with nothing",
    "PCR numbers that no TPM has",
    "Events that say that they are not measured, yet carry digests",
    "A startup locality that is late, repeated, impossible, cut or in the wrong place",
    "A boot whose first measurement is the hardware's (H-CRTM), which is legal",
    "Padding, which is legal, and garbage, which is not",
    "Two logs in one",
    "A SHA-1 log for a quote of SHA-256",
    "Logs made to exhaust the verifier",
    "A log that is longer or shorter than what was quoted",
)

LOG_MEANING: Final = _section(
    "D",
    "Event log: meaning",
    "Event data that was edited under its old digest",
    "An event that was given another type",
    "Firmware-like events appended by the operating system",
    "Separators that are missing, repeated, of an error, or of the wrong length",
    "A log that says nothing of Secure Boot, taken for one that says it is off",
    "A SecureBoot variable without a value, which real machines have and which means off",
    "Setup, audit and test modes, test keys, and validation switched off in shim",
    "An authority that is in no database, or that was consulted before the boot",
    "Revocations that are too old",
    "Debug mode, and DMA protection switched off",
    "The hand-over to the operating system is missing, repeated, or not the end",
    "Several boot attempts, which are legal, and applications outside any",
    "An option ROM or driver that was loaded unnoticed",
    "Order across PCRs, which nothing attests",
    "A file's hash in place of its image digest; values taken from the log that is judged",
    "A prefix of a boot loader's string that its digest does not cover",
    "Kernel parameters, credentials, add-ons and initrds slipped in",
    "A quote taken in another phase of the boot than policy wants",
    "PCRs that anybody may reset",
    "PCRs of a dynamic launch, which no firmware log explains",
    "No reference, or a reference that the attested machine chose",
    "Digests compared as text",
    "Bodies made to exhaust or to crash their parser",
    "A database certificate with a repeated extension, which is legal",
    "Windows events with forged flags, and a quote inside the log",
    "Measurement registers of a confidential machine taken for PCRs of the same number",
)

IMA: Final = _section(
    "E",
    "IMA: what a running system loaded",
    "A template hash that is not the hash of its data",
    "Violations, which hide what was really loaded",
    "Kernels that fill SHA-1 up for the other banks",
    "A boot aggregate that is missing, late, or of another boot",
    "A list that runs ahead of the quote, which is legal, or is held back",
    "Paths with spaces, newlines and escapes, and files without a path",
    "What the kernel's own policy does not measure",
    "An exclusion that is too wide",
    "Signatures that nobody verified",
    "One template passed off as another, and fields that overflow",
    "Digests of different algorithms taken for equal",
    "A TPM that was reset under a running kernel",
)

TOKEN: Final = _section(
    "G",
    "Tokens and the service that grants them",
    "A stolen token: without audience, proof of possession or key",
    "A token that outlives what it rests on",
    "A token whose header chooses its algorithm or key",
    "A verdict on one key's evidence, and a token for another key",
    "An error that ends in a token",
    "Ambiguous encodings",
    "Compressed evidence that inflates",
    "Challenges asked for without end",
    "A token that outlives a refusal",
    "Clocks that differ",
    "A refusal of one part, and a token for the rest",
)

SECTIONS: Final = (QUOTE, ENROLMENT, LOG_STRUCTURE, LOG_MEANING, IMA, TOKEN)

NUMBERS: Final = frozenset(row.number for section in SECTIONS for row in section.rows)

UNSEEN: Final = (
    Unseen(
        "F1",
        "The TPM is reset over its bus or a pin, and a good log is replayed into it",
        "A reset raises resetCount, so a lease cannot be renewed across it. A machine whose "
        "firmware starts the TPM from locality 3, or measures itself from locality 4, leaves a "
        "start value in PCR 0 that nobody on the bus can produce.",
        "Leases end with the boot (`lineage.boot-changed`): look into every new lineage of a node "
        "that nobody rebooted. Learn the reference from such a machine: its PCR 0 then holds the "
        "start value. Where the TPM is a chip of its own, keep strangers away from it.",
    ),
    Unseen(
        "F2",
        "A device on the bus changes what the TPM is told to extend",
        "Nothing: the TPM reports what it was told.",
        "Use a TPM inside the processor or the chipset where machines stand in reach of strangers; "
        "grant such nodes less (`authorization.cedar`) and for a shorter time (`lease.life`).",
    ),
    Unseen(
        "F3",
        "PCRs are reset by suspend and resume",
        "A resume that is done properly raises restartCount; one that loses the PCRs resets the "
        "TPM and raises resetCount. Both end the lineage.",
        "Leases do not survive a resume (`lineage.boot-changed`). Servers do not sleep: disable "
        "it in firmware, which PCR 1 and the reference then show.",
    ),
    Unseen(
        "F4",
        "The code that makes the first measurement is itself replaced",
        "Nothing, where that code lies in flash that can be written: it says of itself what it "
        "likes.",
        "Buy machines that verify their first code in hardware, and demand it at purchase: no "
        "policy can. An EK allowlist (`enrolment.allow_ek`) keeps other machines out.",
    ),
    Unseen(
        "F5",
        "A TPM in firmware gives up its keys under voltage faults",
        "Nothing: whoever has the keys signs what he likes.",
        "Refuse the families concerned by vendor and firmware (`[enrolment]`), and take nodes that "
        "strangers held off the allowlist.",
    ),
    Unseen(
        "F6",
        "Faults of the software TPM of a virtual machine, or of its host",
        "The certificate names a software TPM, which is refused unless policy names it.",
        "A virtual TPM is as good as its host: pin the host's own CA, not a general one, and "
        "grant accordingly.",
    ),
    Unseen(
        "F7",
        "A virtual TPM's state is copied and runs twice",
        "Counters are kept at their highest: a copy that was left behind by a boot is refused, and "
        "two renewals of one lease end the lineage. A copy that is taken and restored while the "
        "machine runs brings its PCRs, its counters and even its clock along: nothing shows it.",
        "Such a node's state is its host's word: pin the host's own CA, and grant accordingly. "
        "Short leases (`lease.life`) bound what a copy is good for.",
    ),
)
"""Section F: what the evidence of a TPM does not show."""
