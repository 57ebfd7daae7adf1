"""Drives the demo: trains v1, starts server and monitor, sends mail, and looks on."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter import registry
from exporter.database import open_database
from monitor.config import Settings, load_settings
from monitor.demo.client import Answered, Client
from monitor.demo.mail import Mail
from monitor.demo.piece import Piece
from monitor.demo.processes import Children, free_port
from monitor.demo.story import Listener, Served, Story
from monitor.demo.watch import Watch
from monitor.errors import MonitorError
from monitor.migrate import upgrade
from monitor.training import train_version
from trainer.spec import load_spec

MARKER = "made-by-trueup-demo"
RETRAIN_S = 600.0

CONFIG = """\
home = "home"

[trainer]
cache = {cache}

[exporter]
port = {port}

[monitor]
port = {monitor_port}
check = "every 1s"
retrain = ""

[models.{model}]
spec = "{model}.toml"
window = {window}
{limits}"""


class NotOurFolderError(MonitorError):
    """The folder holds something the demo did not make."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} was not made by the demo and is not empty; name another with --folder.")


class RefusedError(MonitorError):
    """The retrain did not end in a promotion."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        reasons = (job["verdict"] or {}).get("reasons") or job["error"]
        super().__init__(f"Job {job['id']} ended as {job['state']} without a promotion: {reasons}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A prepared demo: settings on disk, mail in memory."""

    folder: Path
    config: Path
    spec: Path
    settings: Settings
    piece: Piece

    @property
    def status_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.monitor.port}/"

    @property
    def server_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.exporter.port}"


def prepare(folder: Path, cache: Path, piece: Piece) -> Demo:
    """Empty the folder, write configuration, spec and data."""
    _empty(folder)
    for name, mail in (("train", piece.streams.train), ("holdout", piece.streams.holdout)):
        lines = [json.dumps(piece.row(one)) + "\n" for one in mail]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    config, spec = folder / "trueup.toml", folder / f"{piece.model}.toml"
    config.write_text(
        CONFIG.format(
            cache=repr(str(cache.resolve())), port=free_port(), monitor_port=free_port(), model=piece.model,
            window=piece.window, limits=piece.limits,
        )
    )  # fmt: skip
    spec.write_text(piece.spec)
    return Demo(folder=folder, config=config, spec=spec, settings=load_settings(config), piece=piece)


def play(demo: Demo, story: Story, tell: Listener, *, children: Children, seed: int = 0) -> None:
    """Play the whole story; `tell` hears each change."""
    settings = demo.settings
    settings.home.mkdir(parents=True)
    db = open_database(settings.database_url)
    upgrade(db)
    tell("train", story)
    version, _ = train_version(
        db, settings.home, load_spec(demo.spec), demo.spec, trainer=settings.trainer,
        progress=lambda progress: _training(progress, story, tell),
    )  # fmt: skip
    registry.promote(db, demo.piece.model, version, expected=None, reason="first version", actor="demo")
    story.versions.append(version)
    tell("serve", story)
    children.start({"serve": f"{demo.server_url}/readyz", "monitor": f"{demo.status_url}healthz"})
    watch = Watch(db, demo.piece.model, str(demo.folder / "logs"), shown=story.shown)
    with contextlib.closing(demo.piece.client(settings.exporter.port, demo.piece.model)) as client:
        scene = Scene(demo, story, tell, client, watch, random.Random(seed))  # noqa: S311 -- which mail gets a label
        scene.clean()
        scene.drifted()
        scene.retrained()
        scene.after()
        story.failed_requests, story.requests = client.failed, client.requests
    db.dispose()


class Scene:
    """The acts of the demo, in order."""

    def __init__(
        self, demo: Demo, story: Story, tell: Listener, client: Client, watch: Watch, order: random.Random
    ) -> None:
        self._demo, self._story, self._tell = demo, story, tell
        self._client, self._watch, self._order = client, watch, order
        self._piece, self._streams = demo.piece, demo.piece.streams
        self._drifted = itertools.cycle(self._streams.drifted)  # a trickle may outlast them
        self._seen = 0

    def clean(self) -> None:
        """Replay mail of the groups that v1 knows; nothing should page."""
        windows = list(_windows(self._streams.clean, self._piece.window))
        for window in windows[:-1]:
            self._label(self._serve("clean", window)[1])
        self._window("clean", windows[-1])
        self._story.pages_before_shift = sum(one.paged for one in self._story.served)

    def drifted(self) -> None:
        """Send the other newsgroups until the monitor has paged and decided to retrain."""
        for number in range(1, self._piece.drifted_windows + 1):
            served = self._window("drifted", _take(self._drifted, self._piece.window))
            if served.paged and self._story.windows_to_page is None:
                self._story.windows_to_page = number
            if self._watch.last_job() is not None:
                return

    def retrained(self) -> None:
        """Keep a trickle of mail flowing while the monitor retrains, proves and promotes."""
        first = self._story.versions[0]
        stop = threading.Event()
        trickle = threading.Thread(target=self._trickle, args=(stop,))
        trickle.start()
        try:
            self._watch.until("a retrained champion", lambda: self._progress(first), timeout_s=RETRAIN_S)
            self._watch.until("the exporter to swap", lambda: self._swapped(first), timeout_s=30)
        finally:
            stop.set()
            trickle.join()
        self._story.versions.append(str(self._watch.champion()))

    def after(self) -> None:
        """Measure on mail that no training and no decision has seen: fresh drifted mail, and the old kind."""
        self._serve("fresh", self._streams.fresh)
        self._serve("old", self._streams.old_after)
        reports = [
            one.report
            for one in self._watch.checks()
            if one.report and one.version == self._story.versions[0]
        ]
        if reports:
            self._story.report = str(self._demo.settings.home / "reports" / reports[-1])
        self._tell("done", self._story)

    def _window(self, traffic: str, mail: Sequence[Mail]) -> Served:
        served, answered = self._serve(traffic, mail)
        self._label(answered)
        target = self._watch.newest_seq()
        checks = self._watch.until("a check", lambda: self._watch.judged_up_to(target), timeout_s=60)
        for judged in checks[self._seen :]:
            if judged.effect is not None:
                served.effect = judged.effect
            served.log_e, served.log_page_line = judged.log_e, judged.log_page_line
            served.paged = served.paged or judged.paged
        self._seen = len(checks)
        self._tell("window", self._story)
        return served

    def _serve(self, traffic: str, mail: Sequence[Mail]) -> tuple[Served, list[Answered]]:
        answered = self._client.answer(mail)
        version = Counter(one.version for one in answered).most_common(1)[0][0] if answered else "–"
        valid = [one.valid for one in answered if one.valid is not None]
        served = Served(
            traffic, len(answered) or 1, sum(one.right for one in answered), version,
            valid=sum(valid) if valid else None,
        )  # fmt: skip
        self._story.served.append(served)
        self._story.failed_requests, self._story.requests = self._client.failed, self._client.requests
        self._tell(traffic, self._story)
        return served, answered

    def _label(self, answered: Sequence[Answered]) -> None:
        self._client.label(answered, share=self._piece.label_share, order=self._order)

    def _trickle(self, stop: threading.Event) -> None:
        while not stop.wait(0.5):
            self._client.answer(_take(self._drifted, 2))

    def _progress(self, first: str) -> str | None:
        job = self._story.job = self._watch.last_job()
        self._tell("retrain", self._story)
        if (
            job is not None
            and job["state"] not in ("queued", "running")
            and not (job["verdict"] or {}).get("promote")
        ):
            raise RefusedError(job)
        champion = self._watch.champion()
        return champion if champion != first else None

    def _swapped(self, first: str) -> bool | None:
        answered = self._client.answer(_take(self._drifted, 1))
        return True if answered and answered[0].version != first else None


def _training(progress: dict[str, object], story: Story, tell: Listener) -> None:
    story.detail = f"{progress['stage']} {progress.get('done')}/{progress.get('total')}"
    tell("train", story)


def _windows(mail: Sequence[Mail], size: int) -> Iterator[Sequence[Mail]]:
    return (mail[at : at + size] for at in range(0, len(mail), size))


def _take(mail: Iterator[Mail], count: int) -> list[Mail]:
    return [one for one, _ in zip(mail, range(count), strict=False)]


def _empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise NotOurFolderError(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
