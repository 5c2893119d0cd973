"""A workload for demonstrations: calls a tool every 100 ms, with proofs from the agent of its node.

Run under ``bootlease run``, which gives it a lease; it keeps no token and no key. It also starts a
daemon, which would outlive it if nothing held the tree together. Run it as
``python -m bootlease.testing.leashed_caller URL``.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from typing import Final, NoReturn
from urllib.parse import urlsplit

from bootlease.errors import BootleaseError
from bootlease.workload import Workload

PERIOD: Final = 0.1
_PATIENCE: Final = 10.0


def main(url: str) -> NoReturn:
    """Call until ended; say on stdout how each call was answered."""
    workload = Workload.from_environment()
    _start_daemon()
    calls = 0
    while True:
        began = time.monotonic()
        calls += 1
        _say(f"call {calls}: {_call(workload, url)}")
        time.sleep(max(0.0, began + PERIOD - time.monotonic()))


def _call(workload: Workload, url: str) -> str:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_PATIENCE)
    try:
        connection.request("GET", parts.path, headers=workload.headers("GET", url))
        answer = connection.getresponse()
        members = json.loads(answer.read())
        return f"{answer.status} {members.get('result') or members.get('detail')}"
    except (BootleaseError, OSError, http.client.HTTPException, ValueError) as exc:
        return f"no answer: {exc}"
    finally:
        connection.close()


def _start_daemon() -> None:
    """Leave a process behind that has no parent, no session and no terminal of ours."""
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    while True:
        time.sleep(_PATIENCE)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
