"""For workloads: leases, tokens and proofs from the agent of this node.

Speaks the Workload API (docs/workload-api.md) over a Unix socket, with nothing but the standard
library for its transport. Nothing is kept on disk.
"""

from bootlease.workload.client import WorkloadClient, new_handle
from bootlease.workload.connection import AgentGoneError
from bootlease.workload.environment import Workload
from bootlease.workload.stream import LeaseStream

__all__ = ["AgentGoneError", "LeaseStream", "Workload", "WorkloadClient", "new_handle"]
