"""Which entries a quoted PCR 10 attests."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest

from bootlease.errors import MalformedError, VerificationError
from bootlease.ima import (
    IMALimits,
    IMAState,
    TemplateHash,
    UnknownTemplateError,
    attest,
    attest_list,
    replay_list,
)
from bootlease.model import HashAlg
from bootlease.testing.ima_templates import Entry, Kernel, ima_buf, ima_ng, ima_ngv2, ima_sig

SHA1, SHA256, SHA384 = HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384


def digest(content: bytes) -> bytes:
    """SHA-256 of a file."""
    return hashlib.sha256(content).digest()


def file(name: str) -> Entry:
    """A measured file."""
    return Entry("ima-ng", ima_ng(name.encode(), digest(name.encode())))


@pytest.fixture
def kernel() -> Kernel:
    """A kernel that measured a little of everything."""
    made = Kernel((SHA1, SHA256, SHA384))
    made.measure(
        Entry("ima-ng", ima_ng(b"boot_aggregate", digest(b"pcrs"))),
        file("/init"),
        Entry("ima-sig", ima_sig(ima_ng(b"/bin/sh", digest(b"sh")), b"\x03\x02")),
        Entry("ima-ngv2", ima_ngv2(b"/bin/ls", digest(b"ls"), kind="verity")),
        Entry("ima-ng", ima_ng(b"/var/log", bytes(32)), violation=True),
        Entry("ima-buf", ima_buf(b"kexec-cmdline", b"ro quiet")),
        Entry("ima", hashlib.sha1(b"x", usedforsecurity=False).digest() + b"/bin/old"),
        file("/bin/last"),
    )
    return made


def refused(
    data: bytes,
    quoted: dict[HashAlg, bytes],
    state: IMAState = IMAState.START,
    *,
    unsafe_sha1_padding: bool = False,
) -> list[str]:
    """The ids of what a refusal finds."""
    with pytest.raises(VerificationError) as caught:
        attest_list(state, data, quoted, unsafe_sha1_padding=unsafe_sha1_padding)
    return [finding.id for finding in caught.value.findings]


def test_a_whole_list(kernel: Kernel) -> None:
    """Every bank's quoted value attests the whole list, whose entries come back as they were."""
    attested = attest_list(IMAState.START, kernel.list(), kernel.pcr())
    assert attested.state.entries == len(kernel.entries)
    assert attested.state.offset == len(kernel.list())
    assert attested.state.pcrs == kernel.pcr()
    assert attested.state.template_hash is TemplateHash.PER_BANK
    assert attested.ahead == 0
    entries = list(attested.entries())
    assert [entry.data for entry in entries] == [entry.hashed for entry in kernel.entries]
    assert [entry.number for entry in entries] == list(range(len(entries)))
    assert [entry.violation for entry in entries] == [entry.violation for entry in kernel.entries]


@pytest.mark.parametrize("after", range(1, 9))
def test_a_list_that_runs_ahead(kernel: Kernel, after: int) -> None:
    """Entries behind the quoted value are counted, and otherwise do not exist."""
    attested = attest_list(IMAState.START, kernel.list(), kernel.pcr(after))
    assert (attested.state.entries, attested.ahead) == (after, len(kernel.entries) - after)
    assert len(list(attested.entries())) == after


@pytest.mark.parametrize("split", range(1, 9))
def test_going_on_from_a_state(kernel: Kernel, split: int) -> None:
    """A second list that holds only what is new leads to the same state as a whole one."""
    first = attest_list(IMAState.START, kernel.list(), kernel.pcr(split)).state
    rest = kernel.list()[first.offset :]
    second = attest_list(IMAState.parse(first.encode()), rest, kernel.pcr())
    assert second.state == attest_list(IMAState.START, kernel.list(), kernel.pcr()).state
    assert [entry.number for entry in second.entries()] == list(range(split, 8))


def test_nothing_new(kernel: Kernel) -> None:
    """A state whose PCR is the quoted one needs no entries, and attests none that come along."""
    state = attest_list(IMAState.START, kernel.list(), kernel.pcr()).state
    attested = attest_list(state, file("/more").encode(), kernel.pcr())
    assert (attested.state, attested.ahead) == (state, 1)
    assert list(attested.entries()) == []
    assert attest_list(state, b"", kernel.pcr()).state == state


def test_an_edited_entry(kernel: Kernel) -> None:
    """E1: another digest under the old hash is refused, and the entry named."""
    changed = kernel.list().replace(digest(b"sh"), digest(b"xx"))
    assert refused(changed, {SHA256: kernel.pcr()[SHA256]}) == [
        "ima.template-hash-mismatch",
        "ima.replay-mismatch",
    ]


def test_an_entry_edited_with_its_hash(kernel: Kernel) -> None:
    """E1: an entry whose hash was changed with it leads to another PCR."""
    forged = Kernel(kernel.banks, entries=[*kernel.entries])
    forged.entries[1] = file("/evil")
    assert refused(forged.list(), kernel.pcr()) == ["ima.replay-mismatch"] * 3


def test_a_hash_that_is_not_the_datas(kernel: Kernel) -> None:
    """E1: a list whose own SHA-1 is wrong is not the kernel's, even where the data replays."""
    at = kernel.list().index(SHA1.digest(kernel.entries[1].data))
    changed = bytearray(kernel.list())
    changed[at] ^= 1
    with pytest.raises(VerificationError) as caught:
        attest_list(IMAState.START, bytes(changed), {SHA256: kernel.pcr()[SHA256]})
    (finding,) = caught.value.findings
    assert (finding.id, finding.event) == ("ima.template-hash-mismatch", 1)


def test_a_hidden_violation(kernel: Kernel) -> None:
    """E2: a violation shown as an honest entry, or the other way round, replays to another PCR."""
    for number in (1, 4):
        forged = Kernel(kernel.banks, entries=[*kernel.entries])
        entry = forged.entries[number]
        forged.entries[number] = Entry(entry.template, entry.data, violation=not entry.violation)
        assert refused(forged.list(), kernel.pcr()) == ["ima.replay-mismatch"] * 3


@pytest.mark.parametrize("missing", range(8))
def test_an_entry_left_out(kernel: Kernel, missing: int) -> None:
    """A list that lacks an entry, wherever, leads to another PCR."""
    short = Kernel(kernel.banks, entries=[*kernel.entries])
    del short.entries[missing]
    assert refused(short.list(), kernel.pcr()) == ["ima.replay-mismatch"] * 3


def test_a_withheld_tail(kernel: Kernel) -> None:
    """E5: the quote is ahead of the list, which the kernel's never is."""
    short = Kernel(kernel.banks, entries=kernel.entries[:-1])
    assert refused(short.list(), kernel.pcr()) == ["ima.replay-mismatch"] * 3
    assert refused(b"", kernel.pcr()) == ["ima.replay-mismatch"] * 3


def test_entries_in_another_order(kernel: Kernel) -> None:
    """Two entries that changed places lead to another PCR."""
    other = Kernel(kernel.banks, entries=[*kernel.entries])
    other.entries[1], other.entries[2] = other.entries[2], other.entries[1]
    assert refused(other.list(), kernel.pcr()) == ["ima.replay-mismatch"] * 3


def test_a_tpm_reset_under_a_running_kernel(kernel: Kernel) -> None:
    """E12: PCR 10 that only the later entries were extended into is not that of the list."""
    later = Kernel(kernel.banks, entries=kernel.entries[5:])
    assert refused(kernel.list(), later.pcr()) == ["ima.replay-mismatch"] * 3


def test_one_bank_that_does_not_match(kernel: Kernel) -> None:
    """A7: a bank that matches does not make up for one that does not."""
    for bank in kernel.banks:
        quoted = kernel.pcr() | {bank: b"\1" * bank.size}
        assert refused(kernel.list(), quoted) == ["ima.replay-mismatch"]


@pytest.mark.parametrize(("first", "second"), [(5, 8), (8, 5)])
def test_banks_that_match_at_different_entries(kernel: Kernel, first: int, second: int) -> None:
    """A7: each bank's value is that of some prefix, but not of one and the same."""
    quoted = {SHA1: kernel.pcr(first)[SHA1], SHA256: kernel.pcr(second)[SHA256]}
    assert refused(kernel.list(), quoted) == ["ima.replay-mismatch"]


def test_an_idle_bank(kernel: Kernel) -> None:
    """A bank into which nothing was extended attests no list, though it equals the empty one."""
    assert refused(kernel.list(), {SHA256: bytes(32)}) == ["ima.nothing-measured"]


def test_a_bank_that_was_never_replayed(kernel: Kernel) -> None:
    """A state goes on in the banks that it has."""
    pcrs = kernel.pcr()
    state = attest_list(IMAState.START, kernel.list(), {SHA256: pcrs[SHA256]}).state
    assert refused(b"", pcrs, state) == ["ima.bank-not-replayed"] * 2
    whole = attest_list(IMAState.START, kernel.list(), pcrs).state
    assert attest_list(whole, b"", {SHA384: pcrs[SHA384]}).state.pcrs == {SHA384: pcrs[SHA384]}


def test_a_bank_without_a_hash(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenSSL was built without a bank's hash, that bank attests nothing."""
    monkeypatch.setattr(attest, "hash_constructor", lambda _: None)
    assert refused(kernel.list(), kernel.pcr()) == ["ima.bank-unsupported"] * 3


def test_an_entry_of_another_pcr(kernel: Kernel) -> None:
    """PCR 10 says nothing of an entry that was extended elsewhere."""
    entry = file("/elsewhere")
    other = Kernel(
        kernel.banks, entries=[*kernel.entries, Entry(entry.template, entry.data, pcr=11)]
    )
    assert refused(other.list(), other.pcr()) == ["ima.other-pcr"]
    assert attest_list(IMAState.START, other.list(), kernel.pcr()).ahead == 1


def test_a_kernel_that_pads_sha1(kernel: Kernel) -> None:
    """E3: SHA-1 in every bank is told from a mismatch, and accepted only where somebody says so."""
    old = Kernel((SHA256, SHA384), padded=True, entries=kernel.entries)
    assert refused(old.list(), old.pcr()) == ["ima.sha1-padding"]
    attested = attest_list(IMAState.START, old.list(), old.pcr(5), unsafe_sha1_padding=True)
    assert attested.state.template_hash is TemplateHash.SHA1_PADDED
    rest = old.list()[attested.state.offset :]
    state = IMAState.parse(attested.state.encode())
    assert attest_list(state, rest, old.pcr()).state.entries == 8


def test_no_list_is_padded_in_part(kernel: Kernel) -> None:
    """E3: what a kernel extends holds for its whole boot and for every bank."""
    first = Kernel((SHA256,), entries=kernel.entries[:4])
    state = attest_list(IMAState.START, first.list(), first.pcr()).state
    value = state.pcrs[SHA256]
    for entry in kernel.entries[4:]:
        sha1 = b"\xff" * 20 if entry.violation else SHA1.digest(entry.hashed)
        value = SHA256.digest(value + sha1 + bytes(12))
    rest = kernel.list()[state.offset :]
    assert refused(rest, {SHA256: value}, state, unsafe_sha1_padding=True) == [
        "ima.replay-mismatch"
    ]
    padded = Kernel((SHA384,), padded=True, entries=kernel.entries)
    mixed = {SHA256: kernel.pcr()[SHA256], SHA384: padded.pcr()[SHA384]}
    assert refused(kernel.list(), mixed, unsafe_sha1_padding=True) == ["ima.replay-mismatch"]


@pytest.mark.parametrize("alg", [SHA256, SHA384, HashAlg.SHA512])
def test_the_list_of_a_bank(kernel: Kernel, alg: HashAlg) -> None:
    """Lists whose template hashes are another bank's, as Linux 6.10 has them, are told apart."""
    kernel.measure(Entry("ima-ng", ima_ng(b"/x", bytes(32)), violation=True))
    attested = attest_list(IMAState.START, kernel.list(alg), kernel.pcr())
    assert attested.state.entries == 9
    assert [len(entry.template_hash) for entry in attested.entries()] == [alg.size] * 9


def test_a_list_that_is_cut_within_an_entry(kernel: Kernel) -> None:
    """A cut list is malformed, wherever it is cut and however much of it is attested."""
    data = kernel.list()
    ends: set[int] = set()
    for entry in kernel.entries:
        ends.add(max(ends, default=0) + len(entry.encode()))
    for size in range(1, len(data)):
        if size not in ends:
            with pytest.raises(MalformedError):
                attest_list(IMAState.START, data[:size], kernel.pcr(1))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Entry("ima-ng", ima_ng(b"/x", bytes(32)), pcr=24).encode(), "PCR 24"),
        (bytes(4) + bytes(20) + b"\xff" * 4, "no entry"),
        (file("/x").encode() + bytes(4) + bytes(20) + bytes(4), "template name of 0 bytes"),
        (file("/x").encode()[:-1] + b"\0\0", "truncated"),
        (bytes(4) + bytes(20) + b"\3\0\0\0ima" + bytes(20) + b"\0\1\0\0" + b"x" * 256, "256 bytes"),
        (bytes(4) + bytes(20) + b"\3\0\0\0ima" + bytes(24), "0 bytes"),
    ],
)
def test_malformed_lists(data: bytes, message: str) -> None:
    """Every length is bounded before it is believed."""
    with pytest.raises(MalformedError, match=message):
        attest_list(IMAState.START, data, {SHA256: b"\1" * 32})


def test_a_field_length_that_overflows() -> None:
    """E10: a data length of four gigabytes ends beyond the list."""
    whole = file("/x").encode()
    data = whole[:34] + b"\xff" * 4 + whole[38:]
    for prefix in (b"", file("/y").encode()):
        with pytest.raises(MalformedError, match="ends beyond the list"):
            attest_list(IMAState.START, prefix + data, {SHA256: b"\1" * 32})


def test_an_unknown_template() -> None:
    """E10: what no kernel defines is a typed error."""
    data = Entry("ima-new", ima_ng(b"/x", bytes(32))).encode()
    for prefix in (b"", file("/y").encode()):
        with pytest.raises(UnknownTemplateError, match="ima-new") as caught:
            attest_list(IMAState.START, prefix + data, {SHA256: b"\1" * 32})
        assert caught.value.template == b"ima-new"


def test_limits(kernel: Kernel) -> None:
    """A list of too many bytes or entries is refused, whichever of them are attested."""
    data, pcr = kernel.list(), kernel.pcr()
    assert attest_list(IMAState.START, data, pcr, limits=IMALimits(len(data), 8)).ahead == 0
    with pytest.raises(MalformedError, match="bytes"):
        attest_list(IMAState.START, data, pcr, limits=IMALimits(max_bytes=len(data) - 1))
    for after in (1, 8):
        with pytest.raises(MalformedError, match="entries"):
            attest_list(IMAState.START, data, kernel.pcr(after), limits=IMALimits(max_entries=7))


def test_no_bank() -> None:
    """Nothing is attested by no bank."""
    with pytest.raises(ValueError, match="at least one bank"):
        attest_list(IMAState.START, b"", {})


def test_a_whole_list_without_a_quote(kernel: Kernel) -> None:
    """``replay_list`` leads to where the kernel's PCR stands."""
    state = replay_list(kernel.list(), kernel.banks)
    assert (state.pcrs, state.entries) == (kernel.pcr(), 8)
    old = Kernel((SHA256,), padded=True, entries=kernel.entries)
    padded = replay_list(old.list(), (SHA256,), template_hash=TemplateHash.SHA1_PADDED)
    assert padded.pcrs == old.pcr()


def test_a_long_list_takes_bounded_memory() -> None:
    """100,000 entries are replayed and read one by one in less than a megabyte beyond the list."""
    count = 100_000
    entry = ima_sig(ima_ng(b"/usr/lib/x86_64-linux-gnu/libc.so.6", bytes(range(32))), b"")
    data = Entry("ima-sig", entry).encode() * count
    value = bytes(32)
    template_hash = SHA256.digest(entry)
    for _ in range(count):
        value = hashlib.sha256(value + template_hash).digest()
    tracemalloc.start()
    try:
        attested = attest_list(IMAState.START, data, {SHA256: value})
        seen = sum(1 for each in attested.entries() if each.measurement().digest is not None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == attested.state.entries == count
    assert peak < 1_000_000
