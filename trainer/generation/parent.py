"""What the parent answers to rows that are new in the hold-out of its child, asked as the child is.

What clients got from it will not do for a comparison: it was drawn by chance, cut at a client's limit, held
to a schema, or kept with passages redacted. Its answers to its own hold-out were sealed with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.artifact import TOKENIZER
from trainer.decoder.graph import DecoderGraph
from trainer.decoder.sealed import TEMPLATE, TOKENIZER_CONFIG, DecoderVersion
from trainer.generation.answers import Said
from trainer.generation.decoder import load_template
from trainer.generation.report import answers_of
from trainer.generation.rows import Sample
from trainer.progress import Report


def parents_answers(
    parent: DecoderVersion, rows: Sequence[Sample], *, tokens: int, threads: int, scratch: Path, say: Report
) -> list[Said]:
    """The likeliest answer to each row, at most `tokens` long, by the parent's own graph and tokenizer.

    Its tokenizer is written into the folder `scratch`, from the bytes that were verified.
    """
    scratch.mkdir()
    for name in parent.files.keys() & {TOKENIZER, TOKENIZER_CONFIG, TEMPLATE}:
        (scratch / name).write_bytes(parent.files[name])
    template = load_template(scratch, converses=False)
    graph = DecoderGraph(parent.path, parent.files, threads=threads)
    return answers_of(graph, template, rows, tokens, say, "the parent's answers to recent rows")
