"""Describe the machine that the figures below it were measured on."""

from __future__ import annotations

import datetime as dt
import os
import platform
from pathlib import Path

import cryptography
from cryptography.hazmat.backends.openssl.backend import backend


def cpu_model() -> str:
    """Return the processor's name as the kernel gives it, or its architecture."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def main() -> None:
    """Print one line per fact."""
    usable = len(os.sched_getaffinity(0))
    print(f"date      {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC")
    print(f"processor {cpu_model()}, {usable} of {os.cpu_count()} cores usable")
    print(f"load      {os.getloadavg()[0]:.2f} before the run; figures count on an idle machine")
    print(f"system    {platform.system()} {platform.release()}")
    print(f"python    {platform.python_implementation()} {platform.python_version()}")
    print(f"crypto    cryptography {cryptography.__version__}, {backend.openssl_version_text()}")


if __name__ == "__main__":
    main()
