"""`[fit] rung = "auto"`: the cheapest rung whose validated result the next one does not beat.

Rungs are climbed in the order of their cost; each is compared with the one below on the same validation
rows by McNemar's test (mid-p, one-sided: Fagerland, Lydersen, Laake 2013), and the climb ends where it does
not say that the dearer one is better, or with the budget.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.errors import BaseModelError, BudgetError
from trainer.fitting.checkpoint import Facts
from trainer.fitting.objective import right, row_losses
from trainer.fitting.phase import Outcome, Work, train_rung
from trainer.fitting.report import figures
from trainer.fitting.table import Deep

Array = np.ndarray[Any, np.dtype[Any]]

DEEP: tuple[Deep, ...] = ("layers", "adapter", "full")
SIGNIFICANT = 0.05
FEWEST = 20  # validation rows below which no comparison says anything


def climb(work: Work) -> tuple[Outcome | None, list[Facts], str]:
    """(the rung that won, None for the head; a report of every rung tried; why the climb ended)."""
    rows = work.parts.validation
    logits = work.head.logits(work.texts.frozen.embeddings[rows])
    hits = right(logits, work.texts.truth[rows])
    loss = float(row_losses(logits, work.texts.truth[rows]).mean()) if len(rows) else 0.0
    if len(rows) < FEWEST:
        return None, [{"rung": "head"}], f"not enough data: {len(rows)} validation rows, {FEWEST} needed"
    tried: list[Facts] = [{"rung": "head", "seconds": 0.0, "validation": figures(hits, loss)}]
    best: Outcome | None = None
    for rung in DEEP:
        if (left := work.left_s()) is not None and left <= 0:
            return best, tried, f"the budget was reached before {rung}"
        try:
            outcome = train_rung(work, rung, work.fit, rung)
        except BaseModelError as error:
            tried.append({"rung": rung, "refused": str(error)})
            continue
        except BudgetError:
            if best is None and len(tried) == 1:
                raise
            return best, tried, f"the budget was reached before {rung}"
        p = better_mid_p(hits, outcome.right)
        tried.append(outcome.report | {"better_mid_p": round(p, 5)})
        if p >= SIGNIFICANT:
            return best, tried, f"{rung} is not significantly better (mid-p {p:.2g}, {len(rows)} rows)"
        best, hits = outcome, outcome.right
    return best, tried, "it is the last rung"


def better_mid_p(ours: Array, theirs: Array) -> float:
    """One-sided mid-p that `theirs` is right more often, of two [rows] of right or wrong; 1 without evidence.

    >>> ours, theirs = np.array([True] + [False] * 8), np.array([False] + [True] * 8)
    >>> round(better_mid_p(ours, theirs), 5), better_mid_p(ours, ours)
    (0.01074, 1.0)
    """
    from scipy.stats import binom  # noqa: PLC0415  costs half a second

    lost, won = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if lost + won == 0:
        return 1.0
    return float(binom.sf(won, lost + won, 0.5) + binom.pmf(won, lost + won, 0.5) / 2)
