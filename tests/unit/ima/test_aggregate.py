"""Whether a list belongs to the boot whose PCRs are quoted."""

from __future__ import annotations

import hashlib

import pytest

from bootlease.ima import (
    IMAState,
    attest_list,
    boot_aggregate_findings,
    expected_boot_aggregates,
)
from bootlease.model import Effect, HashAlg
from bootlease.testing.ima_templates import Entry, Kernel, ima_ng, ima_sig

PCRS = {
    bank: {pcr: bank.digest(bytes([pcr])) for pcr in range(11)}
    for bank in (HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384)
}
SHA256 = hashlib.sha256(b"".join(PCRS[HashAlg.SHA256][pcr] for pcr in range(10))).digest()
SHA1 = HashAlg.SHA1.digest(b"".join(PCRS[HashAlg.SHA1][pcr] for pcr in range(8)))


def aggregate(digest: bytes = SHA256, alg: str = "sha256") -> Entry:
    """The entry with which a boot starts."""
    return Entry("ima-ng", ima_ng(b"boot_aggregate", digest, alg))


FILE = Entry("ima-ng", ima_ng(b"/init", bytes(range(32))))


def findings(*entries: Entry, skip: int = 0) -> list[tuple[str, Effect, int | None]]:
    """What is found in attested entries, after the first ``skip``."""
    kernel = Kernel(entries=[*entries])
    state = IMAState.START
    if skip:
        state = attest_list(state, kernel.list(), kernel.pcr(skip)).state
    attested = attest_list(state, kernel.list()[state.offset :], kernel.pcr())
    found = boot_aggregate_findings(attested, PCRS)
    return [(finding.id, finding.effect, finding.event) for finding in found]


def test_expected_aggregates() -> None:
    """SHA-1 is over PCRs 0 to 7, every other bank's over 0 to 9."""
    expected = expected_boot_aggregates(PCRS)
    assert expected["sha256"] == SHA256
    assert expected["sha1"] == SHA1
    assert expected.keys() == {"sha1", "sha256", "sha384"}


def test_banks_without_all_pcrs_have_no_aggregate() -> None:
    """What was not quoted is never guessed."""
    few = {
        HashAlg.SHA1: {pcr: PCRS[HashAlg.SHA1][pcr] for pcr in range(8)},
        HashAlg.SHA256: {pcr: PCRS[HashAlg.SHA256][pcr] for pcr in range(9)},
        HashAlg.SHA384: {},
    }
    assert expected_boot_aggregates(few) == {"sha1": SHA1}


@pytest.mark.parametrize("first", [aggregate(), aggregate(SHA1, "sha1")])
def test_a_list_of_this_boot(first: Entry) -> None:
    """The first entry is the hash of the quoted PCRs, in whichever quoted bank."""
    assert findings(first, FILE) == []


def test_the_first_template() -> None:
    """The template ``ima`` has a boot aggregate of SHA-1."""
    assert findings(Entry("ima", SHA1 + b"boot_aggregate"), FILE) == []


def test_a_list_without_aggregate() -> None:
    """E4: what does not start with a boot aggregate is tied to no boot."""
    missing = [("ima.boot-aggregate.missing", Effect.REFUSES, None)]
    assert findings(FILE) == missing
    assert findings(FILE, aggregate()) == missing
    violation = Entry("ima-ng", ima_ng(b"boot_aggregate", bytes(32)), violation=True)
    assert findings(violation, aggregate()) == missing


def test_nothing_attested() -> None:
    """A quote that attests no entry at all attests no boot aggregate."""
    other = Kernel((HashAlg.SHA256,), entries=[FILE])
    state = attest_list(IMAState.START, other.list(), other.pcr()).state
    attested = attest_list(state, b"", other.pcr())
    assert boot_aggregate_findings(attested, PCRS) == ()


@pytest.mark.parametrize(
    "digest", [bytes(32), bytes(range(32)), SHA256[:-1] + bytes([SHA256[-1] ^ 1])]
)
def test_a_list_of_another_boot(digest: bytes) -> None:
    """E4: another first entry is that of another boot, or of a kernel without TPM."""
    assert findings(aggregate(digest), FILE) == [("ima.boot-aggregate.mismatch", Effect.REFUSES, 0)]


def test_an_aggregate_over_pcrs_0_to_7() -> None:
    """E4: of SHA-256, an aggregate without PCRs 8 and 9 hides the kernel's command line."""
    short = hashlib.sha256(b"".join(PCRS[HashAlg.SHA256][pcr] for pcr in range(8))).digest()
    assert findings(aggregate(short)) == [("ima.boot-aggregate.mismatch", Effect.REFUSES, 0)]


def test_an_aggregate_over_an_unquoted_bank() -> None:
    """E4: what cannot be compared is refused."""
    unquoted = [("ima.boot-aggregate.unquoted", Effect.REFUSES, 0)]
    assert findings(aggregate(bytes(64), "sha512")) == unquoted
    verity = Entry("ima-ngv2", ima_ng(b"boot_aggregate", SHA256, "verity:sha256"))
    assert findings(verity) == unquoted


def test_kexec() -> None:
    """A kernel started by kexec appends an aggregate of its own, which is noted."""
    repeated = ("ima.boot-aggregate.repeated", Effect.NOTES, 2)
    assert findings(aggregate(), FILE, aggregate(), FILE, aggregate()) == [repeated]
    assert findings(aggregate(), FILE, aggregate(), FILE, skip=2) == [repeated]
    assert findings(aggregate(), FILE, skip=1) == []


def test_a_later_aggregate_of_another_boot() -> None:
    """E4: every aggregate is compared, also one that a renewal brings."""
    mismatch = [("ima.boot-aggregate.mismatch", Effect.REFUSES, 2)]
    assert findings(aggregate(), FILE, aggregate(bytes(32))) == mismatch
    assert findings(aggregate(), FILE, aggregate(bytes(32)), skip=2) == mismatch


def test_names_that_only_contain_it() -> None:
    """A file whose path or signature has the words in it is a file."""
    path = Entry("ima-ng", ima_ng(b"/tmp/boot_aggregate", bytes(32)))
    signed = Entry("ima-sig", ima_sig(ima_ng(b"/a", bytes(32)), b"\3boot_aggregate"))
    broken = Entry("ima-ng", b"boot_aggregate")
    assert findings(aggregate(), path, signed, broken) == []


def test_a_digest_that_starts_the_words() -> None:
    """E4: a file whose digest and name together spell the words hides no later aggregate."""
    trick = Entry("ima", bytes(19) + b"b" + b"oot_aggregate")
    found = findings(aggregate(), trick, FILE, aggregate(bytes(32)))
    assert found == [("ima.boot-aggregate.mismatch", Effect.REFUSES, 3)]
