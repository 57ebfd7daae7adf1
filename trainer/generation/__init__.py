"""The text-generation task: conversations in, a fine-tuned decoder and its adapter out.

`rows` reads, `template` turns rows into tokens and says which of them carry loss, `gate` looks for faults,
`packing` and `fit` train an adapter, `evaluate` proves it, `decoder` loads and writes model folders.
"""
