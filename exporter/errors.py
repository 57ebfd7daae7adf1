"""What can go wrong in the exporter, one small class per thing a caller can act on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class ExporterError(Exception):
    """Base of every error the exporter raises on purpose."""


class DatabaseUnreachableError(ExporterError):
    def __init__(self, url: str, why: object) -> None:
        super().__init__(
            f"The database {url} does not answer ({type(why).__name__}). Is the URL right and the server up?"
        )
        self.url = url


class DatabaseUrlError(ExporterError):
    def __init__(self, why: object) -> None:
        super().__init__(
            f"[exporter] database_url cannot be used ({why}). "
            "Write sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."
        )


class DatabaseNotReadyError(ExporterError):
    def __init__(self, url: str, missing: Sequence[str]) -> None:
        super().__init__(f"The database {url} lacks tables ({', '.join(missing)}). Run `trueup db upgrade`.")
        self.missing = tuple(missing)


class UnknownModelError(ExporterError):
    def __init__(self, model: str) -> None:
        super().__init__(f"No model {model!r} is served here.")
        self.model = model


class UnknownVersionError(ExporterError):
    def __init__(self, model: str, version: str) -> None:
        super().__init__(f"Model {model!r} has no version {version!r}.")


class RejectedVersionError(ExporterError):
    def __init__(self, model: str, version: str) -> None:
        super().__init__(f"Version {version!r} of model {model!r} was rejected; it cannot be promoted.")


class ChampionError(ExporterError):
    def __init__(self, model: str, version: str) -> None:
        super().__init__(
            f"Version {version!r} of model {model!r} is serving; promote another before rejecting it."
        )


class NothingToRollBackError(ExporterError):
    def __init__(self, model: str) -> None:
        super().__init__(f"Model {model!r} has no earlier version to go back to.")


class ModelNameError(ExporterError):
    def __init__(self, model: str) -> None:
        super().__init__(
            f"{model!r} cannot be a model's name: use 1-64 letters, digits, '.', '-' or '_', "
            "beginning with a letter or digit."
        )


class DeviceError(ExporterError):
    """An engine was asked for a device that this machine does not have."""

    def __init__(self, device: str, why: str) -> None:
        super().__init__(f'[exporter] device = "{device}", but {why}')


class TrialError(ExporterError):
    """A version that cannot be put on trial."""

    def __init__(self, model: str, version: str, why: str) -> None:
        super().__init__(f"{model!r} {version} cannot be put on trial: {why}.")


class NoEngineError(ExporterError):
    def __init__(self, path: Path, wanted: Sequence[str], known: Sequence[str]) -> None:
        super().__init__(f"{path} asks for the engines {list(wanted)}; this exporter has {list(known)}.")


class EngineFailedError(ExporterError):
    def __init__(self, model: str, version: str) -> None:
        super().__init__(f"The engine of {model!r} {version} failed on this request; the log has the cause.")


class QueueFullError(ExporterError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} texts are waiting already. Try again in a second.")


class RateLimitError(ExporterError):
    """`headers` say what is left, which is nothing."""

    def __init__(self, limit: int, retry_s: float, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        super().__init__(f"This key may send {limit} requests a minute.")
        self.retry_s, self.headers = retry_s, headers


class BusyError(ExporterError):
    def __init__(self) -> None:
        super().__init__("Too much is on its way already. Try again in a second.")


class DeadlineError(ExporterError):
    def __init__(self, deadline_s: float) -> None:
        super().__init__(f"The request waited longer than {deadline_s:g} s.")


class ClientDeadlineError(ExporterError):
    """The client's own deadline, not ours: nothing has failed."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"The request was not answered within the {timeout_s:g} s that it asked for.")


class StoppingError(ExporterError):
    def __init__(self) -> None:
        super().__init__("The exporter is shutting down.")


class LedgerWriteError(ExporterError):
    def __init__(self, folder: Path, why: OSError) -> None:
        super().__init__(
            f"The ledger in {folder} cannot be written ({why.strerror}); predictions wait until it can."
        )


class RedactPatternError(ExporterError):
    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"[exporter.redact] {name}: the pattern {why}.")


class MetadataKeyError(ExporterError):
    def __init__(self, key: str) -> None:
        super().__init__(f"{key!r} cannot be a key of metadata: it is empty or has a quote or backslash.")


class TracingMissingError(ExporterError):
    def __init__(self) -> None:
        super().__init__(
            "[exporter] otlp_endpoint is set, but OpenTelemetry is not installed: pip install 'trueup[otel]'"
        )


class RequestError(ExporterError):
    """A request that cannot be answered as it stands; `param` names the part at fault."""

    def __init__(
        self, message: str, param: str | None, *, status: int = 400, code: str = "invalid_request"
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.status, self.code = message, param, status, code


class UnauthorizedError(ExporterError):
    """Nobody is known by this `Authorization` header (401)."""


class ForbiddenError(ExporterError):
    """A known caller that may not do this (403); `roles` could."""

    def __init__(self, name: str, roles: Sequence[str]) -> None:
        needs = f": it needs the role {' or '.join(roles)}" if roles else ""
        super().__init__(f"{name} may not do this{needs}.")


class AccessUnavailableError(ExporterError):
    """The database that has the keys does not answer, and this one was not seen before (503)."""

    def __init__(self) -> None:
        super().__init__("Keys cannot be checked at the moment. Try again in a second.")


class OpenBindError(ExporterError):
    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} is reachable from other machines, and there are no keys yet: make one with "
            "`trueup keys create NAME --role ingest`, or bind 127.0.0.1."
        )


class TlsError(ExporterError):
    def __init__(self, why: str) -> None:
        super().__init__(f"[exporter] TLS: {why}. Give a PEM certificate and its key, or neither.")


class KeyNameError(ExporterError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} cannot be a key's name: use 1-63 lower-case letters, digits, '.', '-' or '_', "
            "beginning with a letter or digit."
        )


class KeyRoleError(ExporterError):
    def __init__(self, unknown: Sequence[str], known: Sequence[str]) -> None:
        wrong = f"{', '.join(unknown)}: no such role" if unknown else "A key needs a role"
        super().__init__(f"{wrong}. Roles are {', '.join(known)}.")


class KeyExistsError(ExporterError):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is a live key {name!r} already; `trueup keys rotate {name}` replaces it.")


class UnknownKeyError(ExporterError):
    def __init__(self, name: str) -> None:
        super().__init__(f"No live key has the name or prefix {name!r}; `trueup keys list` shows them.")


class InheritedSocketError(ExporterError):
    def __init__(self, family: int) -> None:
        super().__init__(
            f"The inherited socket is of family {family}, not IPv4 or IPv6. "
            "Give ListenStream= an address and a port, such as 127.0.0.1:8000."
        )


class AddressError(ExporterError):
    def __init__(self, host: str, port: int, why: OSError) -> None:
        super().__init__(f"Cannot listen on {host}:{port} ({why.strerror}). Choose another [exporter] port.")
