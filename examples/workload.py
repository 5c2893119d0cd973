"""A workload that calls a tool for as long as its lease stands.

Under a guard, which holds the lease and ends the program with it:

    bootlease run --scope tool:search --audience https://tools.example \
        -- python examples/workload.py https://tools.example/search?q=tpm

By itself it asks the node's agent for a lease, and stops calling when that ends:

    python examples/workload.py --scope tool:search --audience https://tools.example \
        https://tools.example/search?q=tpm

Token and key stay with the agent, which makes the headers of each request.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Generator
from typing import Protocol
from urllib.parse import urlsplit

import httpx2

from bootlease.errors import BootleaseError
from bootlease.workload import Workload, WorkloadClient


class MakesHeaders(Protocol):
    """A lease that headers can be made with."""

    def headers(self, method: str, url: str) -> dict[str, str]:
        """Return the headers that present it in one request."""


class WorkloadAuth(httpx2.Auth):
    """Presents a lease to one relying party, and to nobody else."""

    def __init__(self, lease: MakesHeaders, url: str) -> None:
        self._lease = lease
        self._origin = urlsplit(url)[:2]

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Attach token and proof; a redirect that leads elsewhere gets neither."""
        url = str(request.url)
        if urlsplit(url)[:2] == self._origin:
            request.headers.update(self._lease.headers(request.method, url))
        yield request


def call(lease: MakesHeaders, url: str, times: int, pause: float) -> int:
    """Call the tool again and again; return 1 where the last call was refused."""
    with httpx2.Client(auth=WorkloadAuth(lease, url), timeout=10) as client:
        for number in range(times):
            time.sleep(pause if number else 0)
            answer = client.get(url)
            print(answer.status_code, answer.text.strip(), flush=True)
            if answer.status_code != httpx2.codes.OK:
                return 1
    return 0


def main() -> None:
    """Call under the guard's lease, or under one of our own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scope", action="append", help="repeatable; without it, a guard's lease")
    parser.add_argument("--audience", help="with --scope")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two calls")
    parser.add_argument("url")
    options = parser.parse_args()
    try:
        if not options.scope:
            guarded = Workload.from_environment()
            sys.exit(call(guarded, options.url, options.times, options.pause))
        client = WorkloadClient()
        # The lease is held for as long as the stream is open.
        with client.lease(options.scope, options.audience or "") as stream:
            stream.granted(timeout=30)
            own = Workload(client, stream.handle)
            sys.exit(call(own, options.url, options.times, options.pause))
    except (BootleaseError, httpx2.TransportError, ValueError, RuntimeError) as exc:
        sys.exit(f"no answer: {exc}")


if __name__ == "__main__":
    main()
