"""Frozen dataclasses with a quick ``__init__`` are frozen dataclasses."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from dataclasses import dataclass, field

import pytest

from bootlease.frozen import quick_init


@dataclass(frozen=True, slots=True)
class Plain:
    """What ``dataclasses`` makes."""

    first: int
    second: str = "two"
    third: bytes = field(default=b"3", kw_only=True)
    memo: bytes | None = field(init=False, default=None, repr=False, compare=False)
    sum: int = field(init=False)

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError("negative")
        object.__setattr__(self, "sum", self.first + 1)


@quick_init
@dataclass(frozen=True, slots=True)
class Quick:
    """The same, made quickly."""

    first: int
    second: str = "two"
    third: bytes = field(default=b"3", kw_only=True)
    memo: bytes | None = field(init=False, default=None, repr=False, compare=False)
    sum: int = field(init=False)

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError("negative")
        object.__setattr__(self, "sum", self.first + 1)


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Child(Quick):
    """One that inherits, and takes its own field by name."""

    fourth: int


def test_a_quick_value_is_the_value() -> None:
    """Fields, defaults, what is derived, representation and signature are the dataclass's."""
    quick, plain = Quick(1, third=b"x"), Plain(1, third=b"x")
    assert type(quick) is Quick
    assert dataclasses.astuple(quick) == dataclasses.astuple(plain)
    assert repr(quick) == repr(plain).replace("Plain", "Quick")
    assert quick.memo is None
    assert inspect.signature(Quick) == inspect.signature(Plain)
    assert Child(1, fourth=4).sum == 2


def test_a_quick_value_is_frozen() -> None:
    """Nothing of it can be set or deleted, and nothing can be added."""
    quick = Quick(1)
    for name in ("first", "other", "__class__"):
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
            setattr(quick, name, 2)
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        del quick.first
    assert not hasattr(quick, "__dict__")


def test_quick_values_compare_and_copy() -> None:
    """Equality, hash, replacing and copying work on the frozen class."""
    quick = Quick(1)
    assert quick == Quick(1) != Quick(2)
    assert hash(quick) == hash(Quick(1))
    other = dataclasses.replace(quick, first=4)
    assert (other.sum, type(other)) == (5, Quick)
    assert copy.deepcopy(quick) == quick


def test_what_a_value_refuses_it_still_refuses() -> None:
    """Wrong arguments and values outside the model fail as before."""
    with pytest.raises(ValueError, match="negative"):
        Quick(-1)
    with pytest.raises(TypeError, match="first"):
        Quick()  # type: ignore[call-arg]  # what is tested
    with pytest.raises(TypeError):
        Quick(1, "two", b"3")  # type: ignore[call-arg]  # what is tested


def test_classes_that_cannot_be_quick_are_refused() -> None:
    """A class without slots, with a default factory, or that is no dataclass is our mistake."""

    @dataclass(frozen=True)
    class Loose:
        first: int

    @dataclass(frozen=True, slots=True)
    class Made:
        first: list[int] = field(default_factory=list)

    for kind in (Loose, Made, int):
        with pytest.raises(TypeError):
            quick_init(kind)
