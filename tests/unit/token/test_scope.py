"""Scope names: what is one, and when a granted one covers what is asked."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.token.scope import (
    MAX_NAME,
    MAX_NAMES,
    any_covers,
    check,
    covers,
    is_scope_name,
    parse,
    uncovered,
)

WORDS = st.text("ab.", min_size=1, max_size=2)
PLAIN = st.lists(WORDS, min_size=1, max_size=4).flatmap(
    lambda words: st.sampled_from(":/").map(lambda between: between.join(words))
)
NAMES = st.one_of(PLAIN, PLAIN.map("{}:*".format), PLAIN.map("{}/*".format))


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "tool:search",
        "repo:acme/*",
        "tool:*",
        "https://*",
        "A-Z.a_z~0/9:@+-",
        "a" * MAX_NAME,
        "a" * (MAX_NAME - 2) + "/*",
    ],
)
def test_scope_name_of_the_right_form(name: str) -> None:
    """Letters, digits and some punctuation, and a branch's star at the end."""
    assert is_scope_name(name)
    check((name,))


@pytest.mark.parametrize(
    "name",
    [
        *("", "*", ":*", "/*", "repo*", "re*po", "*:read", "a:*:b", "repo:*:*", "a:**", "a/*/"),
        *("a b", "a\n", "a\x00", 'a"', "a\\", "a,b", "é", "\uff41", "\u0661", "\ud800"),
        *("a" * (MAX_NAME + 1), "a" * (MAX_NAME - 1) + "/*"),
    ],
    ids=ascii,
)
def test_scope_name_of_another_form(name: str) -> None:
    """No star elsewhere, none that stands for everything, nothing but plain ASCII, not too long."""
    assert not is_scope_name(name)
    with pytest.raises(ValueError, match="is not a scope name"):
        check((name,))


@pytest.mark.parametrize("name", [None, 7, b"a", ["a"], ("a",)], ids=repr)
def test_what_is_not_text_is_no_scope_name(name: object) -> None:
    """Whatever a decoder hands over is judged, and none of it is stumbled upon."""
    assert not is_scope_name(name)
    with pytest.raises(ValueError, match="not text"):
        check((name,))  # type: ignore[arg-type]  # what an attacker sends


def test_number_of_names_is_bounded_and_each_is_named_once() -> None:
    """1 to 32, all different, in a tuple."""
    names = tuple(f"a{number}" for number in range(MAX_NAMES + 1))
    check(names[:-1])
    with pytest.raises(ValueError, match="1 to 32"):
        check(names)
    with pytest.raises(ValueError, match="1 to 32"):
        check(())
    with pytest.raises(ValueError, match="1 to 32"):
        check(["a"])  # type: ignore[arg-type]  # what an attacker sends
    with pytest.raises(ValueError, match="repeats"):
        check(("a", "b", "a"))


def test_longest_claim_is_read_and_a_longer_one_is_not() -> None:
    """The text's bound is that of its names, so no valid scope is cut off."""
    names = tuple(f"{number:0{MAX_NAME}}" for number in range(MAX_NAMES))
    text = " ".join(names)
    assert parse(text) == names
    check(parse(text))
    for other in (text + "0", None, 7, b"a"):
        with pytest.raises(ValueError, match="not text of at most"):
            parse(other)


@pytest.mark.parametrize("text", ["", " ", "a  b", " a", "a ", "a\tb", "a\nb"])
def test_claim_with_other_white_space_is_refused(text: str) -> None:
    """One space between two names is the only form."""
    with pytest.raises(ValueError, match="is not a scope name"):
        check(parse(text))


@pytest.mark.parametrize(
    ("granted", "requested", "expected"),
    [
        ("tool:search", "tool:search", True),
        ("tool:search", "tool:searches", False),
        ("tool:search", "tool:sear", False),
        ("tool:search", "tool:*", False),
        ("tool:search", "TOOL:search", False),
        ("repo:acme/*", "repo:acme/x", True),
        ("repo:acme/*", "repo:acme/x/y", True),
        ("repo:acme/*", "repo:acme/*", True),
        ("repo:acme/*", "repo:acme/x/*", True),
        ("repo:acme/*", "repo:acme/x:*", True),
        ("repo:acme/*", "repo:acme", False),
        ("repo:acme/*", "repo:acme/", False),
        ("repo:acme/*", "repo:acmex/y", False),
        ("repo:acme/*", "repo:acme:x", False),
        ("repo:acme/*", "repo:acme:*", False),
        ("repo:acme/*", "repo:*", False),
        ("repo:acme/x", "repo:acme/*", False),
        ("tool:*", "tool:search", True),
        ("tool:*", "tool:search:all", True),
        ("tool:*", "tool:", False),
        ("tool:*", "tool", False),
        ("tool:*", "toolsmith:search", False),
    ],
)
def test_coverage(granted: str, requested: str, *, expected: bool) -> None:
    """A name covers itself; a branch covers what goes on below it."""
    assert covers(granted, requested) is expected
    assert any_covers((granted,), requested) is expected
    assert uncovered((granted,), (requested,)) == (() if expected else (requested,))


@pytest.mark.parametrize("granted", ["*", "tool*", "*:search", "tool:*:search"])
def test_star_elsewhere_covers_nothing(granted: str) -> None:
    """A name that must never have been granted opens nothing either."""
    assert not covers(granted, "tool:search")


def test_coverage_is_inclusion() -> None:
    """Over all short names: covered is exactly what stands for no name that the grant does not."""
    universe = frozenset(
        "".join(letters)
        for length in range(1, 6)
        for letters in itertools.product("a:/", repeat=length)
    )
    stands_for = {name: frozenset({name}) for name in universe if len(name) <= 3}
    for stem in [name for name in stands_for if len(name) > 1 and name[-1] in ":/"]:
        branch = frozenset(name for name in universe if name != stem and name.startswith(stem))
        stands_for[f"{stem}*"] = branch
    assert all(map(is_scope_name, stands_for))
    for granted, requested in itertools.product(stands_for, repeat=2):
        assert covers(granted, requested) is (stands_for[requested] <= stands_for[granted])


@given(NAMES, NAMES, NAMES)
def test_coverage_is_an_order(first: str, second: str, third: str) -> None:
    """Reflexive, transitive, antisymmetric: nothing is gained by asking in steps."""
    assert all(map(is_scope_name, (first, second, third)))
    assert covers(first, first)
    if covers(first, second) and covers(second, third):
        assert covers(first, third)
    if covers(first, second) and covers(second, first):
        assert first == second


@given(PLAIN, st.sampled_from(":/"), NAMES, NAMES)
def test_coverage_goes_down_every_level(stem: str, between: str, below: str, other: str) -> None:
    """A branch covers whatever is put below it, through the levels between, and no less."""
    branch, middle = f"{stem}{between}*", f"{stem}{between}{other.removesuffix('*')}/*"
    lowest = f"{middle[:-1]}{below}"
    assert covers(branch, middle)
    assert covers(middle, lowest)
    assert covers(branch, lowest)
    assert not covers(lowest, branch)
    assert not covers(branch, stem)


def test_any_granted_name_is_enough() -> None:
    """One of several names covers; none covers nothing."""
    assert any_covers(("a", "tool:*"), "tool:search")
    assert any_covers(iter(("a", "tool:*")), "tool:search")
    assert not any_covers((), "tool:search")


@pytest.mark.parametrize(
    "requested", ["repo:acme/a b", "repo:acme/\n", "repo:acme/*/x", "repo:acme/" + "a" * MAX_NAME]
)
def test_what_is_not_a_scope_name_is_never_covered(requested: str) -> None:
    """A branch does not stand for text that no token can carry."""
    assert not any_covers(("repo:acme/*",), requested)
    assert uncovered(("repo:acme/*",), (requested,)) == (requested,)


def test_what_nothing_covers_is_named() -> None:
    """Each requested name is judged alone, against all that is granted."""
    granted = iter(("tool:search", "repo:acme/*"))
    asked = ("repo:acme/x", "tool:delete", "tool:search", "repo:*")
    assert uncovered(granted, asked) == ("tool:delete", "repo:*")
