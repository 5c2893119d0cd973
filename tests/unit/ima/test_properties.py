"""Whatever the bytes: a list, a refusal or MalformedError, never any other error."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from bootlease.errors import MalformedError, VerificationError
from bootlease.ima import (
    AttestedList,
    FileSigner,
    FileSigners,
    IMAState,
    Measurement,
    attest_list,
    display_name,
    measured_key,
    parse_file_signature,
    parse_list,
    replay_list,
    verify_signature,
)
from bootlease.ima.entry import parse_template_data
from bootlease.ima.modsig import parse_modsig
from bootlease.model import HashAlg
from bootlease.testing.ima_templates import (
    Entry,
    Kernel,
    evm_sig,
    ima_buf,
    ima_modsig,
    ima_ng,
    ima_ngv2,
    ima_sig,
)

DIGEST = bytes(range(32))
SIGNATURE = b"\3\2\4\xaa\xbb\xcc\xdd\0\1s"
ENTRIES = (
    Entry("ima-ng", ima_ng(b"boot_aggregate", DIGEST)),
    Entry("ima-sig", ima_sig(ima_ng(b"/bin/a b", DIGEST), SIGNATURE)),
    Entry("ima-sigv2", ima_sig(ima_ngv2(b"/v", DIGEST, kind="verity"), b"\6" + SIGNATURE[1:])),
    Entry("ima-ng", ima_ng(b"/var/x", bytes(20)), violation=True),
    Entry("ima-buf", ima_buf(b".ima", b"key")),
    Entry("ima-modsig", ima_modsig(b"/m.ko", DIGEST, DIGEST, b"0\x03\x02\x01\x01")),
    Entry("evm-sig", evm_sig(b"/e", DIGEST, b"\5" + SIGNATURE[1:], {b"a": b"x"}, (1, 2, 3))),
    Entry("ima", DIGEST[:20] + b"/bin/old"),
    Entry("n-ng|d-ng", ima_ng(b"/x", DIGEST)[44:] + ima_ng(b"/x", DIGEST)[:44]),
)
NOBODY = FileSigners([])
BANKS = (HashAlg.SHA1, HashAlg.SHA256)
entries = st.lists(st.sampled_from(ENTRIES), max_size=8)


def exercise(data: bytes) -> None:
    """Run everything that reads a list."""
    try:
        state = replay_list(data, BANKS)
    except (MalformedError, VerificationError):
        pass
    else:
        attested = attest(data, state)
        if attested is not None:
            assert attested.state == state
            assert len(list(attested.entries())) == state.entries
    try:
        for entry in parse_list(data):
            read(entry.template, entry.data)
            assert display_name(entry.data).isprintable()
            measured_key(entry, entry.measurement())
    except MalformedError:
        return


def attest(data: bytes, state: IMAState) -> AttestedList | None:
    """Attest a list by the values that it leads to; only its own SHA-1s may refuse that."""
    if not state.entries:
        return None
    try:
        return attest_list(IMAState.START, data, state.pcrs)
    except VerificationError:
        return None


def read(template: bytes, data: bytes) -> Measurement | None:
    """Read template data, and every signature in it."""
    try:
        measured = parse_template_data(template, data)
    except MalformedError:
        return None
    with pytest.raises(VerificationError):
        verify_signature(measured, NOBODY)
    return measured


@hypothesis.given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    """Random bytes are a list or malformed."""
    exercise(data)


@hypothesis.given(st.binary(max_size=200), st.sampled_from([*b"\0\3\6\7"]), st.data())
def test_random_bytes_after_a_head(data: bytes, size: int, draw: st.DataObject) -> None:
    """Random bytes where template data would be."""
    template = draw.draw(st.sampled_from(ENTRIES)).template
    whole = Entry(template, data).encode()
    exercise(whole)
    exercise(whole + bytes([size]) + data)


@hypothesis.given(entries, st.data())
def test_mutated_lists(made: list[Entry], draw: st.DataObject) -> None:
    """A list with some bytes replaced, taken out or put in."""
    data = bytearray(Kernel(entries=made).list())
    for _ in range(draw.draw(st.integers(0, 4))):
        at = draw.draw(st.integers(0, len(data)))
        cut = draw.draw(st.integers(0, 4))
        data[at : at + cut] = draw.draw(st.binary(max_size=4))
    exercise(bytes(data))


@hypothesis.given(entries, st.integers(0, 8), st.sampled_from([*HashAlg][:4]))
def test_what_was_encoded_comes_back(made: list[Entry], after: int, alg: HashAlg) -> None:
    """Any list, of any bank, quoted after any entry."""
    kernel = Kernel((HashAlg.SHA256, alg), entries=made)
    after = min(after, len(made))
    hypothesis.assume(after)
    usual = [entry for entry in made if not entry.violation]
    hypothesis.assume(usual)
    attested = attest_list(IMAState.START, kernel.list(alg), kernel.pcr(after))
    assert (attested.state.entries, attested.ahead) == (after, len(made) - after)
    found = [(entry.template.decode(), entry.data) for entry in attested.entries()]
    assert found == [(entry.template, entry.hashed) for entry in made[:after]]


GENERAL = {
    "ima-ng": b"d-ng|n-ng",
    "ima-sig": b"d-ng|n-ng|sig",
    "ima-ngv2": b"d-ngv2|n-ng",
    "ima-sigv2": b"d-ngv2|n-ng|sig",
}
"""Built-in templates that are read in a quick way, under a name that is read in the general one."""


@hypothesis.given(
    template=st.sampled_from(sorted(GENERAL)),
    entry=st.sampled_from(ENTRIES),
    draw=st.data(),
    mutated=st.booleans(),
)
def test_the_quick_way_is_the_general_one(
    template: str, entry: Entry, draw: st.DataObject, *, mutated: bool
) -> None:
    """Both say the same of the same data, or both that it is malformed."""
    data = bytearray(entry.data)
    if mutated:
        at = draw.draw(st.integers(0, len(data)))
        data[at : at + draw.draw(st.integers(0, 3))] = draw.draw(st.binary(max_size=3))
    quick = read(template.encode(), bytes(data))
    assert quick == read(GENERAL[template], bytes(data))


@hypothesis.given(st.binary(max_size=120))
def test_signatures(data: bytes) -> None:
    """Bytes are a signature or malformed."""
    for whole in (data, SIGNATURE[:7] + data, b"\x30\x80" + data):
        for parse in (parse_file_signature, parse_modsig):
            try:
                parse(whole)
            except MalformedError:
                continue


@hypothesis.given(st.binary(max_size=120))
def test_keys(data: bytes) -> None:
    """Bytes are a key, a certificate, or malformed."""
    for make in (FileSigner.of_key, FileSigner.of_certificate):
        try:
            make("name", data)
        except MalformedError:
            continue


@hypothesis.given(st.binary(max_size=30), st.binary(max_size=30))
def test_names_for_people_are_as_different_as_names(one: bytes, other: bytes) -> None:
    """Two names that differ never look the same, and neither leaves its line."""
    assert (display_name(one) == display_name(other)) == (one == other)
    assert display_name(one).isprintable()
