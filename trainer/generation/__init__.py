"""The text-generation task: conversations in, a sealed language model out.

`rows` reads, `stored` and `transcript` keep them as texts and labels, `template` turns them into tokens and
says which carry loss, `gate` looks for faults, `packing` and `fit` train an adapter, `report` examines what
was exported, `decoder` loads and writes model folders, `version` is the whole way.
"""
