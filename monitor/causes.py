"""What a check means for the alert episodes: one signal for every cause that was looked at."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection

from monitor import episodes, history, notices, policy
from monitor.episodes import Signal
from monitor.evidence import Evidence, weighted

_RISING = 0.5  # of the page line: an episode is pending


def observe_causes(
    connection: Connection,
    model: str,
    version: str,
    found: Sequence[Evidence],
    situation: policy.Situation,
    decision: policy.Decision,
    *,
    looked_at: Sequence[str],
    onset: int,
    now: float,
) -> None:
    """Move the episode of each cause; `onset` (`predictions.seq`) is kept from when one opens."""
    detail = {
        "reasons": list(decision.reasons),
        "evidence": {one.detector: {"effect": one.effect, "p_value": one.p_value} for one in found},
    }
    moves = signals(
        situation.log_es,
        situation.log_page_line,
        looked_at=looked_at,
        paged=decision.causes,
        slice_keys=situation.slice_keys,
    )
    for cause, signal in moves.items():
        known = episodes.find_open(connection, model, cause)
        began = {} if known and "onset_seq" in known.detail else {"onset_seq": onset}
        episodes.observe(
            connection,
            model=model,
            version=version,
            cause=cause,
            signal=signal,
            lasting=not cause.startswith("threshold:"),
            detail=detail | began,
            now=now,
        )
    if _mended(connection, model, found):
        settle(connection, model, reason="requests fail no more often than is tolerated", now=now)
    else:
        notices.note(connection, model, now=now)


def drop_unasked(connection: Connection, model: str, configured: Collection[str], now: float) -> None:
    """Resolve the episodes of thresholds that the user has taken out: no check would look at them again."""
    for episode in episodes.list_open(connection, model):
        kind, _, metric = episode.cause.partition(":")
        if kind == "threshold" and metric not in configured:
            why = "the threshold is configured no more"
            episodes.resolve(connection, model, reason=why, now=now, cause=episode.cause)


def _mended(connection: Connection, model: str, found: Sequence[Evidence]) -> bool:
    """Whether failing requests were all that alerted, and fail no more: no promotion would end that.

    The pager is ended with it, so that the next page is paid from the next pager's alpha.
    """
    clean = any(one.detector == "error_rate" and one.effect is not None and one.effect <= 0 for one in found)
    open_ = [episode.cause for episode in episodes.list_open(connection, model)] if clean else []
    return open_ == ["error_rate"]


def signals(
    log_es: Mapping[str, float],
    log_page_line: float,
    *,
    looked_at: Sequence[str],
    paged: Sequence[str],
    slice_keys: int = 0,
) -> dict[str, Signal]:
    """The signal of every cause: "page" as decided, "rising" from half the page line on, otherwise "quiet".

    >>> signals({"accuracy": 0.0, "similarity": 4.0}, 5.0, looked_at=["share"], paged=[])
    {'accuracy': 'quiet', 'drift': 'rising', 'threshold:share': 'quiet'}
    """
    moves: dict[str, Signal] = {f"threshold:{name}": "quiet" for name in looked_at}
    for detector, log_e in log_es.items():
        cause = policy.cause_of(detector)
        if weighted(detector, log_e, slice_keys) >= _RISING * log_page_line:
            moves[cause] = "rising"
        moves.setdefault(cause, "quiet")
    moves |= dict.fromkeys(paged, "page")
    return dict(sorted(moves.items()))


def settle(connection: Connection, model: str, *, reason: str, now: float) -> None:
    """Resolve the model's episodes and end its pager: another version answers from now on."""
    episodes.resolve(connection, model, reason=reason, now=now)
    notices.note(connection, model, now=now)
    history.end_pager(connection, model, now)
