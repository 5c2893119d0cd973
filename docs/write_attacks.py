"""Write docs/attacks.md from the attack suite's own markers; ``--check`` only compares.

``--json`` prints what every test of the suite claims to show, and the page, for its own tests.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.attacks.catalogue import SECTIONS, UNSEEN, Row  # noqa: E402  the root has to be found
from tests.attacks.collected import Shown, collect  # noqa: E402

PAGE: Final = Path(__file__).with_name("attacks.md")
HEAD: Final = """\
# Attacks

Written by `make docs` from the suite in `tests/attacks`; do not edit. Each row is an attack on
somebody who verifies quotes, logs, enrolments or tokens. It stands here with the findings that
refuse it, and a test that fails unless each of them was seen and no token came.

*Accepted* names oddities of real machines that look like the attack and must not be refused, with
the notes they leave. `problem:…` is a problem document without findings, malformed input above all;
`tpm:refuses` says that the TPM itself does not do it. Where several findings stand in a row, each
refuses one form of the attack. One of them is enough.

Recorded quotes and logs are judged besides: every quote vector of the corpus by
`tests/conformance/test_quote_vectors.py`, every hostile log by `tests/attacks/attack_logs.py`.

What a TPM cannot show at all is in [the last section](#f-what-a-tpm-cannot-show).
"""
UNSEEN_HEAD: Final = """
## F. What a TPM cannot show

No verifier can refuse these: what reaches it is what an honest machine would send. They are here so
that nobody takes an accepted quote for more than it is.
"""


def main() -> None:
    """Write the page, compare it, or print the claims."""
    shown, unmarked = collect()
    if sys.argv[1:] == ["--json"]:
        claims = [dataclasses.asdict(each) for each in shown]
        told = {"shown": claims, "unmarked": list(unmarked), "page": page(shown)}
        print(json.dumps(told))  # noqa: T201  asked for
        return
    text = page(shown)
    if sys.argv[1:] == ["--check"]:
        if not PAGE.is_file() or PAGE.read_text() != text:
            raise SystemExit("docs/attacks.md is not what the suite says: run `make docs`")
        return
    PAGE.write_text(text)


def page(shown: Sequence[Shown]) -> str:
    """Return the page."""
    return HEAD + "".join(_sections(shown)) + UNSEEN_HEAD + "".join(_unseen())


def _sections(shown: Sequence[Shown]) -> Iterator[str]:
    for section in SECTIONS:
        yield f"\n## {section.letter}. {section.title}\n\n"
        yield "| Row | Attack | Refused by | Accepted |\n| --- | --- | --- | --- |\n"
        of_section = [each for each in shown if each.row in {row.number for row in section.rows}]
        for row in section.rows:
            yield _line(row, [each for each in of_section if each.row == row.number])
        modules = sorted({each.module for each in of_section})
        yield f"\nTests: {', '.join(f'`tests/attacks/{name}`' for name in modules)}\n"


def _line(row: Row, shown: Sequence[Shown]) -> str:
    refused = _listed(each for each in shown if not each.benign)
    accepted = ""
    if any(each.benign for each in shown):
        notes = _listed(each for each in shown if each.benign)
        accepted = f"yes: {notes}" if notes else "yes"
    return f"| {row.number} | {row.title} | {refused or '—'} | {accepted} |\n"


def _listed(shown: Iterator[Shown]) -> str:
    names = dict.fromkeys(name for each in shown for name in each.findings)
    return "<br>".join(f"`{name}`" for name in names)


def _unseen() -> Iterator[str]:
    for each in UNSEEN:
        yield f"\n### {each.number}. {each.title}\n\n"
        yield f"**What shows.** {each.shows}\n\n**What to do.** {each.remedy}\n"


if __name__ == "__main__":
    main()
