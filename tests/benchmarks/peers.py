"""What others serve the same graph with: `python -m tests.benchmarks.peers NAME VERSION_DIR PORT`.

Each answers POST /v1/predict in our shape, one text a request, and 200 on GET /health. None records anything.
fastapi-pipeline    FastAPI and transformers' pipeline on torch, the same encoder with a classifier on top
fastapi-ort         FastAPI and onnxruntime, one session, requests in the thread pool
litserve-ort        LitServe and onnxruntime, no batching
litserve-ort-batch  LitServe and onnxruntime, batches of at most 8 gathered for at most 5 ms
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
MAX_TOKENS = 128


class Graph:
    """The sealed graph, asked directly."""

    def __init__(self, directory: Path) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(directory / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def run(self, texts: list[str]) -> list[dict[str, Any]]:
        encodings = self._tokenizer.encode_batch(texts)
        given = {
            "input_ids": np.array([one.ids for one in encodings], dtype=np.int64),
            "attention_mask": np.array([one.attention_mask for one in encodings], dtype=np.int64),
        }
        logits = self._session.run(["logits"], given)[0]
        return [{"id": "", "label": str(int(row.argmax()))} for row in logits]


def answer(row: dict[str, Any]) -> dict[str, Any]:
    return {"version": "", "predictions": [row]}


def fastapi(predict: Any, port: int) -> None:
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Body(BaseModel):
        model: str
        inputs: list[str]

    app = FastAPI()

    def post(body: Body) -> dict[str, Any]:
        return answer(predict(body.inputs[0]))

    post.__annotations__ = {"body": Body, "return": dict[str, Any]}
    app.post("/v1/predict")(post)
    app.get("/health")(lambda: {"status": "ok"})
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")


def pipeline_of(directory: Path) -> Any:
    import torch
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        pipeline,
    )

    from trainer.settings import default_cache
    from trainer.sources import encoder

    torch.set_num_threads(THREADS)
    base = encoder(default_cache())
    config = AutoConfig.from_pretrained(base, num_labels=4)
    model = AutoModelForSequenceClassification.from_config(config)
    model.bert.load_state_dict(AutoModel.from_pretrained(base).state_dict(), strict=False)
    tokenizer = AutoTokenizer.from_pretrained(base)
    classify = pipeline("text-classification", model=model.eval(), tokenizer=tokenizer, device=-1)

    def predict(text: str) -> dict[str, Any]:
        found = classify(text, truncation=True, max_length=MAX_TOKENS)
        return {"id": "", "label": found[0]["label"]}

    return predict


def main(name: str, directory: Path, port: int) -> None:
    if name == "fastapi-pipeline":
        fastapi(pipeline_of(directory), port)
    elif name == "fastapi-ort":
        graph = Graph(directory)
        fastapi(lambda text: graph.run([text])[0], port)
    else:
        from tests.benchmarks.litserve_peer import run

        run(directory, port, batch=8 if name.endswith("batch") else 1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).absolute(), int(sys.argv[3]))
