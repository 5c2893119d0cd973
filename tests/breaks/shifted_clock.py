"""The clocks of one guard and leash, which a test sets; the machine's own stay as they are."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

_SOURCE: Final = Path(__file__).with_suffix(".c")
_SHIFT: Final = struct.Struct("<qqQ")
_NS: Final = 1_000_000_000


@dataclass
class ShiftedClock:
    """Clocks under a process and those that it starts.

    Attributes:
        environment: What the process needs in its environment.
    """

    environment: dict[str, str]
    _control: mmap.mmap = field(repr=False)
    _generation: int = 0

    @classmethod
    def build(cls, folder: Path) -> Self:
        """Compile it.

        Raises:
            RuntimeError: There is no C compiler, or it fails.
        """
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise RuntimeError("a clock that is moved needs a C compiler: gcc or cc")
        library, control = folder / "clock.so", folder / "clock.control"
        command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library)]
        made = subprocess.run(
            [*command, str(_SOURCE), "-ldl", "-lpthread", "-lrt"],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"the clock does not compile: {made.stderr}")
        control.write_bytes(bytes(mmap.PAGESIZE))
        with control.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        return cls({"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(control)}, mapped)

    def shift(self, *, wall: float = 0.0, boottime: float = 0.0) -> None:
        """Let the clocks differ from the machine's by so many seconds from now on."""
        self._generation += 1
        _SHIFT.pack_into(
            self._control, 0, round(wall * _NS), round(boottime * _NS), self._generation
        )

    def sleep(self, seconds: float) -> None:
        """Let the machine have slept: only CLOCK_MONOTONIC stood still."""
        self.shift(wall=seconds, boottime=seconds)
