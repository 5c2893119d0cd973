"""The Workload API's server: leases, proofs and events for the processes of this node.

docs/workload-api.md has the wire, ``bootlease.localapi`` its messages, ``bootlease.workload`` the
client. What a request goes through, in order; ``server`` leads through all of it, in a thread of
its own:

- ``binding`` is the socket, ``peers`` (``statx``) who connects, ``admission`` whether he gets in;
- ``http`` is one connection, ``routes`` what may be asked for, ``rules`` by whom;
- ``leases`` holds what is open and tells who has it open what the agent brings; ``wishing`` makes
  of it the agent's wishes, ``proofs`` signs for who has been granted it.

``limits`` and ``ratelimit`` bound each of them, ``problems`` is every way to say no, ``journal``
what the log is told.
"""

from bootlease.node.workloads.rules import Rule, Rules
from bootlease.node.workloads.server import ServerSettings, WorkloadServer

__all__ = ["Rule", "Rules", "ServerSettings", "WorkloadServer"]
