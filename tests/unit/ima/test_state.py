"""The state that a renewal goes on from."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.ima import IMAState, TemplateHash
from bootlease.model import HashAlg

STATE = IMAState(3, 400, {HashAlg.SHA256: b"\2" * 32, HashAlg.SHA1: b"\1" * 20})


@pytest.mark.parametrize(
    "state",
    [
        IMAState.START,
        STATE,
        IMAState(1, 1, {HashAlg.SHA512: b"\3" * 64}, TemplateHash.SHA1_PADDED),
        IMAState(2**40, 2**50, {bank: bytes(bank.size) for bank in HashAlg}),
    ],
)
def test_round_trip(state: IMAState) -> None:
    """A state comes back from its form, which is small."""
    assert IMAState.parse(state.encode()) == state
    assert hash(IMAState.parse(state.encode())) == hash(state)
    assert len(state.encode()) < 400


def test_the_form_does_not_depend_on_the_order_of_banks() -> None:
    """Two states that are equal have one form."""
    other = IMAState(3, 400, dict(reversed(list(STATE.pcrs.items()))))
    assert other == STATE
    assert other.encode() == STATE.encode()


def test_a_state_cannot_be_changed() -> None:
    """Neither through its mapping nor through the one it was made of."""
    pcrs = {HashAlg.SHA256: bytes(32)}
    state = IMAState(1, 50, pcrs)
    pcrs[HashAlg.SHA256] = b"\1" * 32
    assert state.pcrs[HashAlg.SHA256] == bytes(32)
    with pytest.raises(TypeError):
        state.pcrs[HashAlg.SHA256] = b""  # type: ignore[index]  # what must not work


@pytest.mark.parametrize(
    ("entries", "offset", "pcrs"),
    [(-1, 0, {}), (0, 1, {}), (3, 2, {}), (1, 50, {HashAlg.SHA256: bytes(20)})],
)
def test_impossible_states(entries: int, offset: int, pcrs: dict[HashAlg, bytes]) -> None:
    """No state has fewer bytes than entries, or a value of another size than its bank's."""
    with pytest.raises(ValueError, match=r"bytes|bank"):
        IMAState(entries, offset, pcrs)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [0, 0, 0],
        [0, 0, 0, {}, 0],
        [0, 0, 0, []],
        [True, 1, 0, {}],
        ["0", 0, 0, {}],
        [0, 0, 2, {}],
        [0, 1, 0, {}],
        [1, 50, 0, {99: bytes(32)}],
        [1, 50, 0, {11: bytes(31)}],
        [1, 50, 0, {11: "x"}],
        [1, 50, 0, {"sha256": bytes(32)}],
    ],
)
def test_malformed_states(value: object) -> None:
    """What is no state is malformed."""
    with pytest.raises(MalformedError):
        IMAState.parse(cbor.encode(value))


@hypothesis.given(st.binary(max_size=100))
def test_random_bytes(data: bytes) -> None:
    """Bytes are a state in its one form, or malformed."""
    try:
        state = IMAState.parse(data)
    except MalformedError:
        return
    assert state.encode() == data
