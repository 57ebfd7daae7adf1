"""The token-classification task: texts with marked passages in, a sealed version that marks them out.

`rows` reads, `tags` turns passages into tags of tokens and back, `faults` looks at the data, `tagger` fits a
head on the states of tokens and puts it into the encoder's graph, `evaluate` counts passages that were found,
`report` examines, `version` is the whole way.
"""

TASK = "token-classification"
