"""What the guard tells the leash on its command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bootlease.leash import plan
from bootlease.leash.plan import Hold, Plan
from bootlease.leash.priority import Priority
from bootlease.leash.start import Privileges, Start


def test_plan_is_read_as_it_was_written() -> None:
    """Every field survives, and the command with whatever is in it."""
    command = ["prog", "", "--", "-x", "mit Leerzeichen", "ünïcode"]
    how = Start(command, 7, Privileges.NONE, Priority(os.SCHED_BATCH, -5), keeps_session=True)
    written = Plan(Hold.CONTAINER, 5, 99, 7, how, host_root=True)
    read = Plan.read(written.arguments())
    assert (read.hold, read.socket, read.guard, read.terminal) == (Hold.CONTAINER, 5, 99, 7)
    assert read.host_root
    assert (read.start.command, read.start.terminal) == (command, 7)
    assert read.start.keeps_session
    assert read.start.privileges is Privileges.NONE
    assert (read.start.caller.policy, read.start.caller.nice) == (os.SCHED_BATCH, -5)


def test_leash_carries_little() -> None:
    """The leash's interpreter has no dataclasses, no typing, no json, no click with it."""
    program = (
        "import sys; sys.path.append(sys.argv[1]); import bootlease.leash.init\n"
        "print(*{'click', 'cryptography', 'dataclasses', 'inspect', 'json', 'pathlib', 're',"
        " 'socket', 'typing'} & set(sys.modules))"
    )
    source = Path(plan.__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(source)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.split() == []
