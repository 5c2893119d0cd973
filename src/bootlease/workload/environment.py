"""A workload that ``bootlease run`` started: its lease is held by its guard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Self

from bootlease.localapi import Granted, is_handle, wire
from bootlease.workload.client import WorkloadClient
from bootlease.workload.stream import LeaseStream


class Workload:
    """The lease that this process runs under.

    Args:
        client: The agent.
        handle: The lease's handle.
    """

    def __init__(self, client: WorkloadClient, handle: str) -> None:
        self._client = client
        self._handle = handle

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Find socket and handle in ``BOOTLEASE_WORKLOAD_SOCKET`` and ``BOOTLEASE_LEASE``.

        Raises:
            RuntimeError: This process was not started under a lease.
        """
        found = os.environ if environment is None else environment
        handle = found.get(wire.LEASE_VARIABLE)
        if not is_handle(handle):
            why = "is no handle of a lease" if handle else "is not set"
            raise RuntimeError(f"{wire.LEASE_VARIABLE} {why}: no lease was handed over")
        return cls(WorkloadClient(found.get(wire.SOCKET_VARIABLE)), handle)

    def current(self) -> Granted:
        """Return the lease as it stands; raises as ``WorkloadClient.current``."""
        return self._client.current(self._handle)

    def token(self) -> str:
        """Return the token as text, as it stands; raises as ``WorkloadClient.current``."""
        return self.current().token

    def headers(self, method: str, url: str, *, nonce: str | None = None) -> dict[str, str]:
        """Return the headers that authorize one request; raises as ``WorkloadClient.proof``."""
        return self._client.proof(self._handle, method, url, nonce=nonce)

    def events(self) -> LeaseStream:
        """Watch the lease; raises as ``WorkloadClient.events``."""
        return self._client.events(self._handle)
