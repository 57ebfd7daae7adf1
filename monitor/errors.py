"""What can go wrong in the monitor, one class for each thing that a caller can act on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class MonitorError(Exception):
    """Everything that the monitor raises on purpose."""


class UnknownModelVersionError(MonitorError):
    def __init__(self, model: str, version: str) -> None:
        super().__init__(f"Model {model!r} has no version {version!r}: see `trueup models` for those it has.")
        self.model = model
        self.version = version


class NoReferenceError(MonitorError):
    def __init__(self, model: str, version: str) -> None:
        super().__init__(
            f"Version {version!r} of model {model!r} has no reference rows: register it again, "
            "so that its hold-out is replayed through the engine."
        )
        self.model = model
        self.version = version


class UnknownBetError(MonitorError):
    def __init__(self, bet: str, known: Sequence[str]) -> None:
        super().__init__(f"There is no bet {bet!r}: use one of {', '.join(known)}.")


class WealthMismatchError(MonitorError):
    def __init__(self, expected: int, given: int) -> None:
        super().__init__(
            f"The window was counted in {given} bins, but the pager bets on {expected}: "
            "count with the wealth's own gaps (`ranks.count`)."
        )


class StoredWealthError(MonitorError):
    def __init__(self, problem: str) -> None:
        super().__init__(
            f"A stored pager state cannot be read ({problem}): delete its row in `wealth`, "
            "and the detector starts again from e = 1."
        )


class UnpairedRowsError(MonitorError):
    def __init__(self, champion: int, challenger: int) -> None:
        super().__init__(
            f"A verdict needs both answers for each row, but there are {champion} of the champion "
            f"and {challenger} of the challenger."
        )


class GainRangeError(MonitorError):
    def __init__(self, values: Iterable[float]) -> None:
        wrong = next(value for value in values if not abs(value) <= 1)
        super().__init__(
            f"A canary's difference is {wrong}, but each lies in [-1, 1]: give 0 or 1 for each row."
        )


class LabelCountError(MonitorError):
    def __init__(self, count: int) -> None:
        super().__init__(f"{count} labels cannot be drawn: ask for 1 or more.")


class NothingToLabelError(MonitorError):
    def __init__(self, model: str, version: str) -> None:
        super().__init__(
            f"Model {model!r} {version} has no recent prediction without a label or a request: "
            "serve more traffic, or hand back the labels that were requested."
        )


class DrawnMeanwhileError(MonitorError):
    def __init__(self, model: str, version: str) -> None:
        super().__init__(
            f"Some of the drawn predictions of model {model!r} {version} were requested or labelled "
            "at the same moment: nothing was stored, ask again."
        )


class SealedFileError(MonitorError):
    def __init__(self, model: str, version: str, name: str, problem: str) -> None:
        super().__init__(
            f"{name} of model {model!r} {version} cannot be read ({problem}): restore it from a backup."
        )


class ChampionChangedError(MonitorError):
    """Somebody else changed the deployment first."""

    def __init__(self, model: str, version: str) -> None:
        super().__init__(
            f"{model} {version} was not promoted: the champion changed meanwhile; look and try again."
        )


class ActionError(MonitorError):
    """What was asked for on the status page cannot be done now."""


class FormError(MonitorError):
    """A form was not sent by a page of this monitor, or cannot be read (`status`: 400, 403 or 413)."""

    def __init__(self, problem: str, status: int = 403) -> None:
        super().__init__(f"{problem} Go back, reload the page and try again.")
        self.status = status
