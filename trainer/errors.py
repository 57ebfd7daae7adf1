"""What can go wrong while training, each with where it is and how to mend it."""

from __future__ import annotations

from pathlib import Path


class TrainerError(Exception):
    """Anything the trainer refuses to do."""


class DataError(TrainerError):
    """Training text that cannot be used; `line` counts from 1 and is None where the whole file is meant."""

    def __init__(self, file: str | Path, line: int | None, problem: str, mend: str) -> None:
        self.file, self.line, self.problem, self.mend = str(file), line, problem, mend
        where = f"{file}, line {line}" if line is not None else str(file)
        super().__init__(f"{where}: {problem}. {mend}")


class CellError(TrainerError):
    """A cell that cannot be used; whoever reads the row says where it is."""

    def __init__(self, problem: str, mend: str) -> None:
        self.problem, self.mend = problem, mend
        super().__init__(f"{problem}. {mend}")


class FindingError(TrainerError):
    """Data with faults that the spec refuses; `findings` are (kind, message)."""

    def __init__(self, findings: list[tuple[str, str]]) -> None:
        self.findings = findings
        told = "; ".join(f"{message} ({kind})" for kind, message in findings)
        first = findings[0][0]
        super().__init__(
            f"The training data are refused: {told}. Look with `trueup train SPEC --check-data`, "
            f'mend them, or say [data] on_finding.{first} = "drop" or "warn".'
        )


class SpecError(TrainerError):
    """A training spec that cannot be used; `key` is dotted, as in `fit.rung`."""

    def __init__(self, file: str | Path, key: str, problem: str, mend: str) -> None:
        self.file, self.key, self.problem, self.mend = str(file), key, problem, mend
        at = f"{file}, {key}" if key else str(file)
        super().__init__(f"{at}: {problem}. {mend}")


class RequestError(TrainerError):
    """A request file of the training child that cannot be read."""

    def __init__(self, file: str | Path, problem: str) -> None:
        super().__init__(f"{file}: {problem}. Write the request with trainer.train.write_request.")


class VersionRefusedError(TrainerError):
    """A version directory that is not exactly what was sealed."""

    def __init__(self, path: str | Path, why: str) -> None:
        self.path, self.why = str(path), why
        super().__init__(f"{path} is refused: {why}. Serve another version, or train this one again.")


class ParityError(TrainerError):
    """The exported graph does not answer as the trained model does."""

    def __init__(self, max_abs: float, allowed: float, agreement: float, required: float) -> None:
        super().__init__(
            f"The ONNX graph differs from the trained model: by up to {max_abs:.2e} (allowed {allowed:.2e}), "
            f"same label on {agreement:.2%} of the texts (required {required:.2%}). "
            "Raise [gate] parity_max_abs only if that difference is acceptable to you."
        )


class ExportError(TrainerError):
    """An encoder that cannot become an ONNX graph this way."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(
            f"The encoder cannot be exported to ONNX: {why}. Use an encoder of a plain architecture, such as "
            "BERT, RoBERTa or MiniLM."
        )


class CheckpointError(TrainerError):
    """A checkpoint that cannot be written, or that belongs to another training."""

    def __init__(self, path: str | Path, problem: str, mend: str) -> None:
        self.path, self.problem, self.mend = str(path), problem, mend
        super().__init__(f"The checkpoint {path}: {problem}. {mend}")


class BudgetError(TrainerError):
    """A budget in which not even one step can be taken."""

    def __init__(self, budget_s: float, step_s: float) -> None:
        super().__init__(
            f"the spec, fit.budget_s: {budget_s:g} s is less than one step takes here ({step_s:.2g} s). "
            "Raise it, lower [fit] batch_size, or choose a cheaper rung."
        )


class FleetError(RuntimeError):
    """A process of a training that several share is gone. No refusal: another attempt may do better."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"A process of this training ended or could not be reached ({why}). Train again: it goes on from "
            "its checkpoint. Where memory was short, lower [fit] processes."
        )


class TrackerError(TrainerError):
    """A tracker of training runs that cannot be reached, or whose package is missing."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"the spec, fit.tracker: {name} cannot be used ({why}). Install or correct it, or leave it out."
        )


class PausedError(TrainerError):
    """Somebody asked for a pause; the same request goes on from the checkpoint."""

    def __init__(self) -> None:
        super().__init__("The training was paused. Run the same request again: it goes on where it stood.")


class CancelledError(TrainerError):
    """Somebody asked for the end; nothing is kept."""

    def __init__(self) -> None:
        super().__init__("The training was cancelled. Nothing of it is kept.")


class DownloadError(TrainerError):
    """A package that could not be fetched through pip."""

    def __init__(self, package: str, reason: str) -> None:
        super().__init__(
            f"pip could not download {package}: {reason}. "
            "Check the package index, or put the wheel into the cache folder."
        )


class ChecksumError(TrainerError):
    """A file whose content is not the one that was reviewed."""

    def __init__(self, path: str | Path, expected: str, found: str) -> None:
        super().__init__(
            f"{path} has sha256 {found}, expected {expected}. Delete it; it will be fetched again."
        )


class BaseModelError(TrainerError):
    """An encoder that is missing, unsafe or of a kind that cannot be fine-tuned here."""

    def __init__(self, name: str | Path, why: str, mend: str) -> None:
        super().__init__(f"The base model {str(name)!r} cannot be used: {why}. {mend}")


class UnknownTaskError(TrainerError):
    """A task without a file in trainer/tasks."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"No task {name!r}. Known: {', '.join(known)}.")


class UnsupportedByTaskError(TrainerError):
    """Something that is not there for versions of a task."""

    def __init__(self, task: str, what: str) -> None:
        super().__init__(f"Not for [model] task = {task!r}: {what}.")
