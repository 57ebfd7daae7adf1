"""A trained version as ONNX files: tokens in, logits and embedding out, any batch and any length.

`model.onnx` takes padded rows and runs everywhere. The packed graph takes all texts as one flat axis of
tokens, without any padding, in half precision; only CUDA has its attention.
"""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trainer.attention import register
from trainer.errors import ExportError
from trainer.fit import Fitted
from trainer.forward import packed, packed_example, padded, padded_example
from trainer.half import downstream, halve, upstream
from trainer.qkv import PACKED, fuse_qkv
from trainer.splice import EMBEDDING, LOGITS, put_head

Attention = Literal["fused", "generic"]
OPSET = 20
# torch's exporter does not notice that an output may be called like a value inside ("embedding" is the lookup
# of every nn.Embedding), and writes a graph with a cycle; so outputs get their names afterwards.
RAW_OUTPUTS = {"trueup_embedding": EMBEDDING}


def routes(fitted: Fitted) -> list[Attention]:
    """Ways to export this encoder, the fastest first."""
    return ["fused", "generic"] if _pluggable(fitted.encoder) else ["generic"]


def packable(encoder: Any) -> str | None:
    """Why an encoder has no padding-free graph, None where it has."""
    name = type(encoder).__name__
    if not _pluggable(encoder):
        return f"the attention of {name} cannot be replaced (it is outside transformers' attention interface)"
    if "position_ids" not in inspect.signature(encoder.forward).parameters:
        return f"{name} cannot be told the positions of its tokens"
    return None


def export(fitted: Fitted, path: Path, attention: Attention) -> None:
    """Write the padded graph to `path` as one self-contained file; raises ExportError."""
    encoder = fitted.encoder
    seen: dict[str, Any] = {}
    name = register("mha", seen) if attention == "fused" else encoder.config._attn_implementation
    module = padded(encoder, seen, plain=attention == "generic")
    graph = _exported(encoder, name, lambda: _program(module, *padded_example()))
    if attention == "fused":
        graph = _fused(graph, encoder.config, norms=False)
    _name_outputs(graph.graph)
    put_head(graph.graph, fitted.head)
    _save(graph, path)


def export_packed(fitted: Fitted, path: Path) -> None:
    """Write the padding-free graph in half precision, its head in single; raises ExportError.

    Inputs: input_ids and position_ids int64 [tokens], each text counting its positions from 0; token_offset
    int32 [texts, longest] and cu_seqlens int32 [texts + 1] as com.microsoft::PackedMultiHeadAttention wants
    them (`trainer.tokens.packed` makes all four).
    """
    encoder = fitted.encoder
    why = packable(encoder)
    if why is not None:
        raise ExportError(why)
    seen: dict[str, Any] = {}
    name = register("packed", seen)
    module = packed(encoder, seen)
    graph = _exported(encoder, name, lambda: _program(module, *packed_example()))
    graph = _fused(graph, encoder.config, norms=True)
    _name_outputs(graph.graph)
    fuse_qkv(graph.graph)
    halve(graph.graph, _single(graph.graph))
    put_head(graph.graph, fitted.head)
    _save(graph, path)


def operators(path: Path) -> Counter[str]:
    """How often each operator occurs in a graph."""
    import onnx

    return Counter(node.op_type for node in onnx.load(path).graph.node)


def _pluggable(encoder: Any) -> bool:
    return bool(getattr(encoder, "_supports_attention_backend", False))


def _exported(encoder: Any, attention: str, program: Callable[[], Any]) -> Any:
    """The ONNX model of a program that is traced with this attention."""
    import torch

    config = encoder.config
    before = config._attn_implementation
    config._attn_implementation = attention
    try:
        return program().model_proto
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(_cause(error)) from error
    finally:
        config._attn_implementation = before


def _cause(error: BaseException) -> str:
    """The innermost reason in one line: torch wraps it in a report of many."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _program(module: Any, example: tuple[Any, ...], shapes: dict[str, Any]) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about itself
        return torch.onnx.export(
            module,
            example,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(shapes),
            output_names=list(RAW_OUTPUTS),
            dynamic_shapes=shapes,
        )


def _fused(graph: Any, config: Any, *, norms: bool) -> Any:
    """Fuse bias + GELU and, with `norms`, skip + layer norm; only rewriting, no session. Raises ExportError.

    A processor's kernel of the latter takes four times as long as addition and norm one after the other
    (ONNX Runtime 1.31); a session on CUDA fuses them itself.
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    _give_norms_a_bias(graph.graph)
    options = FusionOptions("bert")
    options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = norms
    try:
        optimised = optimizer.optimize_model(
            graph,
            model_type="bert",
            num_heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
            optimization_options=options,
            opt_level=0,
            use_gpu=False,
        )
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        why = f"ONNX Runtime's optimiser stumbles over it ({type(error).__name__}: {error})"
        raise ExportError(why) from error
    return optimised.model


def _give_norms_a_bias(graph: Any) -> None:
    """Zeros for layer norms that have none (ModernBERT's): the optimiser expects one."""
    from onnx import numpy_helper

    sizes = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 1}
    for node in graph.node:
        if node.op_type == "LayerNormalization" and len(node.input) == 2 and node.input[1] in sizes:
            zeros = numpy_helper.from_array(
                np.zeros(sizes[node.input[1]], dtype=np.float32), f"{node.output[0]}_bias"
            )
            graph.initializer.append(zeros)
            node.input.append(zeros.name)


def _single(graph: Any) -> list[Any]:
    """The nodes that stay in single precision: angles of rotary positions, and what follows the pooling.

    Half precision counts to 2,048 and has three digits: the angle of a late position would be noise.
    """
    pooling = [node for node in graph.node if node.op_type == PACKED][-1]
    one_a_text = next(node for node in graph.node if pooling.output[0] in node.input)
    return [*upstream(graph, {"Cos", "Sin"}, until="Cast"), *downstream(graph, one_a_text)]


def _save(graph: Any, path: Path) -> None:
    import onnx

    del graph.graph.value_info[:]  # stale shapes of the exporter's example
    onnx.save_model(graph, path, save_as_external_data=False)


def _name_outputs(graph: Any) -> None:
    names = {final: f"inner_{final}" for final in (EMBEDDING, LOGITS)} | RAW_OUTPUTS
    for node in graph.node:
        for names_of in (node.input, node.output):
            names_of[:] = [names.get(name, name) for name in names_of]
    for output in graph.output:
        output.name = names.get(output.name, output.name)
