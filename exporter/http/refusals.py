"""Every error in one envelope: {"error": {"message", "type", "param", "code"}}, and nothing internal in it.

Under /v2 `error` is the message itself, with the rest beside it: the Open Inference Protocol says so, and
tritonclient fails on an object.
"""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from exporter.errors import (
    AccessUnavailableError,
    BusyError,
    ClientDeadlineError,
    DeadlineError,
    EngineFailedError,
    ExporterError,
    ForbiddenError,
    LedgerWriteError,
    QueueFullError,
    RateLimitError,
    RequestError,
    StoppingError,
    UnauthorizedError,
    UnknownModelError,
)
from exporter.http.asgi import Answer, ErrorForm, Headers, json_answer

# Status, code, param.
_ANSWERS: dict[type[Exception], tuple[int, str, str | None]] = {
    UnauthorizedError: (401, "invalid_api_key", None),
    ForbiddenError: (403, "missing_role", None),
    UnknownModelError: (404, "model_not_found", "model"),
    QueueFullError: (429, "queue_full", None),
    RateLimitError: (429, "rate_limit_exceeded", None),
    BusyError: (503, "busy", None),
    AccessUnavailableError: (503, "keys_unavailable", None),
    ClientDeadlineError: (503, "deadline_exceeded", None),
    DeadlineError: (503, "deadline_exceeded", None),
    StoppingError: (503, "stopping", None),
    LedgerWriteError: (503, "ledger_unavailable", None),
    EngineFailedError: (500, "engine_failed", None),
}
_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_NO_RETRY = ((b"x-should-retry", b"false"),)  # it would fail again; OpenAI's client asks three times
_CLOSE = ((b"connection", b"close"),)  # the rest of the body is not read

_log = structlog.get_logger()


def refusal(error: Exception, form: ErrorForm, request_id: str) -> Answer:
    """The answer to a request that failed; what nobody foresaw is logged with its request id."""
    if isinstance(error, RequestError):
        headers = _CLOSE if error.status == 413 else ()
        return error_answer(error.message, error.status, error.code, error.param, form=form, headers=headers)
    if isinstance(error, SQLAlchemyError):
        _log.error("database_failed", error=type(error).__name__, request=request_id)
        return _later(
            error_answer("The database does not answer.", 503, "database_unavailable", form=form), 1.0
        )
    if isinstance(error, ExporterError):
        return _failed(error, form)
    _log.error("request_failed", request=request_id, exc_info=error)
    message = "Something unforeseen happened; the log has the cause."
    return error_answer(message, 500, "internal", form=form, headers=_NO_RETRY)


def error_answer(
    message: str,
    status: int,
    code: str,
    param: str | None = None,
    *,
    form: ErrorForm = "object",
    headers: Headers = (),
) -> Answer:
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    rest: dict[str, Any] = {"type": kind, "param": param, "code": code}
    content = {"error": message, **rest} if form == "text" else {"error": {"message": message, **rest}}
    return json_answer(content, status, headers)


def _failed(error: ExporterError, form: ErrorForm) -> Answer:
    status, code, param = _ANSWERS.get(type(error), (500, "internal", None))
    message = "The ledger cannot be written." if isinstance(error, LedgerWriteError) else str(error)
    answer = error_answer(message, status, code, param, form=form)
    if status == 401:
        answer.headers += ((b"www-authenticate", b'Bearer realm="trueup"'),)
    if status == 500:
        answer.headers += _NO_RETRY
    if isinstance(error, RateLimitError):
        return _later(answer, error.retry_s)
    return _later(answer, 1.0) if status in {429, 503} else answer


def _later(answer: Answer, seconds: float) -> Answer:
    answer.headers += ((b"retry-after", b"%d" % max(1, -int(-seconds // 1))),)
    return answer
