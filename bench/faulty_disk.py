"""A disk that fails on command under a verifier, or forgets what was not synchronised.

The work is done by ``faulty_disk.c``, compiled here and preloaded into the verifier's process. It
sees the calls that SQLite makes, so the faults are the kernel's, not a fake's. Killing a process
loses nothing that it wrote; only ``cut_power`` tells whether it synchronised before it answered.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_FAIL_SYNC = 1
_FAIL_WRITE = 2
_SKIP_SYNC = 4
_PRETEND_SYNC = 8
_SOURCE = Path(__file__).with_suffix(".c")
_STATE = struct.Struct("<II")
_INDEX = "-shm"


@dataclass(frozen=True, slots=True)
class FaultyDisk:
    """The faults of one verifier's database.

    Attributes:
        environment: What its process needs in its environment.
        database: The verifier's database.
        shadow: Folder with what is durable, or None where that is not kept track of.
    """

    environment: dict[str, str]
    database: Path
    shadow: Path | None
    _control: mmap.mmap = field(repr=False)

    @classmethod
    def build(cls, folder: Path, *, with_shadow: bool = False) -> FaultyDisk:
        """Compile it for the verifier whose folder is, or will be, ``folder / "verifier"``.

        Raises:
            RuntimeError: There is no C compiler, or it fails.
        """
        folder = folder.resolve()
        library, control = folder / "faulty_disk.so", folder / "faulty_disk.control"
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise RuntimeError("the faulty disk needs a C compiler: gcc or cc")
        command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(_SOURCE)]
        command.append("-ldl")
        made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the system's compiler
        if made.returncode:
            raise RuntimeError(f"the faulty disk does not compile: {made.stderr}")
        control.write_bytes(bytes(mmap.PAGESIZE))
        database = folder / "verifier" / "verifier.db"
        environment = {
            "LD_PRELOAD": str(library),
            "FAULTY_DISK_CONTROL": str(control),
            "FAULTY_DISK_FILES": str(database),
        }
        shadow = folder / "durable" if with_shadow else None
        if shadow is not None:
            shadow.mkdir()
            environment["FAULTY_DISK_SHADOW"] = str(shadow)
        descriptor = os.open(control, os.O_RDWR | os.O_CLOEXEC)
        try:
            shared = mmap.mmap(descriptor, mmap.PAGESIZE)
        finally:
            os.close(descriptor)
        return cls(environment, database, shadow, shared)

    def heal(self) -> None:
        """Be a good disk."""
        self._set(0)

    def fail_syncs(self) -> None:
        """Fail fsync with EIO."""
        self._set(_FAIL_SYNC)

    def fill_up(self) -> None:
        """Fail writes with ENOSPC."""
        self._set(_FAIL_WRITE)

    def skip_syncs(self) -> None:
        """Answer fsync at once, as if nothing could ever be lost."""
        self._set(_SKIP_SYNC)

    def pretend_syncs(self) -> None:
        """Answer fsync at once and lose at the next power cut what was not written before."""
        self._set(_PRETEND_SYNC)

    @property
    def failures(self) -> int:
        """Calls that were failed so far."""
        return int(_STATE.unpack_from(self._control)[1])

    def plug_in(self) -> None:
        """Take what was written as durable; while the verifier does not run.

        Raises:
            RuntimeError: It was built without a shadow.
        """
        shadow = self._kept()
        for old in shadow.iterdir():
            old.unlink()
        for file in self._files():
            shutil.copyfile(file, shadow / file.name)

    def cut_power(self) -> None:
        """Leave what was synchronised and nothing else; after the verifier was killed.

        Raises:
            RuntimeError: It was built without a shadow.
        """
        shadow = self._kept()
        for file in self._files():
            durable = shadow / file.name
            if durable.exists():
                shutil.copyfile(durable, file)
            else:
                file.unlink()
        # SQLite's index of the log lives in memory; it is made again.
        (self.database.parent / f"{self.database.name}{_INDEX}").unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        files = self.database.parent.glob(f"{self.database.name}*")
        return sorted(file for file in files if not file.name.endswith(_INDEX))

    def _kept(self) -> Path:
        if self.shadow is None:
            raise RuntimeError("this disk was built without a shadow")
        return self.shadow

    def _set(self, mode: int) -> None:
        self._control[:4] = struct.pack("<I", mode)
