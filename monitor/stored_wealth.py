"""A bettor's wealth as JSON, between two checks; what an earlier release stored is read too."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from monitor.errors import StoredWealthError
from monitor.pager import Wealth, new_wealth
from monitor.ranks import Floats


def to_json(wealth: Wealth) -> dict[str, Any]:
    """Return the state of one stream as JSON; `from_json` gives the same wealth back, to the last bit."""
    return {
        "format": 2,
        "bet": wealth.bet,
        "m": _packed(np.array(wealth.m), "<i4"),
        "strata": len(wealth.m),
        "urn": _packed(wealth.urn, "<i4"),
        "bases": _packed(wealth.bases, "<i4"),
        "ratios": _packed(wealth.ratios, "<f8"),
        "priors": wealth.priors.tolist(),
        "cash": float(wealth.cash) if np.isfinite(wealth.cash) else None,
        "windows": wealth.windows,
        "unspent": wealth.unspent,
    }


def from_json(state: dict[str, Any]) -> Wealth:
    """Read `to_json`'s state; raises StoredWealthError for anything else."""
    if state.get("format") not in (1, 2):
        raise StoredWealthError(f"format {state.get('format')!r} instead of 2")
    try:
        return _from_first_format(state) if state["format"] == 1 else _from_json(state)
    except (KeyError, TypeError, ValueError, zlib.error) as problem:
        raise StoredWealthError(str(problem)) from problem


def _from_json(state: dict[str, Any]) -> Wealth:
    strata = int(state["strata"])
    gaps = _unpacked(state["m"], "<i4").reshape(strata, -1)
    fresh = new_wealth(gaps.astype(int).tolist(), state["bet"])
    starts = len(state["priors"])
    return replace(
        fresh,
        urn=_unpacked(state["urn"], "<i4").reshape(fresh.urn.shape),
        bases=_unpacked(state["bases"], "<i4").reshape(starts, *fresh.urn.shape),
        ratios=_unpacked(state["ratios"], "<f8").reshape(starts, fresh.ratios.shape[-1]),
        priors=np.array(state["priors"], dtype=np.float64),
        cash=np.array(-np.inf if state["cash"] is None else state["cash"]),
        windows=int(state["windows"]),
        unspent=float(state["unspent"]),
    )


def _from_first_format(state: dict[str, Any]) -> Wealth:
    """Without strata and tilts: its starts are cashed, so that nothing is lost and nothing is spent twice."""
    fresh = new_wealth(state["m"], state["bet"])
    held = np.array([-np.inf if state["cash"] is None else state["cash"]])
    live = np.array(state["priors"], dtype=np.float64) + np.array(state["wealths"], dtype=np.float64)
    return replace(
        fresh,
        urn=np.array(state["urn"], dtype=np.float64).reshape(fresh.urn.shape),
        cash=np.logaddexp.reduce(np.concatenate([held, live])),
        windows=int(state["windows"]),
        unspent=float(state["unspent"]),
    )


def _packed(values: Any, kind: str) -> str:
    return base64.b64encode(zlib.compress(np.asarray(values).astype(kind).tobytes(), 1)).decode()


def _unpacked(text: str, kind: str) -> Floats:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=kind).astype(np.float64)
