"""A node's IMA list: read after the quote, from where its verifier stands, and again if asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bootlease.errors import TransportError, VerificationError
from bootlease.evidence import parse_evidence
from bootlease.ima import IMA_PCR
from bootlease.model import HashAlg
from bootlease.node.collect import IMA_LIST, collect
from bootlease.node.ima import IMAListFile
from bootlease.ports import QuotedState
from bootlease.testing.ima_list import SimulatedIMA
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.simulated_node import SimulatedNode

from .conftest import Rig


@pytest.fixture
def listed(local_ca: LocalCA) -> SimulatedIMA:
    """A list of three entries."""
    ima = SimulatedNode(local_ca).start_ima()
    ima.measure("/usr/bin/bash", b"bash")
    ima.measure("/usr/bin/cat", b"cat")
    return ima


@pytest.fixture
def looking(rig: Rig) -> Rig:
    """A node whose kernel measures, and a verifier that looks at it."""
    rig.ima = rig.node.start_ima()
    rig.verifier.looks_at_ima = True
    rig.verifier.pcrs = {HashAlg.SHA256: (0, 4, 7, IMA_PCR)}
    return rig


def test_a_list_is_read_from_any_entry_on(tmp_path: Path, listed: SimulatedIMA) -> None:
    """Forwards, backwards and again, the entries asked for are those that follow."""
    path = tmp_path / "list"
    path.write_bytes(listed.data)
    source = IMAListFile(path)
    for entries in (0, 2, 2, 3, 1, 3, 0):
        assert source.since(entries) == listed.since(entries)
    listed.measure("/usr/bin/id", b"id")
    path.write_bytes(listed.data)
    assert source.since(3) == listed.since(3)


def test_a_renewal_reads_what_is_new(tmp_path: Path, listed: SimulatedIMA) -> None:
    """What stands before is not even looked at again."""
    path = tmp_path / "list"
    path.write_bytes(listed.data)
    source = IMAListFile(path)
    source.since(2)
    path.write_bytes(bytes(len(listed.data) - len(listed.since(2))) + listed.since(2))
    assert source.since(2) == listed.since(2)
    assert source.since(3) == b""


def test_a_kernel_without_ima_has_no_list(tmp_path: Path) -> None:
    """That is no error: the verifier says whether it matters."""
    assert IMAListFile(tmp_path / "none").since(0) is None


def test_a_file_that_is_no_list_is_told(tmp_path: Path) -> None:
    """Nothing of it is sent."""
    path = tmp_path / "list"
    path.write_bytes(b"noise" * 20)
    with pytest.raises(TransportError, match=r"IMA list .* is none"):
        IMAListFile(path).since(1)


def test_a_list_that_is_shorter_than_before_has_nothing_new(
    tmp_path: Path, listed: SimulatedIMA, local_ca: LocalCA
) -> None:
    """It is that of another boot, and the counters of the TPM say so to whoever asked."""
    path = tmp_path / "list"
    path.write_bytes(listed.data)
    source = IMAListFile(path)
    assert source.since(4) == b""
    source.since(2)
    other = SimulatedNode(local_ca).start_ima()
    path.write_bytes(other.data)
    assert source.since(2) == b""
    assert source.since(0) == other.data
    source.since(1)
    other.measure("/usr/bin/a-longer-path-than-before", b"")
    path.write_bytes(b"\0" + other.data[1:])
    assert source.since(1) == other.since(1)


def test_a_list_that_is_too_long_is_told(
    tmp_path: Path, listed: SimulatedIMA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node does not fill its memory with what no verifier takes."""
    monkeypatch.setattr("bootlease.node.ima.MAX_IMA_LIST", 64)
    path = tmp_path / "list"
    path.write_bytes(listed.data)
    with pytest.raises(TransportError, match="longer than 64 bytes"):
        IMAListFile(path).since(0)


def test_a_lineage_begins_with_the_whole_list_and_goes_on_with_what_is_new(looking: Rig) -> None:
    """Only entries behind those that the verifier has accepted travel again."""
    agent = looking.start()
    agent.renew()
    ima = looking.ima
    assert ima is not None
    first = parse_evidence(looking.verifier.received[-1])
    assert first.logs == {"ima": ima.data, "tcg": looking.node.event_log}
    ima.measure("/usr/bin/bash", b"bash")
    agent.renew()
    second = parse_evidence(looking.verifier.received[-1])
    assert second.logs == {"ima": ima.since(1)}
    assert second.ima is not None
    assert second.ima.first == 1


def test_whoever_begins_again_sends_the_whole_list(looking: Rig) -> None:
    """Whatever the challenge says of a lineage that the agent does not continue."""
    looking.start().renew()
    looking.kept.memory = replace(looking.kept.load(), lineage=None, question=None)
    looking.start().renew()
    ima = looking.ima
    assert ima is not None
    again = parse_evidence(looking.verifier.received[-1])
    assert again.binding.previous is None
    assert again.logs["ima"] == ima.data


def test_the_list_is_read_after_the_quote(looking: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel measures meanwhile is in the list: it is never behind the quote."""
    quote, ima = looking.node.quote, looking.ima
    assert ima is not None

    def slowly(data: bytes, selection: Mapping[HashAlg, Sequence[int]]) -> QuotedState:
        state = quote(data, selection)
        ima.measure("/usr/bin/late", b"late")
        return state

    monkeypatch.setattr(looking.node, "quote", slowly)
    looking.start().renew()
    assert parse_evidence(looking.verifier.received[-1]).logs["ima"] == ima.data
    assert ima.count == 2


def test_a_verifier_that_asks_for_the_whole_list_gets_it_under_the_same_quote(
    looking: Rig,
) -> None:
    """No other challenge is asked for, and the lineage goes on."""
    agent = looking.start()
    agent.renew()
    ima = looking.ima
    assert ima is not None
    looking.verifier.wants_whole_list = True
    ima.measure("/usr/bin/bash", b"bash")
    lease = agent.renew()
    part, whole = map(parse_evidence, looking.verifier.received[-2:])
    assert (part.quote, part.binding) == (whole.quote, whole.binding)
    assert whole.logs == {"ima": ima.data}
    assert whole.ima is not None
    assert whole.ima.first == 0
    assert lease.tokens[0].claims.lineage.seq == 1


def test_a_verifier_that_has_the_whole_list_and_asks_for_it_refuses(looking: Rig) -> None:
    """There is nothing more to send."""
    agent = looking.start()
    looking.verifier.wants_whole_list = True
    with pytest.raises(VerificationError, match="from its first entry"):
        agent.renew()


def test_a_node_without_a_list_attests_all_the_same(looking: Rig) -> None:
    """Its verifier refuses it, on record, with a finding that says why."""
    looking.ima = None
    looking.start().renew()
    assert parse_evidence(looking.verifier.received[-1]).ima is None


def test_what_is_collected_has_the_list(local_ca: LocalCA, listed: SimulatedIMA) -> None:
    """The files of a node say what it loaded, where its kernel does."""
    device, selection = SimulatedNode(local_ca), {HashAlg.SHA256: (0, 10)}
    assert collect(device, b"nonce", selection, None, listed)[IMA_LIST] == listed.data
    assert IMA_LIST not in collect(device, b"nonce", selection, None)
