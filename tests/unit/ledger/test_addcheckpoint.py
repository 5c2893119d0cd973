"""Requests to a witness, its answers, and proofs as lines."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.ledger.addcheckpoint import (
    MAX_REQUEST,
    AddCheckpoint,
    encode_proof,
    parse_add_checkpoint,
    parse_proof,
    parse_size_answer,
)

# C2SP tlog-witness, "Example request body", with its consistency proof and checkpoint.
EXAMPLE = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\N{EM DASH} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurm\
RDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
""".encode()

HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=63).map(tuple)


def test_the_specifications_example_is_read_and_written() -> None:
    """Old size, four hashes, and the checkpoint as it came."""
    request = parse_add_checkpoint(EXAMPLE)
    assert request.old == 20852014
    assert len(request.proof) == 4
    assert request.proof[0].hex().startswith("3e544d0abc07")
    assert request.checkpoint.startswith(b"example.com/behind-the-sofa\n20852163\n")
    assert request.encode() == EXAMPLE


@given(st.integers(0, 2**63 - 1), HASHES, st.binary(max_size=200))
def test_what_is_written_is_read(old: int, proof: tuple[bytes, ...], checkpoint: bytes) -> None:
    """Whatever the checkpoint is: it is not looked at here."""
    request = AddCheckpoint(old, proof, checkpoint)
    assert parse_add_checkpoint(request.encode()) == request


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Never another error than MalformedError; what is read is written the same way."""
    with contextlib.suppress(MalformedError):
        assert parse_add_checkpoint(data).encode() == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"old 0\n",
        b"old 0\nnote",
        b"old\n\nnote",
        b"new 0\n\nnote",
        b"old 01\n\nnote",
        b"old -1\n\nnote",
        b"old 9223372036854775808\n\nnote",
        b"old \xb2\n\nnote",
        b"old 1\n" + b"A" * 43 + b"\n\nnote",
        b"old 1\n" + b"A" * 42 + b"B=\n\nnote",
        b"old 1\n" + (b"A" * 43 + b"=\n") * 64 + b"\nnote",
        b"old 1\r\n\r\nnote",
        b"old 1\n\n" + bytes(MAX_REQUEST),
    ],
)
def test_each_fault_of_a_request_is_refused(data: bytes) -> None:
    """A missing part, another spelling, a number or a proof that is too long."""
    with pytest.raises(MalformedError):
        parse_add_checkpoint(data)


def test_sizes_in_conflicts() -> None:
    """A decimal number and a newline, nothing else."""
    assert parse_size_answer(b"20852014\n") == 20852014
    for data in (b"", b"\n", b"12", b"012\n", b"12 \n", b"1\n2\n", b"9" * 40 + b"\n"):
        with pytest.raises(MalformedError):
            parse_size_answer(data)


@given(HASHES)
def test_proofs_as_lines(path: tuple[bytes, ...]) -> None:
    """What is written is read; the empty proof is no bytes."""
    assert parse_proof(encode_proof(path)) == path


@pytest.mark.parametrize("data", [b"\n", b"A", (b"A" * 43 + b"=\n") * 64, b"A" * 43 + b"="])
def test_lines_that_are_no_proof(data: bytes) -> None:
    """Every line is one hash and has its newline; there are 63 at most."""
    with pytest.raises(MalformedError):
        parse_proof(data)
