"""The Workload API's server: leases, proofs and events for the processes of this node.

docs/workload-api.md has the wire, ``bootlease.localapi`` its messages, ``bootlease.workload`` the
client.
"""

from bootlease.node.workloads.rules import Rule, Rules
from bootlease.node.workloads.server import ServerSettings, WorkloadServer

__all__ = ["Rule", "Rules", "ServerSettings", "WorkloadServer"]
