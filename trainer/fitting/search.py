"""`[fit] search_trials`: learning rate, dropout and weight decay by Optuna (Akiba et al. 2019).

A trial is a whole training, judged by its validation loss; its checkpoints replay it after a death, so that
the sampler sees what it had seen.
"""

from __future__ import annotations

from typing import Any

from trainer.errors import SpecError
from trainer.fitting.phase import Outcome, Work, train_rung
from trainer.fitting.rate import USUAL
from trainer.fitting.table import Deep


def searched(work: Work, rung: Deep) -> tuple[Outcome, list[dict[str, Any]]]:
    """(the trial with the lowest validation loss, what every trial came to)."""
    try:
        import optuna  # noqa: PLC0415  an extra
    except ImportError as error:
        mend = "Install trueup[search], or leave it out."
        raise SpecError("the spec", "fit.search_trials", "Optuna is not installed", mend) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=work.fit.seed))
    middle, told, best = USUAL[rung], [], None
    for number in range(work.fit.search_trials):
        if (left := work.left_s()) is not None and left <= 0:
            break
        trial = study.ask()
        chosen = {
            "learning_rate": trial.suggest_float("learning_rate", middle / 10, middle * 10, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.3),
            "weight_decay": trial.suggest_float("weight_decay", 1e-4, 0.1, log=True),
        }
        outcome = train_rung(work, rung, work.fit.model_copy(update=chosen), f"trial-{number}")
        loss = outcome.report["validation"]["loss"]
        study.tell(trial, loss)
        if best is None or loss < best.report["validation"]["loss"]:
            best = outcome
        told.append(chosen | {"validation_loss": loss, "seconds": outcome.report["seconds"]})
    assert best is not None
    return best, told
