"""Say what became of the mutants, and compare those that survived with those that are accepted.

``accepted.toml`` names every mutant that no test notices and that is harmless, with the reason. One
that is not in it makes the run fail: it is a check that no test holds. An entry whose mutant does
not exist any more does so too, for what it excused may stand elsewhere now.

    python -m tests.mutation.report MUTANTS RESULTS [--out PAGE] [--part]
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutation.mutant import NOT_TRIED, Mutant, read_mutants, was_noticed

ACCEPTED: Final = Path(__file__).with_name("accepted.toml")
Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A mutant that may survive.

    Attributes:
        reason: One of the groups of ``accepted.toml``.
        why: What makes it harmless here, where the group does not say it all.
    """

    reason: str
    why: str


@dataclass(slots=True)
class Module:
    """What became of the mutants of one module."""

    made: int = 0
    words: int = 0
    same: int = 0
    noticed: int = 0
    survived: int = 0


def key_of(mutant: Mutant) -> Key:
    """Return what names a mutant from one version of the code to the next."""
    return mutant.module, mutant.function, mutant.before, mutant.after


def accepted() -> tuple[dict[str, str], dict[Key, Accepted]]:
    """Read the reasons, and what each of them excuses."""
    data = tomllib.loads(ACCEPTED.read_text())
    found: dict[Key, Accepted] = {}
    for each in data["accepted"]:
        module, _, function = each["in"].partition(":")
        key = f"bootlease.{module}", function, each["was"].strip("\n"), each["is"].strip("\n")
        if each["reason"] not in data["reasons"]:
            raise SystemExit(f"mutants: no reason {each['reason']!r} in {ACCEPTED.name}")
        if key in found:
            raise SystemExit(f"mutants: accepted twice: {key}")
        found[key] = Accepted(each["reason"], each.get("why", ""))
    return data["reasons"], found


def main() -> int:
    """Report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mutants", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, help="write the page")
    parser.add_argument("--date", default="")
    parser.add_argument("--part", action="store_true", help="not all modules were tried")
    options = parser.parse_args()
    made = read_mutants(options.mutants)
    results: dict[str, str] = json.loads(options.results.read_text())
    reasons, excused = accepted()

    modules: dict[str, Module] = defaultdict(Module)
    survivors: list[Mutant] = []
    for mutant in made:
        counts = modules[mutant.module.removeprefix("bootlease.")]
        counts.made += 1
        if mutant.same:
            counts.same += 1
        elif mutant.words:
            counts.words += 1
        elif was_noticed(results[mutant.name]):
            counts.noticed += 1
        else:
            counts.survived += 1
            survivors.append(mutant)

    new = [
        each for each in survivors if key_of(each) not in excused or results[each.name] == NOT_TRIED
    ]
    for each in new:
        sys.stdout.write(_shown(each, results[each.name]))
    gone = [] if options.part else sorted(excused.keys() - {key_of(each) for each in made})
    for module, function, before, _ in gone:
        sys.stdout.write(f"\naccepted, but not a mutant any more: {module}:{function}: {before}\n")
    total = _sum(modules.values())
    sys.stdout.write(
        f"\n{total.made} mutants: {total.noticed} noticed; {total.words} of words alone and"
        f" {total.same} that mean the same were not tried; {total.survived} survived, of which"
        f" {total.survived - len(new)} are accepted\n"
    )
    if options.out and not new and not gone:
        kept = [(each, excused[key_of(each)]) for each in survivors]
        options.out.write_text(_page(options.date, modules, reasons, kept))
    return 1 if new or gone else 0


def _shown(mutant: Mutant, result: str) -> str:
    before = "".join(f"- {line}\n" for line in mutant.before.splitlines())
    after = "".join(f"+ {line}\n" for line in mutant.after.splitlines())
    failed = f" ({NOT_TRIED})" if result == NOT_TRIED else ""
    return f"\n{mutant.module}:{mutant.function}{failed}\n{before}{after}"


def _sum(modules: Iterable[Module]) -> Module:
    total = Module()
    for each in modules:
        total.made += each.made
        total.words += each.words
        total.same += each.same
        total.noticed += each.noticed
        total.survived += each.survived
    return total


def _row(name: str, counts: Module) -> str:
    tried = counts.noticed + counts.survived
    part = f"{counts.noticed / tried:.1%}" if tried else "-"
    return (
        f"| {name} | {counts.made} | {counts.words} | {counts.same} | {tried} |"
        f" {counts.noticed} | {counts.survived} | {part} |\n"
    )


def _page(
    date: str,
    modules: Mapping[str, Module],
    reasons: Mapping[str, str],
    kept: list[tuple[Mutant, Accepted]],
) -> str:
    total = _sum(modules.values())
    text = _HEAD.format(date=date, total=total, tried=total.noticed + total.survived)
    text += "".join(_row(f"`{name}`", counts) for name, counts in sorted(modules.items()))
    text += _row("**all**", total)
    text += _SURVIVORS
    by_reason = Counter(each.reason for _, each in kept)
    for reason, count in by_reason.most_common():
        title, _, rest = reasons[reason].partition(": ")
        text += f"\n### {title[0].upper()}{title[1:]} ({count})\n\n{rest.strip()}\n\n"
        groups: dict[tuple[str, str], int] = Counter()
        for mutant, each in kept:
            if each.reason == reason:
                name = f"{mutant.module.removeprefix('bootlease.')}:{mutant.function}"
                groups[name, each.why] += 1
        for (name, why), number in sorted(groups.items()):
            times = f" ({number})" if number > 1 else ""
            text += f"- `{name}`{times}{': ' + why if why else ''}\n"
    return text


_HEAD: Final = """\
# Is every check held by a test?

Every small change of the code that decides whether a token counts, made one at a time, and the
question whether a test fails. Modules: `token/` (delegation is there), `lineage/`,
`relyingparty/`. As of {date}; `make mutants` tries everything anew and writes this page. The
changes that no test notices stand in
[`tests/mutation/accepted.toml`](../tests/mutation/accepted.toml), each with the reason why it is
harmless, and `make mutants` fails where there is another.

**{tried} changes were tried. {total.noticed} made a test fail, {total.survived} did not**; these
are explained below.

## What is changed, and how it is tried

The changes are those of [mutmut](https://mutmut.readthedocs.io) (another number, text, operator,
argument, branch of a conditional expression, `None` for a value), and four that take a whole check
away: the condition of an `if` never holds; a call made for its effect is not made; the filter of a
comprehension lets everything pass; one side of an `and` or `or` alone decides. Functions under a
decorator are changed too, such as cached parsers.

The tests are collected once. A process is forked for each change, swaps the changed function in,
and runs those unit tests of the three parts that reach the changed statement, those of its own
module first, until one fails. A change with which a test does not come to its end counts as
noticed.

Not tried: what only changes the words of a message (errors, findings; the ids of findings are
tried), what means the same in Python by its form (`.get(x, None)`), and what stands outside of
functions: tables and constants, annotations, decorators. Integration tests do not count here.

| module | changes | words | same | tried | noticed | not | |
|---|---|---|---|---|---|---|---|
"""

_SURVIVORS: Final = """
## What no test notices, and why it is harmless

Each line names a function and, in brackets, how many of its changes are meant; the changes
themselves stand in `accepted.toml`.
"""


if __name__ == "__main__":
    sys.exit(main())
