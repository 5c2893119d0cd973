"""Crash test: does a verifier that is killed under load keep every promise it made?

    python -m bench.crash [--kills 200] [--seed 1] [--json]

It kills the verifier at random points, half of the time with a power cut that loses whatever was
not synchronised, restarts it on the same folder and port, and compares at the end what clients
were told with what is recorded: every token's decision and claims are there, no challenge was used
twice, no lineage forked, no node had to enrol again or begin a new lineage. Exit code 1 if not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from bench.crash.soak import Plan, soak


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.crash",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of chance")
    parser.add_argument("--clients", type=int, default=16, help="at work (%(default)s)")
    parser.add_argument("--folder", type=Path, help="new folder, kept (a temporary one)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    print(f"crash: seed {options.seed}", file=sys.stderr)

    def progress(done: int) -> None:
        if done % 10 == 0 or done == options.kills:
            print(f"crash: {done} of {options.kills} rounds", file=sys.stderr, flush=True)

    plan = Plan(options.kills, seed=options.seed, clients=options.clients)
    if options.folder:
        options.folder.mkdir(mode=0o700)
        verdict = soak(options.folder, plan, progress)
    else:
        with tempfile.TemporaryDirectory() as folder:
            verdict = soak(Path(folder), plan, progress)
    if options.json:
        print(json.dumps({"counts": verdict.counts, "complaints": verdict.complaints}))
    else:
        for name, count in verdict.counts.items():
            print(f"{count:>8} {name}")
        for complaint in verdict.complaints[:100]:
            print(f"WRONG: {complaint}")
        print("all promises kept" if not verdict.complaints else f"{len(verdict.complaints)} wrong")
    return 1 if verdict.complaints else 0


if __name__ == "__main__":
    raise SystemExit(main())
