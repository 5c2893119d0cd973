"""docs/breaks.md: one section for each way of measuring, each written by what measures it.

What a person has to say of the figures stands at a section's end, under ``### Remarks``: that stays
when the section is written anew.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "breaks.md"

_HEAD: Final = """\
# How authorization breaks, and how soon it ends

Every way that is known, brought about for real, and measured: until relying parties refuse, and
until the processes that worked under the lease are gone.
"""


_REMARKS: Final = "\n### Remarks\n"


def write_section(page: Path, title: str, text: str) -> None:
    """Put a section in the place of the one with its title, or at the end; keep its remarks.

    Args:
        page: The page; it is begun where there is none.
        title: Title of the section.
        text: What stands under it.
    """
    old = page.read_text() if page.exists() else _HEAD
    section = f"\n## {title}\n\n{text.strip()}\n"
    found = re.search(rf"\n## {re.escape(title)}\n.*?(?=\n## |\Z)", old, re.DOTALL)
    if found is None:
        page.write_text(old.rstrip("\n") + "\n" + section)
        return
    _, heading, remarks = found[0].partition(_REMARKS)
    page.write_text(old[: found.start()] + section + heading + remarks + old[found.end() :])


def missed(times: Mapping[str, int], runs: int) -> str:
    """Return the sentence that says which rows did not hold, and how often.

    Args:
        times: How often each row did not.
        runs: How often each was tried.
    """
    rows = ", ".join(f"{name} ({count})" for name, count in times.items() if count)
    if not rows:
        return "Every row held in every run."
    return f"Rows that did not hold, and in how many of {runs} runs: {rows}."


def measured_on(runs: str, again: str) -> str:
    """Return the line that says when and where a section was measured."""
    return (
        f"Measured on {dt.datetime.now(dt.UTC).date()}, {runs}, {os.cpu_count()} cores, Python"
        f" {platform.python_version()}, Linux {platform.release().partition('-')[0]};"
        f" {again} measures again."
    )
