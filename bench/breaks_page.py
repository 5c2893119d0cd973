"""docs/breaks.md: one section for each way of measuring, each written by what measures it."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "breaks.md"

_HEAD: Final = """\
# How authorization breaks, and how soon it ends

Every way that is known, brought about for real, and measured: until relying parties refuse, and
until the processes that worked under the lease are gone.
"""


def write_section(page: Path, title: str, text: str) -> None:
    """Put a section in the place of the one with its title, or at the end.

    Args:
        page: The page; it is begun where there is none.
        title: Title of the section.
        text: What stands under it.
    """
    old = page.read_text() if page.exists() else _HEAD
    section = f"\n## {title}\n\n{text.strip()}\n"
    found = re.compile(rf"\n## {re.escape(title)}\n.*?(?=\n## |\Z)", re.DOTALL)
    replaced, count = found.subn(lambda _: section, old)
    page.write_text(replaced if count else old.rstrip("\n") + "\n" + section)


def measured_on(runs: str, again: str) -> str:
    """Return the line that says when and where a section was measured."""
    return (
        f"Measured on {dt.datetime.now(dt.UTC).date()}, {runs}, {os.cpu_count()} cores, Python"
        f" {platform.python_version()}, Linux {platform.release().partition('-')[0]};"
        f" {again} measures again."
    )
