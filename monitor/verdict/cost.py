"""What an answer of each model costs: time and size, compared within one run of one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from exporter.engines import open_engine
from exporter.settings import Device, Precision
from monitor.verdict.finding import Finding
from trainer.artifact import Version

MOST = 1.5  # times the champion's; figures of different runs or machines would say nothing
ROUNDS = 5
TEXTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Milliseconds per text, round by round in turns; bytes of the exported graph. 0 texts: not measured."""

    texts: int = 0
    champion_ms: tuple[float, ...] = ()
    challenger_ms: tuple[float, ...] = ()
    champion_bytes: int = 0
    challenger_bytes: int = 0


def measure(
    champion: Version,
    challenger: Version,
    texts: Sequence[str],
    *,
    threads: int,
    device: Device = "cpu",
    precision: Precision = "auto",
    clock: Callable[[], float] = time.perf_counter,
) -> Cost:
    """Let the engines of both answer the same texts in turns, after a round that does not count.

    At most TEXTS, evenly spread. The weights in the graph are nearly all that a session holds; what a
    process has resident depends on what it freed before, and says less.
    """
    chosen = list(texts[:: max(1, -(-len(texts) // TEXTS))])
    sizes = Cost(champion_bytes=len(champion.model_bytes), challenger_bytes=len(challenger.model_bytes))
    if not chosen:
        return sizes
    engines = [
        open_engine(version, threads=threads, device=device, precision=precision)
        for version in (champion, challenger)
    ]
    rounds: list[list[float]] = [[], []]
    try:
        for _ in range(ROUNDS + 1):
            for engine, times in zip(engines, rounds, strict=True):
                began = clock()
                engine.run(chosen)
                times.append(round(1000 * (clock() - began) / len(chosen), 4))
    finally:
        for engine in engines:
            engine.close()
    first, second = (tuple(times[1:]) for times in rounds)
    return replace(sizes, texts=len(chosen), champion_ms=first, challenger_ms=second)


def judge_cost(cost: Cost) -> Finding:
    """Refuse a challenger that takes more than MOST times the champion's time or bytes.

    Each one's fastest round counts: what else the machine does can only slow a round down.
    """
    slower = _ratio(min(cost.challenger_ms, default=0.0), min(cost.champion_ms, default=0.0))
    bigger = _ratio(cost.challenger_bytes, cost.champion_bytes)
    numbers = {"latency_ratio": slower, "size_ratio": bigger, "texts": cost.texts, "limit": MOST}
    said = [
        f"{name} × {ratio:.2f}"
        for name, ratio in (("latency", slower), ("size", bigger))
        if ratio is not None
    ]
    if not said:
        return Finding(passed=True, reason="Latency and size were not measured.", numbers=numbers)
    passed = all(ratio is None or ratio <= MOST for ratio in (slower, bigger))
    start = "Costs" if passed else f"Too costly (limit × {MOST})"
    return Finding(passed=passed, reason=f"{start}: {', '.join(said)} of the champion's.", numbers=numbers)


def _ratio(challenger: float, champion: float) -> float | None:
    return challenger / champion if champion > 0 else None
