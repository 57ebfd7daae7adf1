"""`trueup monitor` whose training takes for ever: for tests that stop it."""

from __future__ import annotations

import time
from typing import NoReturn

from monitor import retrain
from monitor.cli import main
from monitor.jobs import Job
from monitor.retrain import Workshop


def _train(shop: Workshop, job: Job) -> NoReturn:
    while True:
        retrain._beat(shop, job, {"stage": "fit"})
        time.sleep(0.05)


if __name__ == "__main__":
    retrain._train = _train
    main()
