"""Break everything many times, and write down how long it went on (``make breaks``).

Run as ``python -m tests.breaks.soak --runs 20 [--only node] [--out docs/breaks.md]``. Exits with 1
where a row took longer than it may, or ended for another reason than it must.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.breaks_page import write_section
from tests.breaks import node_table, verifier_table
from tests.breaks.node_table import NodeTable
from tests.breaks.verifier_table import VerifierTable


def main() -> int:
    """Run, print and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.breaks.soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--only", choices=("verifier", "node"), help="one of the tables")
    parser.add_argument("--clock", action="store_true", help="move the machine's own clock, too")
    parser.add_argument("--out", type=Path, help="page to write")
    options = parser.parse_args()
    tables: list[tuple[str, VerifierTable | NodeTable]] = [
        (verifier_table.TITLE, VerifierTable()),
        (node_table.TITLE, NodeTable(real_clock=options.clock)),
    ]
    if options.only:
        tables = [tables[options.only == "node"]]
    for title, table in tables:
        for run in range(options.runs):
            table.run()
            sys.stderr.write(f"{title}: run {run + 1} of {options.runs}\n")
            # After each, so that what was measured stays where somebody has no time for the rest.
            if options.out is not None:
                write_section(options.out, title, table.text())
        if options.out is None:
            sys.stdout.write(f"## {title}\n\n{table.text()}\n")
    return 1 if any(table.wrong for _, table in tables) else 0


if __name__ == "__main__":
    sys.exit(main())
