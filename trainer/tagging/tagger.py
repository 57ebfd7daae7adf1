"""A logistic head on the frozen states of tokens, and the encoder's graph with such a head.

The states of a text go through the encoder once: the head is fitted on them, and the hold-out judged by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from trainer.artifact import Parity
from trainer.encoder import Tick, load_encoder
from trainer.errors import ParityError
from trainer.fit import use_threads
from trainer.graph import Graph
from trainer.head import Head, fit_head
from trainer.parity import probes
from trainer.spec import GateTable
from trainer.splice import EMBEDDING, put_token_head, states_of
from trainer.tagging.entities import entities
from trainer.tagging.tags import OUTSIDE, Tokens, tag_names, tags_of, tokens_of
from trainer.tokens import by_length, padded

Array = np.ndarray[Any, np.dtype[Any]]
ROWS = 16
MOST_TOKENS = 200_000  # that a head is fitted on: of those outside of entities a part then stands for all


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """What the frozen encoder says of texts: per text the states [tagged tokens, hidden], float16, and unit
    embeddings [texts, hidden]."""

    tokens: list[Tokens]
    states: list[Array]
    embeddings: Array


class Encoder:
    """The encoder of a graph, whatever its head, and the tokenizer that cuts for it."""

    def __init__(self, content: bytes, tokenizer: Tokenizer, *, threads: int) -> None:
        self._graph, self._name = _with_states(content, threads)
        self._tokenizer = tokenizer
        self._known: dict[str, tuple[Tokens, Array, Array]] = {}

    def states(self, texts: Sequence[str], *, tick: Tick = lambda _, __: None) -> States:
        """States of texts, at least one; what was computed before is not computed again."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._compute(missing, tick)
        found = [self._known[text] for text in texts]
        return States(
            tokens=[tokens for tokens, _, _ in found],
            states=[states for _, states, _ in found],
            embeddings=np.stack([embedding for _, _, embedding in found]),
        )

    def _compute(self, texts: Sequence[str], tick: Tick) -> None:
        tokens = tokens_of(self._tokenizer, texts)
        done = 0
        for batch in by_length([len(one.ids) for one in tokens], ROWS):
            states, embeddings = self._graph.values(
                [tokens[row].ids for row in batch], [self._name, EMBEDDING]
            )
            for place, row in enumerate(batch):
                own = states[place, tokens[row].tagged].astype(np.float16)
                self._known[texts[row]] = (tokens[row], own, embeddings[place])
            done += len(batch)
            tick(done, len(texts))


def fit_tagger(found: States, labels: Sequence[str], classes: Sequence[str], weights: Array) -> Head:
    """A head over the tags of `classes`, from texts, their canonical labels and the weights [texts].

    The penalty was chosen for embeddings of unit length. For states, which are 6 to 9 long, it is too little,
    and at unit length too much where few tokens are learnt; so they are divided by the root of their mean
    length. F1 of entities, of states as they are, by the root, at unit length: SNIPS 67.9, 70.2, 70.6 %,
    WNUT-17 29.7, 30.5, 33.0 % (3,000 texts learnt, 600 answered), a toy of 600 texts 85.7, 85.7, 46.1 %.
    """
    tags = [truth_of(tokens, label, classes) for tokens, label in zip(found.tokens, labels, strict=True)]
    truth = np.concatenate(tags)
    each = np.repeat(weights, [len(one) for one in tags]).astype(np.float32)
    chosen, stand_for = _thinned(truth)
    rows = np.concatenate(found.states)[chosen].astype(np.float32)
    scale = np.float32(np.linalg.norm(rows, axis=1).mean() ** 0.5)
    head = fit_head(
        rows / scale,
        truth[chosen],
        classes=len(tag_names(classes)),
        weights=each[chosen] * stand_for[chosen],
    )
    return Head(weight=head.weight / scale, bias=head.bias)


def truth_of(tokens: Tokens, label: str, classes: Sequence[str]) -> Array:
    """Tag numbers of the tagged tokens of a text with a canonical label."""
    places = [tokens.places[number] for number in tokens.tagged]
    return tags_of(places, entities(label), classes)[0]


def tagged_graph(content: bytes, head: Head) -> bytes:
    """A graph of `trainer.export` whose logits are those of its tokens: [rows, tokens, tags]."""
    import onnx

    model = onnx.load_model_from_string(content)
    put_token_head(model.graph, head)
    made: bytes = model.SerializeToString()
    return made


def prove(
    graph: Graph,
    head: Head,
    encoder: Any,
    ids: Sequence[list[int]],
    gate: GateTable,
    *,
    max_tokens: int,
    earlier: Parity,
) -> Parity:
    """The exported graph against torch's `encoder`, token by token; ParityError beyond the gate.

    The figure is the larger one of this and of `earlier`, which was proven when the encoder was exported.
    """
    chosen = probes(ids, max_tokens=max_tokens)
    worst, agreed, tokens = earlier.max_abs, 0, 0
    for batch in [chosen[:1], *(chosen[start : start + ROWS] for start in range(1, len(chosen), ROWS))]:
        theirs = graph.run(batch)[0]
        ours = _torch_logits(encoder, head, batch)
        for row, one in enumerate(batch):
            mine, exported = ours[row, : len(one)], theirs[row, : len(one)]
            worst = float(np.maximum(worst, np.abs(mine - exported).max()))  # hands NaN on
            agreed += int((mine.argmax(axis=1) == exported.argmax(axis=1)).sum())
            tokens += len(one)
    agreement = agreed / tokens
    if not (worst <= gate.parity_max_abs and agreement >= gate.label_agreement):  # NaN must not pass
        raise ParityError(worst, gate.parity_max_abs, agreement, gate.label_agreement)
    return Parity(max_abs=worst, label_agreement=agreement, rows=len(chosen))


def _torch_logits(encoder: Any, head: Head, batch: Sequence[list[int]]) -> Array:
    import torch

    tokens, mask = map(torch.from_numpy, padded(batch))
    with torch.inference_mode():
        hidden = encoder(input_ids=tokens, attention_mask=mask).last_hidden_state.numpy()
    return head.logits(hidden)


def _thinned(truth: Array) -> tuple[Array, Array]:
    """(numbers of the tokens to fit on, how many tokens each stands for)."""
    stand_for = np.ones(len(truth), dtype=np.float32)
    outside = np.flatnonzero(truth == OUTSIDE)
    room = max(MOST_TOKENS - (len(truth) - len(outside)), 1)
    if len(outside) <= room:
        return np.arange(len(truth)), stand_for
    kept = np.sort(np.random.default_rng(0).permutation(outside)[:room])
    stand_for[kept] = len(outside) / room
    return np.sort(np.concatenate([np.flatnonzero(truth != OUTSIDE), kept])), stand_for


def _with_states(content: bytes, threads: int) -> tuple[Graph, str]:
    """A session of the graph with the states of its tokens among its outputs, and their name."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_model_from_string(content)
    name = states_of(model.graph)
    shape = ["batch", "tokens", None]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return Graph(model.SerializeToString(), threads=threads), name


def torch_encoder(base: Path, threads: int) -> Any:
    """The base model itself, to prove its graph by."""
    use_threads(threads)
    return load_encoder(base)
