"""A trained version as one ONNX file: tokens in, logits and embedding out, any batch and any length."""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from trainer.encoder import pool
from trainer.fit import Fitted
from trainer.splice import EMBEDDING, LOGITS, put_head

Attention = Literal["fused", "generic"]
OPSET = 20
NAME = "trueup_mha"
# torch's exporter does not notice that an output may be called like a value inside ("embedding" is the lookup
# of every nn.Embedding), and writes a graph with a cycle; so outputs get their names afterwards.
RAW_OUTPUTS = {"trueup_embedding": EMBEDDING}


def routes(fitted: Fitted) -> list[Attention]:
    """Ways to export this encoder, the fastest first."""
    pluggable = bool(getattr(fitted.encoder, "_supports_attention_backend", False))
    return ["fused", "generic"] if pluggable else ["generic"]


def export(fitted: Fitted, path: Path, attention: Attention) -> None:
    """Write the graph to `path` as one self-contained file."""
    config = fitted.encoder.config
    before = config._attn_implementation
    seen: dict[str, Any] = {}
    if attention == "fused":
        _register(seen)
    config._attn_implementation = NAME if attention == "fused" else "sdpa"
    try:
        program = _program(_module(fitted, attention, seen))
    finally:
        config._attn_implementation = before
    graph = program.model_proto
    if attention == "fused":
        graph = _fused(graph, config)
    _name_outputs(graph.graph)
    put_head(graph.graph, fitted.head)
    _save(graph, path)


def operators(path: Path) -> Counter[str]:
    """How often each operator occurs in a graph."""
    import onnx

    return Counter(node.op_type for node in onnx.load(path).graph.node)


def _register(seen: dict[str, Any]) -> None:
    """Teach transformers an attention that becomes one com.microsoft::MultiHeadAttention node."""
    import torch
    from transformers import AttentionInterface

    def attend(_: Any, q: Any, k: Any, v: Any, __: Any, scaling: float | None = None, **___: Any) -> Any:
        batch, heads, tokens, width = q.shape  # [batch, heads, tokens, width], flattened for the operator
        flat = [part.transpose(1, 2).reshape(batch, tokens, heads * width) for part in (q, k, v)]
        out = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (*flat, None, seen["mask"]),
            attrs={"num_heads": heads, "scale": float(scaling or width**-0.5)},
            dtype=q.dtype,
            shape=(batch, tokens, heads * width),
            version=1,
        )
        return out.view(batch, tokens, heads, width), None

    AttentionInterface.register(NAME, attend)


def _module(fitted: Fitted, attention: Attention, seen: dict[str, Any]) -> Any:
    import torch

    # Left out, BERT gathers zeros from a buffer: an operator that the optimiser's shape inference lacks.
    typed = "token_type_ids" in inspect.signature(fitted.encoder.forward).parameters

    class Embedding(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = fitted.encoder

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            seen["mask"] = attention_mask.to(torch.int32)
            mask = None if attention == "fused" else attention_mask
            given = {"token_type_ids": torch.zeros_like(input_ids)} if typed else {}
            hidden = self.encoder(input_ids=input_ids, attention_mask=mask, **given).last_hidden_state
            return pool(hidden, attention_mask)

    return Embedding().eval()


def _program(module: Any) -> Any:
    import torch

    batch, tokens = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("tokens", min=2, max=8192)
    example = torch.ones(2, 16, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about itself
        return torch.onnx.export(
            module,
            (example, example.clone()),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["input_ids", "attention_mask"],
            output_names=list(RAW_OUTPUTS),
            dynamic_shapes={
                "input_ids": {0: batch, 1: tokens},
                "attention_mask": {0: batch, 1: tokens},
            },
        )


def _fused(graph: Any, config: Any) -> Any:
    """Fuse skip + layer norm and bias + GELU; only rewriting, no ONNX Runtime session."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    optimised = optimizer.optimize_model(
        graph,
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        optimization_options=FusionOptions("bert"),
        opt_level=0,
        use_gpu=False,
    )
    return optimised.model


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
