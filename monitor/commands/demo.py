"""`trueup demo`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from monitor.commands import Context, Outcome, exit_on_sigterm
from monitor.demo import desks, house
from monitor.demo.drive import Demo, play, prepare
from monitor.demo.processes import Children, MemoryWatch
from monitor.demo.story import Story, summary
from monitor.demo.view import closing, view
from monitor.errors import MonitorError


class TwoPiecesError(MonitorError):
    """Two demos were asked for at once."""

    def __init__(self) -> None:
        super().__init__("--fast is a way to play the demo of the desks: leave it out, or --llm.")


console = Console()  # with markup: nothing of the demo's view was written by a user


def demo(
    context: Context, *, fast: bool, llm: bool, folder: Path, keep_serving: bool, quiet: bool
) -> Outcome:
    """Play the demo and sum it up."""
    if fast and llm:
        raise TwoPiecesError
    for name in [key for key in os.environ if key.startswith("TRUEUP__")]:
        del os.environ[name]  # the demo works in its own folder, whatever production is set to
    exit_on_sigterm()
    started, tell, cache = time.monotonic(), _Screen(quiet), context.settings.trainer.cache
    story = (
        Story(stages=house.STAGES, shown=house.SHOWN)
        if llm
        else Story(stages=desks.STAGES, shown=desks.SHOWN)
    )
    tell("starting", story)
    prepared = prepare(folder, cache, house.house(cache) if llm else desks.desks(cache, fast=fast))
    memory = MemoryWatch()
    children = Children(prepared.config, folder / "logs")
    try:
        with tell:
            play(prepared, story, tell, children=children)
    finally:
        peak_rss_mb = memory.stop()
        if not keep_serving:
            children.stop()
    data = summary(story, seconds=time.monotonic() - started, peak_rss_mb=peak_rss_mb)
    return Outcome(data=data, view=_closing(prepared, story, data), console=console)


def _closing(prepared: Demo, story: Story, data: dict[str, Any]) -> tuple[Any, ...]:
    last = closing(story, data, prepared.status_url, str(prepared.folder))
    return (last,) if sys.stdout.isatty() else (view(story), last)


class _Screen:
    """A live display on a terminal; one line per stage elsewhere; nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._live = (
            Live(console=console, refresh_per_second=8) if sys.stdout.isatty() and not quiet else None
        )

    def __enter__(self) -> None:
        if self._live:
            self._live.start()

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, stage: str, story: Story) -> None:
        changed, story.stage = stage != story.stage or stage == "starting", stage
        if self._live:
            self._live.update(view(story))
        elif changed and not self._quiet and stage != "window":
            console.print(story.stages[stage])
