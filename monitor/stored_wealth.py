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

FORMAT = 3
_COUNTS = "<i8"  # requests of a busy month do not fit into four bytes


def to_json(wealth: Wealth) -> dict[str, Any]:
    """Return the state of one stream as JSON; `from_json` gives the same wealth back, to the last bit."""
    return {
        "format": FORMAT,
        "bet": wealth.bet,
        "m": _packed(np.array(wealth.m), "<i4"),
        "strata": len(wealth.m),
        "urn": _packed(wealth.urn, _COUNTS),
        "bases": _packed(wealth.bases, _COUNTS),
        "ratios": _packed(wealth.ratios, "<f8"),
        "priors": wealth.priors.tolist(),
        "cash": float(wealth.cash) if np.isfinite(wealth.cash) else None,
        "windows": wealth.windows,
        "unspent": wealth.unspent,
    }


def from_json(state: dict[str, Any]) -> Wealth:
    """Read `to_json`'s state; raises StoredWealthError for anything else."""
    if state.get("format") not in (1, 2, FORMAT):
        raise StoredWealthError(f"format {state.get('format')!r} instead of {FORMAT}")
    try:
        return _from_first_format(state) if state["format"] == 1 else _from_json(state)
    except (KeyError, TypeError, ValueError, zlib.error) as problem:
        raise StoredWealthError(str(problem)) from problem


def _from_json(state: dict[str, Any]) -> Wealth:
    strata = int(state["strata"])
    gaps = _unpacked(state["m"], "<i4").reshape(strata, -1)
    fresh = new_wealth(gaps.astype(int).tolist(), state["bet"])
    starts = len(state["priors"])
    counts = _COUNTS if state["format"] == FORMAT else "<i4"
    held = replace(
        fresh,
        urn=_unpacked(state["urn"], counts).reshape(fresh.urn.shape),
        bases=_unpacked(state["bases"], counts).reshape(starts, *fresh.urn.shape),
        ratios=_unpacked(state["ratios"], "<f8").reshape(starts, -1 if starts else fresh.ratios.shape[-1]),
        priors=np.array(state["priors"], dtype=np.float64),
        cash=np.array(-np.inf if state["cash"] is None else state["cash"]),
        windows=int(state["windows"]),
        unspent=float(state["unspent"]),
    )
    if state["format"] == FORMAT and held.ratios.shape[-1] != fresh.ratios.shape[-1]:
        raise ValueError(f"{held.ratios.shape[-1]} tilts instead of {fresh.ratios.shape[-1]}")
    return held if state["format"] == FORMAT else _cashed(fresh, held, held.wealths)


def _from_first_format(state: dict[str, Any]) -> Wealth:
    fresh = new_wealth(state["m"], state["bet"])
    held = replace(
        fresh,
        urn=np.array(state["urn"], dtype=np.float64).reshape(fresh.urn.shape),
        priors=np.array(state["priors"], dtype=np.float64),
        cash=np.array(-np.inf if state["cash"] is None else state["cash"]),
        windows=int(state["windows"]),
        unspent=float(state["unspent"]),
    )
    return _cashed(fresh, held, np.array(state["wealths"], dtype=np.float64))


def _cashed(fresh: Wealth, held: Wealth, wealths: Floats) -> Wealth:
    """Stop the starts of an earlier release, whose tilts were others: nothing is lost or spent twice."""
    cash = np.logaddexp.reduce(np.concatenate([held.cash[None], held.priors + wealths]))
    return replace(held, bases=fresh.bases, ratios=fresh.ratios, priors=fresh.priors, cash=cash)


def _packed(values: Any, kind: str) -> str:
    return base64.b64encode(zlib.compress(np.asarray(values).astype(kind).tobytes(), 1)).decode()


def _unpacked(text: str, kind: str) -> Floats:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=kind).astype(np.float64)
