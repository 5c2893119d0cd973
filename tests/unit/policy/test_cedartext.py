"""The text of Cedar policies is bounded before Cedar's own parser descends into it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bootlease.errors import MalformedError
from bootlease.policy.cedar import read_cedar
from bootlease.policy.cedartext import (
    MAX_CEDAR,
    MAX_NESTING,
    MAX_OPERATORS,
    MAX_POLICIES,
    permitting,
    split_policies,
)

HEAD = "permit (principal, action, resource)"


def when(condition: str) -> str:
    """Return a policy with a condition."""
    return f"{HEAD} when {{ {condition} }};"


def test_policies_are_split_where_they_end() -> None:
    """Neither in a string nor in a comment."""
    second = when('"}; //" == "x"')
    text = f'// one; two\n@id("a;b")\n{HEAD};\n\n{second} // end; of it'
    assert [each.line for each in split_policies(text)] == [2, 5]
    assert [each.text.strip()[-1] for each in split_policies(text)] == [";", ";"]
    assert len(split_policies(f"{HEAD};\n{HEAD}")) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" " * (MAX_CEDAR + 1), "characters"),
        (f"{HEAD};" * (MAX_POLICIES + 1), "policies"),
        (when("(" * MAX_NESTING + "true" + ")" * MAX_NESTING), "levels"),
        (when(" && ".join(["true"] * (MAX_OPERATORS + 2))), "operators"),
        (when('principal.labels.contains("x)'), "string has no end"),
        (f"\n{HEAD} when {{ (true }};", "line 2: a bracket is still open"),
        (f"\n{HEAD}) when {{ true }};", "line 2: a bracket is closed"),
    ],
)
def test_each_bound_refuses_alone(text: str, said: str) -> None:
    """And says what is too much, and where."""
    with pytest.raises(MalformedError, match=said):
        split_policies(text)


def test_operators_are_counted_for_each_policy() -> None:
    """Many short policies are no long one."""
    assert len(split_policies(when("1 < 2 && 2 < 3") * 200)) == 200


@pytest.mark.parametrize(
    "condition",
    [
        "(" * (MAX_NESTING - 1) + "true" + ")" * (MAX_NESTING - 1),
        " && ".join(["true"] * MAX_OPERATORS),
        "+".join(["1"] * (MAX_OPERATORS - 1)) + " == 3",
        "if true then " * 40 + "true" + " else false" * 40,
    ],
)
def test_what_the_bounds_let_through_is_read_in_a_thread(condition: str) -> None:
    """The engine has no bound of its own: beyond these, its descent could end the process."""
    program = (
        "import sys, threading\n"
        "from bootlease.policy.cedar import read_cedar\n"
        "threading.stack_size(1024 * 1024)\n"
        "thread = threading.Thread(target=read_cedar, args=(sys.argv[1],))\n"
        "thread.start(); thread.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, when(condition)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_brackets_after_each_other_are_levels_too() -> None:
    """An attribute's name in brackets nests without being within: enough end the process."""
    assert read_cedar(when('principal["vector"] == principal["vector"]')).rules
    with pytest.raises(MalformedError, match="operators"):
        read_cedar(when("principal" + '["a"]' * (MAX_OPERATORS + 1) + " == 1"))


@pytest.mark.parametrize("nested", ["(" * 5000 + ")" * 5000, "[" * 5000 + "]" * 5000, "{a:" * 5000])
def test_a_text_that_would_end_the_process_is_malformed(nested: str) -> None:
    """A proof file from anybody may hold a policy."""
    with pytest.raises(MalformedError, match="levels"):
        read_cedar(when(nested))


@pytest.mark.parametrize(
    ("text", "whole", "headless"),
    [
        (
            'forbid(principal, action, resource in Scope::"a:*") when { true };',
            'permit(principal, action, resource in Scope::"a:*") when { true };',
            "permit(principal, action, resource) when { true };",
        ),
        (
            (
                '@id("forbid") @forbid("(,)") @ permit("x") permit (principal == Node::"n"'
                ' // , x) forbid (\n , action in [Action::"a,", Action::"b"], resource is'
                " Scope) unless { f(1, 2) };"
            ),
            (
                'permit (principal == Node::"n" // , x) forbid (\n , action in [Action::"a,",'
                ' Action::"b"], resource is Scope) unless { f(1, 2) };'
            ),
            (
                'permit (principal == Node::"n" // , x) forbid (\n , action in [Action::"a,",'
                ' Action::"b"], resource) unless { f(1, 2) };'
            ),
        ),
        (
            "// forbid (a)\nforbid\n(principal\n,action,\nresource)\n;",
            "permit\n(principal\n,action,\nresource)\n;",
            "permit\n(principal\n,action, resource)\n;",
        ),
    ],
)
def test_a_policy_is_cut_where_its_head_ends(text: str, whole: str, headless: str) -> None:
    """Whatever stands in its annotations, comments and strings."""
    (statement,) = split_policies(text)
    assert permitting(statement, any_scope=False) == whole
    assert permitting(statement, any_scope=True) == headless


def test_what_has_no_head_cannot_be_cut() -> None:
    """Cedar's parser refuses it before; so does this."""
    with pytest.raises(MalformedError, match="line 1: a policy without a head"):
        permitting(split_policies('@id("x") permits (a, b, c);')[0], any_scope=True)
