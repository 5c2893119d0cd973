"""Recorded measurement lists: what Linux's format makes of each, and why.

The format is that of ``security/integrity/ima``: ``ima_fs.c`` (entries), ``ima_template.c``
(templates), ``ima_crypto.c`` (one hash of the template data for each bank).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from bootlease.errors import MalformedError, VerificationError
from bootlease.ima import (
    IMAState,
    Kind,
    attest_list,
    looks_like_text,
    measured_key,
    parse_ascii_list,
    parse_file_signature,
    parse_list,
    replay_list,
)
from bootlease.ima.modsig import parse_modsig
from bootlease.model import HashAlg

if TYPE_CHECKING:
    from pathlib import Path

    from bootlease.ima import IMAEntry


@dataclass(frozen=True, slots=True)
class Good:
    """A list that is what the kernel writes.

    Attributes:
        why: What it is.
        templates: Entries by template.
        bank: The bank whose template hashes it shows.
        violations: Numbers of violations.
        other_hashes: Entries whose template hash is not over their data, each with its reason
            in ``why``.
    """

    why: str
    templates: dict[str, int]
    bank: HashAlg = HashAlg.SHA1
    violations: tuple[int, ...] = ()
    other_hashes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Bad:
    """A file that is no such list.

    Attributes:
        why: What it is.
        message: What the refusal says.
    """

    why: str
    message: str = field(default="")


LISTS: Final[dict[str, Good | Bad]] = {
    "ibmtss_imatest.bin": Good(
        "one entry of each template and of custom ones, among them a measured key, an appended"
        " signature and a portable one",
        {
            "d-ng|sig": 1,
            "n-ng|d-ng": 1,
            "n-ng|sig|d-ng": 1,
            "n-ng|sig": 1,
            "n": 1,
            "sig": 1,
            "ima": 1,
            "ima-ng": 1,
            "ima-sig": 3,
            "ima-modsig": 2,
            "ima-sigv2": 1,
            "ima-buf": 1,
            "evm-sig": 1,
            "ima-ngv2": 1,
        },
        violations=(6,),
    ),
    "ibmtss_sha1.bin": Good("one boot's list as the SHA-1 bank has it", {"ima-sig": 362}),
    "ibmtss_sha256.bin": Good("the same for SHA-256", {"ima-sig": 362}, HashAlg.SHA256),
    "ibmtss_sha384.bin": Good("the same for SHA-384", {"ima-sig": 362}, HashAlg.SHA384),
    "ibmtss_sha512.bin": Good("the same for SHA-512", {"ima-sig": 362}, HashAlg.SHA512),
    "tpm2tss_sml-ima-ng-sha1.bin": Bad(
        "six entries and a line feed, which the kernel does not write", "truncated"
    ),
    "tpm2tss_sml-ima-sha1.bin": Bad(
        "twelve entries and a line feed, which the kernel does not write", "truncated"
    ),
    "tpm2tss_sml-ima-sig-sha256.bin": Bad(
        "nine entries and six bytes of a tenth: the kernel shows whole entries", "truncated"
    ),
    "tpm2tss_sml-ima-ng-sha1-invalidated.bin": Bad(
        "an entry for PCR 13 that lacks the NUL at the end of its name: its data has 48 bytes"
        " and says 49",
        "ends beyond the list",
    ),
    "tpm2tss_sml-ima-sha1-invalidated.bin": Good(
        "a violation in the first template", {"ima": 1}, violations=(0,)
    ),
    "tpm2tss_sml-ima-sig-sha256-invalidated.bin": Good(
        "a boot aggregate and a violation", {"ima-sig": 2}, violations=(1,)
    ),
    "keylime_ima-log-sha1.txt": Good(
        "text; the aggregate is shown with a template hash of zeros, as a violation's",
        {"ima-ng": 2},
        violations=(0,),
    ),
    "keylime_ima-log-sha256.txt": Good("text", {"ima-ng": 2}),
    "keylime_ima-log-sha384.txt": Good(
        "text; an aggregate with a template hash of zeros", {"ima-ng": 2}, violations=(0,)
    ),
    "keylime_ima-log-sha512.txt": Good(
        "text; an aggregate with a template hash of zeros", {"ima-ng": 2}, violations=(0,)
    ),
    "keylime_ima-log-sm3_256.txt": Good(
        "text with template hashes of 32 bytes that are SM3's: they are neither SHA-256 of the"
        " data nor can every build of OpenSSL check them; text is never replayed",
        {"ima-ng": 2},
        HashAlg.SHA256,
        violations=(0,),
        other_hashes=(1,),
    ),
    "keylime_ima-log-unknown.txt": Bad(
        "digests of an algorithm called unknown, which Linux does not have", "does not name"
    ),
    "rustkeylime_ascii_runtime_measurements.txt": Good("text of a real boot", {"ima-ng": 826}),
    "rustkeylime_ima_log.txt": Good("text of one entry", {"ima-ng": 1}),
    "rustkeylime_invalid_ima_log.txt": Bad("a line of words", "no entry"),
}


def entries_of(path: Path) -> list[IMAEntry]:
    """The entries of a list, in text or not, all of them readable."""
    data = path.read_bytes()
    entries = parse_ascii_list(data) if looks_like_text(data) else parse_list(data)
    read = list(entries)
    for entry in read:
        entry.measurement()
    return read


@pytest.mark.corpus("ima/*")
def test_recorded_list(corpus_file: Path) -> None:
    """Every recorded list is read to its last byte or refused, as the kernel's format demands."""
    verdict = LISTS[corpus_file.name]
    if isinstance(verdict, Bad):
        with pytest.raises(MalformedError, match=verdict.message):
            entries_of(corpus_file)
        return
    entries = entries_of(corpus_file)
    assert Counter(entry.template.decode() for entry in entries) == verdict.templates
    assert tuple(entry.number for entry in entries if entry.violation) == verdict.violations
    assert {len(entry.template_hash) for entry in entries} == {verdict.bank.size}
    other = [
        entry.number
        for entry in entries
        if not entry.violation and verdict.bank.digest(entry.data) != entry.template_hash
    ]
    assert tuple(other) == verdict.other_hashes


@pytest.mark.corpus
def test_lists_of_one_boot_lead_to_the_same_pcrs(corpus: Path) -> None:
    """Linux shows one list for each bank; all lead to the same PCR 10 in every bank."""
    banks = (HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384, HashAlg.SHA512)
    states = [
        replay_list((corpus / f"ima/ibmtss_{bank.label}.bin").read_bytes(), banks) for bank in banks
    ]
    assert len({tuple(state.pcrs.items()) for state in states}) == 1
    data = (corpus / "ima/ibmtss_sha384.bin").read_bytes()
    assert attest_list(IMAState.START, data, states[0].pcrs).state == states[2]


@pytest.mark.corpus
def test_the_replay_is_that_of_an_independent_reader(corpus: Path) -> None:
    """PCR 10 of the lists whose replay the corpus records, by another program."""
    recorded = {
        "ibmtss_sha1.bin": (
            "9be6bac02bf18d09d17e726c2df00bca4e8831ea",
            "7fac48c81837d6d29046008aef0cdad8c2745cc98c3340cbba9bfdf39b4124b8",
        ),
        "tpm2tss_sml-ima-sig-sha256-invalidated.bin": (
            "a0e7bc9af0a2b54147b0d595d058f15c6cc44a6d",
            "338c5ec5cba3d64a886cc6f369f10e5209bf8f49db078635723bb1ed8091b2ba",
        ),
    }
    banks = (HashAlg.SHA1, HashAlg.SHA256)
    for name, values in recorded.items():
        state = replay_list((corpus / "ima" / name).read_bytes(), banks)
        assert tuple(state.pcrs[bank].hex() for bank in banks) == values


@pytest.mark.corpus
def test_what_the_entries_of_every_template_say(corpus: Path) -> None:
    """Key, appended signature and portable signature of the list with every template."""
    entries = entries_of(corpus / "ima/ibmtss_imatest.bin")
    measured = {entry.number: entry.measurement() for entry in entries}
    key = measured_key(entries[13], measured[13])
    assert key is not None
    assert (key.keyring, len(key.payload)) == (".builtin_trusted_keys", 1324)
    assert measured[13].kind is Kind.BUFFER
    (signer,) = parse_modsig(measured[16].modsig)
    assert (signer.alg, signer.attributes) == (HashAlg.SHA256, b"")
    assert measured[16].modsig_digest is not None
    portable = parse_file_signature(measured[14].evm_signature)
    assert (portable.type.name, portable.version) == ("PORTABLE", 2)
    xattrs = dict(measured[14].xattrs)
    digest = measured[14].digest
    assert digest is not None
    assert xattrs.keys() == {b"security.selinux", b"security.ima"}
    assert xattrs[b"security.ima"] == b"\4\4" + digest.value
    assert (measured[14].uid, measured[14].gid, measured[14].mode) == (0, 0, 0o100644)


@pytest.mark.corpus
@pytest.mark.parametrize("number", range(0, 362, 19))
def test_an_edited_recorded_list(corpus: Path, number: int) -> None:
    """E1: a bit of an entry's data that is changed refuses the list and names the entry."""
    data = (corpus / "ima/ibmtss_sha1.bin").read_bytes()
    quoted = replay_list(data, (HashAlg.SHA256,)).pcrs
    entry = list(parse_list(data))[number]
    at = data.index(entry.template_hash + b"\7\0\0\0ima-sig") + 20 + 4 + 7 + 4
    changed = data[: at + 12] + bytes([data[at + 12] ^ 1]) + data[at + 13 :]
    with pytest.raises(VerificationError) as caught:
        attest_list(IMAState.START, changed, quoted)
    found = [(finding.id, finding.event) for finding in caught.value.findings]
    assert found == [("ima.template-hash-mismatch", number), ("ima.replay-mismatch", None)]


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "extra", "entries"),
    [
        ("tpm2tss_sml-ima-ng-sha1.bin", 1, 6),
        ("tpm2tss_sml-ima-sha1.bin", 1, 12),
        ("tpm2tss_sml-ima-sig-sha256.bin", 6, 9),
    ],
)
def test_without_its_last_bytes_it_is_a_list(
    corpus: Path, name: str, extra: int, entries: int
) -> None:
    """Nothing but the bytes after the last entry is wrong with a list that is refused for them."""
    data = (corpus / "ima" / name).read_bytes()[:-extra]
    read = list(parse_list(data))
    assert len(read) == entries
    assert all(HashAlg.SHA1.digest(entry.data) == entry.template_hash for entry in read)


@pytest.mark.corpus
def test_every_verdict_has_its_list(corpus: Path) -> None:
    """No recorded list goes without a verdict, and none is given of nothing."""
    assert {path.name for path in (corpus / "ima").iterdir()} == LISTS.keys()
