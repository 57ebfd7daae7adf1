"""`trueup bench engines`: what a version's engines do on this machine, beside torch and the bare session."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.table import Table

from exporter import registry, speed
from exporter.engines import open_engines
from exporter.gpu import Peak, peak
from exporter.machine import cores
from exporter.speed import flops_per_token
from monitor.commands import Context, Outcome, known
from monitor.commands.models import stages
from monitor.config import Settings
from monitor.errors import MonitorError
from trainer.artifact import Version
from trainer.errors import TrainerError
from trainer.sources import resolve_base
from trainer.torch_speed import Way, torch_run

LIBRARIES = ("onnxruntime-gpu", "onnxruntime", "torch", "transformers", "tokenizers", "numpy")
INVARIANT_TEXTS = 24
TORCH: tuple[Way, ...] = ("eager", "compile")


class NothingServesError(MonitorError):
    """A model without a champion, and no version was named."""

    def __init__(self, model: str) -> None:
        super().__init__(f"Nothing answers as {model!r}. Name a version: trueup bench engines {model} v1.")


class NoTextsError(MonitorError):
    """A language model, whose engines are timed by tokens."""

    def __init__(self, model: str) -> None:
        super().__init__(f"{model!r} generates text; only classifiers are timed here.")


@dataclass(frozen=True, slots=True)
class Contestant:
    """One pass over all texts; the first one does not count."""

    name: str
    run: Callable[[], object]
    seconds: list[float]


def engines(
    context: Context, *, model: str, version: str | None, texts: int, rounds: int, torch: bool, quiet: bool
) -> Outcome:
    """Time them in turns, so that a busy machine hurts everybody alike; status 1 where batch mates count."""
    known(context, model)
    name = version or registry.champion(context.db, model)
    if name is None:
        raise NothingServesError(model)
    registry.version_path(context.db, model, name)  # says so where it is unknown
    opened = registry.read_version(context.db, model, name)
    if not isinstance(opened, Version):
        raise NoTextsError(model)
    settings = context.settings.exporter
    asked = speed.mixed_texts(opened, texts)
    ids = speed.read(opened, asked)
    found = open_engines(opened, threads=settings.threads, device=settings.device)
    skipped: dict[str, str] = {}
    contestants = [Contestant(one, _over(engine, asked), []) for one, engine in found.items()]
    contestants += _bare(opened, found, ids, settings.threads)
    if torch:
        contestants += _torch(opened, ids, context.settings, skipped)
    with stages(quiet) as show:
        _race(contestants, rounds, skipped, show)
    differences = {
        one: speed.largest_difference(engine, asked[:INVARIANT_TEXTS]) for one, engine in found.items()
    }
    tokens, reached = sum(map(len, ids)), peak() if settings.device == "cuda" else None
    data = {
        "model": model,
        "version": name,
        "machine": machine(settings.threads),
        "texts": len(asked),
        "tokens": tokens,
        "rounds": rounds,
        "peak": None if reached is None else asdict(reached),
        "rows": [
            _row(one, contestants, len(asked), tokens)
            | _share(one, flops_per_token(opened) * tokens, reached)
            for one in contestants
        ],
        "changes_with_batch_mates": differences,
        "refused": dict(_refused(opened)),
        "skipped": skipped,
    }
    return Outcome(data=data, view=tuple(_view(data)), status=int(any(differences.values())))


def machine(threads: int) -> dict[str, Any]:
    """Where a figure was taken."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "threads": threads,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in LIBRARIES if (found := _version(name))},
    }


def _over(engine: Any, texts: list[str]) -> Callable[[], object]:
    return lambda: engine.run(texts)


def _bare(
    version: Version, found: dict[str, Any], ids: list[list[int]], threads: int
) -> Iterator[Contestant]:
    for name in found:
        if name in speed.FILES:
            run = speed.bare_run(version, ids, threads=threads, file=speed.FILES[name])
            yield Contestant(_bare_name(name), run, [])


def _torch(
    version: Version, ids: list[list[int]], settings: Settings, skipped: dict[str, str]
) -> Iterator[Contestant]:
    exporter = settings.exporter
    for way in TORCH:
        try:
            base = resolve_base(version.manifest.base, settings.trainer.cache)
            run = torch_run(base, ids, threads=exporter.threads, way=way, device=exporter.device)
        except (TrainerError, OSError) as error:
            skipped[f"torch {way}"] = str(error)
        else:
            yield Contestant(f"torch {way}", run, [])


def _race(
    contestants: list[Contestant],
    rounds: int,
    skipped: dict[str, str],
    show: Callable[[dict[str, Any]], None],
) -> None:
    """`rounds` passes of everybody, in turns, after one that does not count; who fails leaves."""
    total = (rounds + 1) * len(contestants)
    for number in range(rounds + 1):
        for place, one in enumerate(list(contestants)):
            done = number * len(contestants) + place
            show({"stage": "rounds", "done": done, "total": total, "message": one.name})
            began = time.perf_counter()
            try:
                one.run()
            except Exception as error:  # torch.compile needs a C++ compiler and says so in a hundred ways
                first = [*str(error).strip().splitlines(), ""][0]
                skipped[one.name] = f"{type(error).__name__}: {first[:200]}"
                contestants.remove(one)
            if number:
                one.seconds.append(time.perf_counter() - began)


def _row(one: Contestant, contestants: list[Contestant], texts: int, tokens: int) -> dict[str, Any]:
    middle = median(one.seconds)
    row: dict[str, Any] = {
        "name": one.name,
        "texts_per_second": round(texts / middle, 1),
        "tokens_per_second": round(tokens / middle),
        "seconds": [round(second, 4) for second in one.seconds],
    }
    for other in contestants:
        if other.name in (_bare_name(one.name), _bare_name("cpu-fp32"), "torch eager", "torch compile"):
            row[f"times {other.name}"] = round(median(other.seconds) / middle, 3)
    return row


def _share(one: Contestant, flops: int, reached: Peak | None) -> dict[str, float]:
    """Of the measured peak of the GPU, by products with weights."""
    if reached is None:
        return {}
    return {"share_of_peak": round(flops / median(one.seconds) / (reached.tflops * 1e12), 4)}


def _bare_name(engine: str) -> str:
    return f"bare session, {engine}"


def _refused(version: Version) -> Iterator[tuple[str, str]]:
    listed = version.manifest.engines
    for name, one in listed.items() if isinstance(listed, dict) else ():
        if dict(one).get("refused"):
            yield name, str(dict(one)["refused"])


def _view(data: dict[str, Any]) -> Iterator[Any]:
    columns = list(dict.fromkeys(key for row in data["rows"] for key in row if key.startswith("times ")))
    table = Table("", "texts/s", "tokens/s", *(key.replace("times ", "× ") for key in columns))
    for row in data["rows"]:
        cells = (f"{row[key]:.2f}" if key in row else "–" for key in columns)
        table.add_row(row["name"], f"{row['texts_per_second']:.1f}", str(row["tokens_per_second"]), *cells)
    yield table
    yield (
        f"{data['texts']} texts, {data['tokens']} tokens, median of {data['rounds']} rounds, "
        f"{data['machine']['threads']} threads."
    )
    if data["peak"] is not None:
        shares = ", ".join(f"{row['name']} {row['share_of_peak']:.1%}" for row in data["rows"])
        told = data["peak"]
        yield f"Peak {told['tflops']:.0f} TFLOP/s, copy {told['copied_tb_s']:.2f} TB/s. Shares: {shares}."
    for name, difference in data["changes_with_batch_mates"].items():
        yield f"{name}: largest change of a score with its batch mates: {difference:g}"
    for name, why in [*data["refused"].items(), *data["skipped"].items()]:
        yield f"{name}: {why}"


def _processor() -> str:
    """As /proc says, which is more than `platform` knows on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
