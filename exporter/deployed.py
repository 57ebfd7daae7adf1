"""The versions this process serves, kept equal to `deployments`: load first, then switch."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy import Engine as Database
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from exporter.engines import Engine, open_engine
from exporter.errors import EngineFailedError, ExporterError, UnknownModelError
from exporter.instruments import Instruments
from exporter.memory import Unloaded, give_back, held_bytes, longest_unused, resident_bytes
from exporter.registry import read_deployments, read_version
from exporter.settings import Device, Precision
from exporter.tables import Role
from exporter.trials import Trial, give_up, in_canary, read_trials
from trainer.artifact import Manifest
from trainer.errors import TrainerError

RETRY_S = 30.0  # a refused version is tried again: the disk may have come back

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Deployed:
    model: str
    version: str
    revision: int
    manifest: Manifest
    engine: Engine
    role: Role = "champion"
    own_bytes: int = 0  # measured while it was loaded

    @property
    def memory_bytes(self) -> int:
        """What it takes, together with what it has in common with others."""
        return held_bytes([(self.own_bytes, self.engine.encoder)])

    @property
    def loaded(self) -> bool:
        return not isinstance(self.engine, Unloaded)


@dataclass(frozen=True, slots=True)
class OnTrial:
    trial: Trial
    deployed: Deployed


@dataclass(frozen=True, slots=True)
class Refusal:
    version: str
    revision: int
    why: str
    at: float  # monotonic


class Fleet:
    """Every deployed model, loaded. `refresh` may run beside readers."""

    def __init__(
        self,
        db: Database,
        instruments: Instruments,
        *,
        threads: int,
        poll_s: float,
        device: Device = "cpu",
        precision: Precision = "auto",
        memory_limit: int = 0,
    ) -> None:
        self._db, self._instruments, self._threads, self._poll_s = db, instruments, threads, poll_s
        self._device, self._precision = device, precision
        self._memory_limit = memory_limit  # bytes of loaded champions and challengers, 0: none
        self._used_at: dict[str, float] = {}
        self._loading = threading.RLock()
        self._serving: dict[str, Deployed] = {}
        self._refused: dict[str, Refusal] = {}
        self._unloadable: dict[str, tuple[Deployed, float]] = {}  # what made room, and when it was tried
        self._trials: dict[str, OnTrial] = {}
        self._given_up: deque[Trial] = deque()
        self._trials_refused: dict[str, tuple[Trial, float]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deployments", daemon=True)

    def start(self) -> None:
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def deployed(self, model: str) -> Deployed:
        """What serves `model` now. Raises UnknownModelError."""
        try:
            return self._serving[model]
        except KeyError:
            raise UnknownModelError(model) from None

    def route(self, model: str, key: str | None) -> Deployed:
        """What answers this key: the champion, or a canary that has drawn it. No key, no canary.

        Raises UnknownModelError.
        """
        champion = self.deployed(model)
        self._used_at[model] = time.monotonic()
        found = self._trials.get(model) if key is not None else None
        if found is not None and found.trial.mode == "canary" and in_canary(found.trial, key or ""):
            return found.deployed
        return champion

    def load(self, model: str) -> Deployed:
        """The champion, loaded again if it had to make room; may take seconds.

        Raises UnknownModelError, EngineFailedError where it cannot be loaded any more.
        """
        with self._loading:
            parked = self.deployed(model)
            if parked.loaded:
                return parked
            tried = self._unloadable.get(model)
            if tried is not None and tried[0] is parked and time.monotonic() - tried[1] <= RETRY_S:
                raise EngineFailedError(model, parked.version)
            try:
                loaded = self._open(model, parked.version, revision=parked.revision)
            except (TrainerError, ExporterError, OSError) as error:
                self._unloadable[model] = parked, time.monotonic()
                self._instruments.refused.labels(model).inc()
                _log.error("version_refused", model=model, version=parked.version, why=str(error))
                raise EngineFailedError(model, parked.version) from error
            self._unloadable.pop(model, None)
            self._serving[model] = loaded
            self._make_room()
            return loaded

    def take_back(self, failed: Deployed) -> None:
        """Stop a challenger that failed on a text: now here, with the next refresh for everybody."""
        found = self._trials.get(failed.model)
        if found is not None and found.deployed.version == failed.version:
            self._trials.pop(failed.model, None)  # a refresh may have been faster
            self._given_up.append(found.trial)
            _log.error("version_taken_back", model=failed.model, version=failed.version)

    def shadow(self, model: str) -> Deployed | None:
        """The version that answers in the champion's shadow, if there is one."""
        found = self._trials.get(model)
        return found.deployed if found is not None and found.trial.mode == "shadow" else None

    def serving(self) -> list[Deployed]:
        return [self._serving[model] for model in sorted(self._serving)]

    def refusals(self) -> dict[str, Refusal]:
        """Models whose deployed version could not be loaded; the one before keeps serving."""
        return dict(self._refused)

    def refresh(self) -> None:
        """Compare with the database once; a version that is refused changes nothing."""
        for row in read_deployments(self._db):
            with self._loading:
                current = self._serving.get(row.model)
                if (current is None or current.revision != row.revision) and self._due(row):
                    self._load(row, current)
        self._refresh_trials()

    def _refresh_trials(self) -> None:
        while self._given_up:
            with self._db.begin() as connection:
                give_up(connection, self._given_up[0])
            self._given_up.popleft()
        wanted = {trial.model: trial for trial in read_trials(self._db)}
        for model in [one for one in list(self._trials) if one not in wanted]:
            self._trials.pop(model, None)  # the engine's thread may have taken it back
        for model, trial in wanted.items():
            known = self._trials.get(model)
            if known is None or known.trial != trial:
                self._put_on_trial(trial, known)

    def _put_on_trial(self, trial: Trial, known: OnTrial | None) -> None:
        """A challenger that cannot be loaded answers nothing; the champion does."""
        if not self._trial_due(trial):
            return
        with self._loading:
            try:
                deployed = self._challenger(trial, known)
                self._trials[trial.model] = OnTrial(trial, deployed)
                self.load(trial.model)  # it answers in a canary's place, so from now on it stays loaded
            except (TrainerError, ExporterError, OSError) as error:
                self._trials.pop(trial.model, None)
                self._trials_refused[trial.model] = trial, time.monotonic()
                self._instruments.refused.labels(trial.model).inc()
                _log.error("trial_refused", model=trial.model, version=trial.challenger, why=str(error))
                return
            self._make_room()
        _log.info("version_on_trial", model=trial.model, version=trial.challenger, mode=trial.mode)

    def _challenger(self, trial: Trial, known: OnTrial | None) -> Deployed:
        if known is not None and known.trial.challenger == trial.challenger:
            return replace(known.deployed, role=trial.mode)
        return self._open(trial.model, trial.challenger, revision=-1, role=trial.mode)

    def _trial_due(self, trial: Trial) -> bool:
        refused = self._trials_refused.get(trial.model)
        return refused is None or refused[0] != trial or time.monotonic() - refused[1] > RETRY_S

    def _due(self, row: Row[Any]) -> bool:
        refusal = self._refused.get(row.model)
        return refusal is None or refusal.revision != row.revision or time.monotonic() - refusal.at > RETRY_S

    def _load(self, row: Row[Any], current: Deployed | None) -> None:
        try:
            self._switch(row, row.champion, current)
            self._refused.pop(row.model, None)
        except (TrainerError, ExporterError, OSError) as error:
            self._refuse(row, error)
            if current is None and row.previous is not None and row.model not in self._serving:
                self._fall_back(row)

    def _fall_back(self, row: Row[Any]) -> None:
        """At start nobody serves yet: the version before is better than none."""
        try:
            self._switch(row, row.previous, None, revision=-1)
        except (TrainerError, ExporterError, OSError) as error:
            _log.error("version_refused", model=row.model, version=row.previous, why=str(error))

    def _switch(
        self, row: Row[Any], version: str, current: Deployed | None, *, revision: int | None = None
    ) -> None:
        number, tried = row.revision if revision is None else revision, self._trials.get(row.model)
        if tried is not None and tried.trial.challenger == version:  # it is loaded already
            loaded = replace(tried.deployed, revision=number, role="champion")
        else:
            loaded = self._open(row.model, version, revision=number)
        self._serving[row.model] = loaded
        self._used_at.setdefault(row.model, time.monotonic())
        self._make_room()
        _log.info("version_serving", model=row.model, version=version, revision=loaded.revision)
        if current is not None:
            self._instruments.serving.labels(row.model, current.version).set(0)
            self._instruments.memory.labels(row.model, current.version).set(0)
            self._instruments.swaps.labels(row.model).inc()
        self._instruments.serving.labels(row.model, version).set(1)

    def _open(self, model: str, version: str, *, revision: int, role: Role = "champion") -> Deployed:
        give_back()
        before = resident_bytes()
        opened = read_version(self._db, model, version)
        engine = open_engine(opened, threads=self._threads, device=self._device, precision=self._precision)
        manifest = opened.manifest
        del opened  # the session has what it needs of the bytes
        give_back()
        own, encoder = max(1, resident_bytes() - before), engine.encoder
        if encoder is not None and not encoder.memory_bytes:  # it was opened just now
            encoder.memory_bytes, own = own, 0
        loaded = Deployed(model, version, revision, manifest, engine, role, own)
        self._instruments.memory.labels(model, version).set(loaded.memory_bytes)
        self._instruments.provider.labels(model, version, engine.provider).set(1)
        return loaded

    def _make_room(self) -> None:
        """Unload champions that were not asked for longest; requests on their way keep the engine alive.

        A champion beside a challenger stays: it answers where a canary fails.
        """
        if not self._memory_limit:
            return
        on_trial = dict(self._trials)
        while True:
            loaded = {one.model: one for one in self._serving.values() if one.loaded}
            held = [*loaded.values(), *(one.deployed for one in on_trial.values())]
            if held_bytes((one.own_bytes, one.engine.encoder) for one in held) <= self._memory_limit:
                return
            model = longest_unused(loaded.keys() - on_trial.keys(), self._used_at)
            if model is None:
                return
            self._unload(loaded[model])
            del loaded, held
            give_back()

    def _unload(self, one: Deployed) -> None:
        self._serving[one.model] = replace(one, engine=Unloaded(one.engine))
        self._instruments.unloads.labels(one.model).inc()
        self._instruments.memory.labels(one.model, one.version).set(0)
        _log.info("version_unloaded", model=one.model, version=one.version, bytes=one.memory_bytes)

    def _refuse(self, row: Row[Any], error: Exception) -> None:
        self._refused[row.model] = Refusal(row.champion, row.revision, str(error), time.monotonic())
        self._instruments.refused.labels(row.model).inc()
        _log.error("version_refused", model=row.model, version=row.champion, why=str(error))

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_s):
            try:
                self.refresh()
            except SQLAlchemyError as error:
                _log.warning("deployments_not_read", error=type(error).__name__)
            except Exception:  # the loop must outlive what nobody foresaw; what serves keeps serving
                _log.exception("deployments_failed")
