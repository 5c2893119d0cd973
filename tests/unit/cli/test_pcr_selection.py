"""How PCRs are written on the command line."""

from __future__ import annotations

import pytest

from bootlease.cli import quote_options
from bootlease.cli.node import collect
from bootlease.cli.pcr_selection import PCRList, Selection, parse_pcrs, parse_selection
from bootlease.model import HashAlg


@pytest.mark.parametrize(
    ("text", "pcrs"),
    [
        ("0", (0,)),
        ("0-9,14", (*range(10), 14)),
        ("14,0-1,1", (0, 1, 14)),
        ("23-23", (23,)),
    ],
)
def test_pcrs_are_indices_and_ranges(text: str, pcrs: tuple[int, ...]) -> None:
    """Each PCR once, ascending."""
    assert parse_pcrs(text) == pcrs
    assert parse_selection(f"sha256:{text}") == {HashAlg.SHA256: pcrs}
    assert PCRList().convert(text, None, None) == pcrs


@pytest.mark.parametrize(
    "text", ["", ",", "0,", "24", "00", "-1", "1-", "-", "3-2", "0-24", "1-2-3", "a", "²", "100"]
)
def test_other_spellings_are_refused(text: str) -> None:
    """An index has one spelling, a range two ends in order."""
    with pytest.raises(ValueError, match=r"PCR|empty"):
        parse_pcrs(text)


@pytest.mark.parametrize("text", ["sha256", "md5:0", "sha256:0+sha256:1", "sha256:0+", ":0"])
def test_banks_are_named_once(text: str) -> None:
    """A bank is known, has PCRs, and is given once."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_selection(text)


def test_every_command_reads_them_alike() -> None:
    """Quote and node take one syntax: there is one reader."""
    types = {parameter.name: parameter.type for parameter in collect.params}
    assert isinstance(types["selection"], Selection)
    required = quote_options.RequiredPCRs().convert("sha1:0+sha256:0-7,14", None, None)
    assert required == {
        HashAlg.SHA1: frozenset({0}),
        HashAlg.SHA256: frozenset({*range(8), 14}),
    }
