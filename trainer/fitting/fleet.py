"""`[fit] processes`: several train as one. Each takes its share of every batch, and the slopes are summed.

The first process leads: it alone steps, validates, and writes checkpoints, and tells the others the weights
before every batch. So they hold no state that a checkpoint would have to keep, and a training that is resumed
ends with the same bits. torch.distributed by gloo, on the cores of one machine; not on GPUs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from trainer.encoder import Embedded
from trainer.errors import FleetError
from trainer.fitting.loop import Parts, Training
from trainer.fitting.table import Deep, FitTable
from trainer.fitting.trained import Texts, Trained
from trainer.fitting.weights import Start
from trainer.head import Head
from trainer.tabular import write_bytes

Array = np.ndarray[Any, np.dtype[Any]]
ORDERS, TENSORS, TRAINED = "orders.json", "texts.safetensors", "trained.safetensors"
MEETING, READY = "meeting", "ready-"  # files by which processes find one another
LEADERS_PATIENCE_S = 300.0  # for a share of one batch, or a process that starts
FOLLOWERS_PATIENCE_S = 86_400.0  # a leader may validate, or be stopped; its death is seen at once


class Fleet:
    """The leading process's side."""

    def backward(self, training: Training, batch: Array) -> float:
        """Leave the slopes of the whole batch at the weights; returns its loss. Raises FleetError."""
        import torch

        _tell(torch.tensor([len(batch), training.at.step]))
        _tell(torch.from_numpy(batch.astype(np.int64)))
        _tell(_flat([part.detach() for part in training.trained.tensors().values()]))
        return _summed(training, batch[:: training.fit.processes], of=len(batch))


@contextlib.contextmanager
def fleet(
    folder: Path, start: Start, head: Head, texts: Texts, fit: FitTable, rung: Deep
) -> Iterator[Fleet | None]:
    """What computes slopes as long as the block lives: a fleet, or None where one process is asked for."""
    if fit.processes == 1:
        yield None
        return
    _write_orders(folder, start, head, texts, fit, rung)
    with contextlib.ExitStack() as ends:
        children = {}
        for rank in range(1, fit.processes):
            command = [sys.executable, "-m", "trainer.fitting.fleet", str(folder), str(rank)]
            children[rank] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            ends.callback(_end, children[rank])
        _wait(folder, children)
        _meet(folder, 0, fit.processes, patience_s=LEADERS_PATIENCE_S)
        ends.callback(_part)
        yield Fleet()


def _wait(folder: Path, children: dict[int, subprocess.Popen[bytes]]) -> None:
    """Until every other process is ready; FleetError where one ends before."""
    while not all((folder / f"{READY}{rank}").exists() for rank in children):
        for child in children.values():
            if child.poll() is not None:
                raise FleetError(f"it ended with status {child.returncode} before the first batch")
        time.sleep(0.02)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()


@contextlib.contextmanager
def _the_others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise FleetError(str(error).splitlines()[0]) from error


def _meet(folder: Path, rank: int, size: int, *, patience_s: float) -> None:
    import torch

    meeting, patience = f"file://{(folder / MEETING).resolve()}", timedelta(seconds=patience_s)
    with _the_others():
        torch.distributed.init_process_group(
            "gloo", init_method=meeting, rank=rank, world_size=size, timeout=patience
        )


def _part() -> None:
    import torch

    torch.distributed.destroy_process_group()


def _tell(tensor: Any) -> Any:
    """The first process's tensor, for all."""
    import torch

    with _the_others():
        torch.distributed.broadcast(tensor, src=0)
    return tensor


def _flat(parts: list[Any]) -> Any:
    import torch

    return torch.cat([part.reshape(-1) for part in parts])


def _summed(training: Training, own: Array, *, of: int) -> float:
    """Slopes of a batch of `of` rows, `own` of them this process's; returns its loss."""
    import torch

    loss = training.backward(own, of=of) if len(own) else 0.0
    parts = list(training.trained.tensors().values())
    slopes = [torch.zeros_like(part) if part.grad is None else part.grad for part in parts]
    total = torch.cat([_flat(slopes), torch.tensor([loss])])
    with _the_others():
        torch.distributed.all_reduce(total)
    place = 0
    for part in parts:
        part.grad = total[place : place + part.numel()].view_as(part).clone()
        place += part.numel()
    return float(total[-1])


def _write_orders(folder: Path, start: Start, head: Head, texts: Texts, fit: FitTable, rung: Deep) -> None:
    import torch
    from safetensors.torch import save  # noqa: PLC0415  imports torch

    folder.mkdir(parents=True, exist_ok=True)
    for left in [folder / MEETING, *folder.glob(f"{READY}*")]:
        left.unlink(missing_ok=True)
    hidden = texts.frozen.hidden
    tensors = {
        "ids": torch.tensor([number for row in texts.ids for number in row]),
        "lengths": torch.tensor([len(row) for row in texts.ids]),
        "truth": torch.from_numpy(texts.truth),
        "weight": torch.tensor(head.weight),
        "bias": torch.tensor(head.bias),
        **({"hidden": torch.cat(hidden)} if hidden else {}),
    }
    if start.trained is not None:
        write_bytes(folder / TRAINED, start.trained)
    orders = {
        "fit": fit.model_dump(mode="json"), "rung": rung, "first": texts.first, "base": str(start.base),
        "trained": start.trained is not None,
    }  # fmt: skip
    write_bytes(folder / TENSORS, save(tensors))
    write_bytes(folder / ORDERS, json.dumps(orders).encode())


def _read_orders(folder: Path) -> Training:
    from safetensors.torch import load  # noqa: PLC0415  imports torch

    orders = json.loads((folder / ORDERS).read_text(encoding="utf-8"))
    tensors = load((folder / TENSORS).read_bytes())
    fit = FitTable.model_validate(orders["fit"]).model_copy(
        update={"anchor": 0.0}
    )  # the leader adds its slope
    lengths = tensors["lengths"].tolist()
    hidden = list(tensors["hidden"].split(lengths)) if "hidden" in tensors else []
    trained = (folder / TRAINED).read_bytes() if orders["trained"] else None
    texts = Texts(
        ids=[row.tolist() for row in tensors["ids"].split(lengths)],
        truth=tensors["truth"].numpy(),
        frozen=Embedded(embeddings=np.zeros((len(lengths), 0), dtype=np.float32), hidden=hidden),
        first=orders["first"],
    )
    head = Head(weight=tensors["weight"].numpy(), bias=tensors["bias"].numpy())
    encoder = Start(base=Path(orders["base"]), trained=trained).encoder()
    parts = Parts(learnt=np.arange(len(lengths)), validation=np.arange(0))
    return Training(Trained(encoder, head, texts, fit, orders["rung"]), parts, fit, rate=0.0)


def follow(folder: Path, rank: int) -> None:
    """A process that takes its share of every batch until its leader ends it."""
    import torch

    training = _read_orders(folder)
    torch.set_num_threads(training.fit.threads)
    training.trained.module.train()
    (folder / f"{READY}{rank}").touch()
    _meet(folder, rank, training.fit.processes, patience_s=FOLLOWERS_PATIENCE_S)
    parts = list(training.trained.tensors().values())
    while True:
        count, step = _tell(torch.zeros(2, dtype=torch.int64)).tolist()
        batch = _tell(torch.zeros(count, dtype=torch.int64)).numpy()
        weights = _tell(torch.zeros(sum(part.numel() for part in parts)))
        for part, own in zip(parts, weights.split([part.numel() for part in parts]), strict=True):
            part.data.copy_(own.view_as(part))
            part.grad = None
        drawn = np.random.SeedSequence([training.fit.seed, rank, step]).generate_state(1)
        torch.manual_seed(int(drawn[0]))
        _summed(training, batch[rank :: training.fit.processes], of=count)


def _end_with_the_leader() -> None:
    """Its end of the pipe is closed by whatever death it dies."""
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the leader, who pauses or cancels
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_leader, daemon=True).start()
    follow(Path(sys.argv[1]), int(sys.argv[2]))
