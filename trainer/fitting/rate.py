"""The learning rate by a range test: one short sweep from a rate that does nothing to one that breaks.

Source: Smith (2017), arXiv 1506.01186. Two things make few steps enough: the loss of each batch is compared
with what the first weights say of the very same rows (known for free where the encoder has run already), and
the sweep ends as soon as the smoothed difference says that the training diverges.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from trainer.fitting.loop import Training
from trainer.fitting.table import Deep
from trainer.tokens import shuffled

Array = np.ndarray[Any, np.dtype[Any]]

SHARE = 0.2  # of an epoch's rows
STEPS = 60  # more do not make the answer better
FEWEST = 10  # steps below which a sweep says nothing
LOWEST: dict[Deep, float] = {"adapter": 1e-3, "layers": 1e-5, "full": 3e-6}
HIGHEST: dict[Deep, float] = {"adapter": 0.3, "layers": 1e-2, "full": 3e-3}
USUAL: dict[Deep, float] = {"adapter": 5e-3, "layers": 3e-4, "full": 1e-4}  # of data too small to ask
WIDTH = 0.2  # decades: of the Gaussian that smooths; a mean over the past alone would lag behind the rate
DIVERGED = 0.5  # nats above the lowest smoothed difference
CAP = 1.0  # nats: one broken batch must not outweigh its neighbours


def range_test(training: Training, *, frozen: Array) -> dict[str, Any]:
    """Sweep, and leave the weights as they were; `frozen` are losses [rows] under the first weights.

    Returns {"rates", "differences", "smoothed": one per step, "chosen", "steps", "why"}.
    """
    rung = training.trained.rung
    batches = _batches(training)
    found: dict[str, Any] = {"rates": [], "differences": [], "smoothed": [], "steps": len(batches)}
    if not batches:
        return found | {"chosen": USUAL[rung], "why": "too few rows for a sweep: the usual rate of this rung"}
    before = {name: part.detach().clone() for name, part in training.trained.tensors().items()}
    for rate, batch in zip(sweep(LOWEST[rung], HIGHEST[rung], len(batches)), batches, strict=True):
        difference = training.step(batch, rate) - float(frozen[batch].mean())
        found["rates"].append(rate)
        found["differences"].append(min(difference, CAP) if np.isfinite(difference) else CAP)
        found["smoothed"] = smoothed(found["rates"], found["differences"])
        if found["smoothed"][-1] > min(found["smoothed"]) + DIVERGED:
            break
    for name, part in training.trained.tensors().items():
        part.data.copy_(before[name])
    lowest = int(np.argmin(found["smoothed"]))
    return found | {"chosen": float(f"{found['rates'][lowest]:.2g}"), "why": "range test"}


def _batches(training: Training) -> list[Array]:
    """Batches of together at most SHARE of an epoch's rows; none where they would be too few."""
    rows = training.parts.learnt
    room = int(SHARE * len(rows))
    size = min(training.fit.batch_size, max(4, room // FEWEST))
    steps = min(STEPS, room // size)
    if steps < FEWEST:
        return []
    lengths = [len(training.trained.texts.ids[row]) for row in rows]
    order = shuffled(lengths, size, np.random.default_rng([training.fit.seed, 2**31]))
    return [rows[batch] for batch in order if len(batch) == size][:steps]


def sweep(lowest: float, highest: float, steps: int) -> list[float]:
    """Rates of like ratio.

    >>> sweep(1e-4, 1e-2, 3)
    [0.0001, 0.001, 0.01]
    """
    return [float(rate) for rate in np.round(np.geomspace(lowest, highest, steps), 12)]


def smoothed(rates: list[float], differences: list[float]) -> list[float]:
    """Gaussian means of `differences` over the logarithm of the rate.

    >>> [round(value, 2) for value in smoothed([1e-3, 1e-2, 1e-1], [0.0, 0.0, 1.0])]
    [0.0, 0.0, 1.0]
    """
    places = np.log10(rates)
    weights = np.exp(-0.5 * ((places[:, None] - places[None, :]) / WIDTH) ** 2)
    return [float(value) for value in weights @ np.array(differences) / weights.sum(axis=1)]


def plot(found: dict[str, Any]) -> bytes:
    """A PNG of a sweep: smoothed difference over rate, the chosen one marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  costs half a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(found["rates"], found["differences"], ".", color="0.7", label="batch")
    axes.plot(found["rates"], found["smoothed"], color="C0", label="smoothed")
    axes.axvline(found["chosen"], color="C3", linestyle="--", label=f"chosen: {found['chosen']:g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss against the first weights (nats)")
    axes.set_title("Range test of the learning rate")
    axes.grid(alpha=0.3)
    axes.legend()
    sink = io.BytesIO()
    figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()
