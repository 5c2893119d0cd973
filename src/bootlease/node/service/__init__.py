"""The agent as a service: one process that keeps every lease of a node. docs/agent.md is its page.

- ``config`` is what it is told, ``survey`` whether this machine fits that;
- ``daemon`` runs until it is told to stop: it puts together the agent, the Workload API
  (``workloads``), ``keeping`` (the leases that the configuration itself asks for) and what follows;
- ``metrics`` is what it counts, ``openmetrics`` how that is written, ``metricserver`` who may ask;
- ``notify`` is how it speaks with the service manager that started it.
"""
