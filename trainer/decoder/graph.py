"""An exported decoder, run: a prompt in one row, then one token of many rows at a time.

The graph reads and writes keys and values in place (trainer.decoder.keys: GroupQueryAttention with past and
present at one address). A row is filled alone, then decoded beside any others: the operator takes each row's
own length, so rows join and leave between two steps, and none is padded. onnxruntime-genai offers that on
CUDA only, and without the logits that say how sure an answer was; with its Generators, one for each request,
a processor gives a sixth of the tokens (SmolLM2-135M in fp32, tests/benchmarks/decoder.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainer.decoder.keys import Device, FixedKeys, Keys
from trainer.decoder.steps import Steps
from trainer.errors import VersionRefusedError

Array = np.ndarray[Any, np.dtype[Any]]
CONFIG, MODEL, WEIGHTS = "genai_config.json", "model.onnx", "model.onnx.data"
CHUNK = 256  # tokens of a prompt in one run: what others wait between two of their tokens
SCORED = 16  # tokens of a prompt that are looked at, evenly over it: its perplexity must cost nothing


@dataclass(slots=True)
class Spoken:
    """An answer's tokens, and the natural logarithms of the probabilities of them and of the prompt's."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    prompt_logprobs: list[float] = field(default_factory=list)  # see `prompt_logprobs`


class DecoderGraph:
    """A session over the verified bytes of a model folder; not for several threads at once."""

    def __init__(
        self,
        path: Path,
        files: dict[str, bytes],
        *,
        threads: int,
        rows: int = 8,
        device: Device = "cpu",
        fixed: int | None = None,
    ) -> None:
        """`rows` at a time at most, all of `fixed` tokens where CUDA graphs are to be captured.

        Raises VersionRefusedError.
        """
        self._session = _session(files, threads, device)
        config = _config(path, files[CONFIG])
        decoder = config["decoder"]
        self.context = int(config["context_length"])
        ends = config["eos_token_id"]
        self.ends = frozenset(ends if isinstance(ends, list) else [ends])
        self.vocabulary = int(self._session.get_outputs()[0].shape[-1])
        layers, heads = int(decoder["num_hidden_layers"]), int(decoder["num_key_value_heads"])
        half = self._session.get_outputs()[0].type == "tensor(float16)"
        kind: type[np.generic] = np.float16 if half else np.float32
        names = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
        shape = (heads, int(decoder["head_size"]))
        self._steps: Steps | None = None
        self._keys: Keys | FixedKeys
        if fixed is not None:
            room = min(self.context, fixed + 1)
            self._keys = FixedKeys(names, rows, shape, kind, context=room, device=device)
            self._steps = Steps(self._session, self._keys, self.vocabulary, kind, device)
            self.context = room - 1  # the last place is where rows that are left over write
        else:
            self._keys = Keys(names, rows, shape, kind, context=self.context)
        self.rows = self._keys.rows
        self.provider: str = self._session.get_providers()[0]

    def reserve(self, tokens: int) -> None:
        """Make room for rows of so many tokens; what lies in the rows stays."""
        self._keys.reserve(tokens)

    def release(self) -> None:
        """Give the rows' memory back; all of them are forgotten."""
        self._keys.release()

    def fill(self, row: int, ids: Sequence[int], start: int = 0) -> Array:
        """Write tokens `start`… of a row, at most CHUNK of them; logits [tokens, vocabulary], fp32."""
        self.reserve(start + len(ids))
        tokens = np.array([ids], dtype=np.int64)
        mask = np.ones((1, start + len(ids)), dtype=np.int64)
        logits: Array = self._run(tokens, mask, slice(row, row + 1))[0]
        return logits

    def step(self, tokens: Sequence[int], lengths: Sequence[int]) -> Array:
        """One more token of the rows 0…; `lengths` count it. Logits [rows, vocabulary], fp32."""
        if self._steps is not None:
            return self._steps.run(tokens, lengths).astype(np.float32, copy=False)
        counts = np.array(lengths)[:, None]
        mask = (np.arange(max(lengths)) < counts).astype(np.int64)
        ids = np.array(tokens, dtype=np.int64)[:, None]
        logits: Array = self._run(ids, mask, slice(0, len(tokens)))[:, -1]
        return logits

    def move(self, source: int, target: int, length: int) -> None:
        """Let the row `target` become a copy of the first tokens of `source`."""
        self._keys.move(source, target, length)

    def _run(self, ids: Array, mask: Array, rows: slice) -> Array:
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_cpu_input("attention_mask", mask)
        self._keys.bind(binding, rows)
        binding.bind_output("logits", "cpu")
        self._session.run_with_iobinding(binding, _uncaptured())
        found: Array = binding.get_outputs()[-1].numpy()
        return found.astype(np.float32, copy=False)


def greedy(graph: DecoderGraph, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """Up to `tokens` likeliest tokens after every prompt, its end included; `graph.rows` at a time."""
    return [one.ids for one in spoken(graph, prompts, tokens)]


def spoken(graph: DecoderGraph, prompts: Sequence[Sequence[int]], tokens: int) -> list[Spoken]:
    """What `greedy` gives, with the log-probabilities of the tokens."""
    answers: list[Spoken] = []
    for start in range(0, len(prompts), graph.rows):
        answers += _spoken(graph, prompts[start : start + graph.rows], tokens)
    return answers


def _spoken(graph: DecoderGraph, prompts: Sequence[Sequence[int]], tokens: int) -> list[Spoken]:
    graph.reserve(max(map(len, prompts)) + tokens)
    answers = [Spoken() for _ in prompts]
    read = enumerate(zip(answers, prompts, strict=True))
    _say(answers, np.stack([prompt_logits(graph, row, ids, one.prompt_logprobs) for row, (one, ids) in read]))
    lengths = [len(ids) for ids in prompts]
    for _ in range(tokens - 1):
        if all(not graph.ends.isdisjoint(one.ids) for one in answers):
            break
        lengths = [length + 1 for length in lengths]
        _say(answers, graph.step([one.ids[-1] for one in answers], lengths))
    for one in answers:
        _end(one, graph.ends)
    return answers


def _say(answers: Sequence[Spoken], logits: Array) -> None:
    tokens = logits.argmax(axis=1).tolist()
    for one, token, logprob in zip(answers, tokens, logprobs(logits, tokens), strict=True):
        one.ids.append(token)
        one.logprobs.append(logprob)


def prompt_logits(
    graph: DecoderGraph, row: int, ids: Sequence[int], scored: list[float] | None = None
) -> Array:
    """Logits [vocabulary] after a whole prompt; `scored` takes the `prompt_logprobs` of it."""
    for start in range(0, len(ids), CHUNK):
        logits = graph.fill(row, ids[start : start + CHUNK], start)
        if scored is not None:
            scored += prompt_logprobs(logits, ids, start)
    return np.array(logits[-1])


def _end(spoken: Spoken, ends: frozenset[int]) -> None:
    for place, token in enumerate(spoken.ids, 1):
        if token in ends:
            del spoken.ids[place:], spoken.logprobs[place:]
            return


def prompt_logprobs(logits: Array, ids: Sequence[int], start: int) -> list[float]:
    """Log-probabilities of tokens of a prompt, given logits [n, vocabulary] of its tokens `start`….

    Over all parts of the prompt they are SCORED at most, at places that its length alone decides.

    >>> [round(one, 3) for one in prompt_logprobs(np.zeros((3, 4)), [0, 1, 2], 0)]
    [-1.386, -1.386]
    """
    if len(ids) < 2:
        return []
    places = np.unique(np.linspace(1, len(ids) - 1, min(SCORED, len(ids) - 1)).round().astype(np.int64))
    here = places[(places > start) & (places <= start + len(logits))]
    return logprobs(logits[here - 1 - start], [ids[place] for place in here])


def logprobs(logits: Array, tokens: list[int]) -> list[float]:
    """Natural logarithms of the probabilities of one token for each row of logits [rows, vocabulary].

    >>> [round(one, 3) for one in logprobs(np.zeros((1, 4)), [2])]
    [-1.386]
    """
    highest = logits.max(axis=1)
    total = np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    found: list[float] = (logits[np.arange(len(tokens)), tokens] - highest - total).tolist()
    return found


def _config(path: Path, content: bytes) -> dict[str, Any]:
    try:
        model: dict[str, Any] = json.loads(content)["model"]
        for key in ("context_length", "eos_token_id", "decoder"):
            model[key]
        for key in ("num_hidden_layers", "num_key_value_heads", "head_size"):
            model["decoder"][key]
    except (ValueError, KeyError, TypeError) as error:
        raise VersionRefusedError(path, f"{CONFIG} is none of a decoder ({error})") from error
    return model


def _uncaptured() -> Any:
    """Of a run whose shapes change."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "-1")
    return options


def _session(files: dict[str, bytes], threads: int, device: Device) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning starves neighbours
    weights = files.get(WEIGHTS)
    if weights is not None:  # from the bytes that were hashed; a graph that names another file finds none
        options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    cuda = ("CUDAExecutionProvider", {"enable_cuda_graph": "1", "use_tf32": "0"})
    chosen = cuda if device == "cuda" else "CPUExecutionProvider"
    return onnxruntime.InferenceSession(files[MODEL], options, providers=[chosen])
