"""The leash: a workload runs only while its lease lives.

guard → leash → workload. The guard holds the lease through the agent; the leash is the first
process of a pid namespace around the workload; docs/leash.md says what each level holds against
whom, docs/adr/0015-leash.md why it is built so.

- ``run`` is the whole life of one: ``laying`` makes the leash, ``feed`` has the lease from the
  agent, ``guard`` holds both until the ``ending``, which ``killing`` brings about;
- ``init`` is the leash's own program, by a ``plan`` of the guard's; ``start`` is what happens to
  the workload before its exec, ``barred`` what it may not do after that, ``namespace`` its end;
- ``messages`` is what guard and leash tell each other, ``deadline`` when it is over;
- ``values`` is what is asked for, ``levels`` what is promised, ``outlet`` how it is told;
- ``cgroup``, ``kernel``, ``mounts``, ``priority``, ``sweep`` and ``terminal`` ask the kernel.
"""
