"""What a decoder of 135M learns of the house format on one thread, and what a LoRA retrain brings back.

Usage: python -m tests.benchmarks.llm_task FOLDER [--rows N] [--asked N]
FOLDER is SmolLM2-135M-Instruct as a Transformers folder. One JSON line a stage: before, trained, drifted,
recovered; accuracy is the share of greedy answers that equal the wanted JSON, character for character.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monitor.demo import house
from monitor.demo.mail import Mail, Streams, load_streams
from trainer.generation.decoder import Decoder, load_decoder
from trainer.generation.evaluate import answered, losses
from trainer.generation.generate import greedy
from trainer.generation.rows import Chat
from trainer.generation.tune import tune
from trainer.settings import default_cache

FIT = house.FIT.model_copy(update={"threads": 1})


def main() -> None:
    """Print the four stages."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=house.TRAINED)
    parser.add_argument("--asked", type=int, default=200)
    given = parser.parse_args()
    streams = load_streams(default_cache(), seed=0)
    old, new = streams.clean[: given.asked], streams.drifted[: given.asked]
    bare = load_decoder(given.folder, precision=FIT.precision)
    say("before", figures(bare, old, house.OLD))
    first = trained("trained", given.folder, house.rows(house.wanted(streams.train[: given.rows], house.OLD)))
    say("old mail", figures(first, old, house.OLD))
    say("new mail, same desks", figures(first, new, house.OLD))
    say("drifted", figures(first, new, house.REORGANISED))
    second = trained("retrained", given.folder, fresh(streams))
    say("recovered", figures(second, new, house.REORGANISED))


def fresh(streams: Streams) -> list[Chat]:
    """What the retrain learns from: corrected answers, and old mail as it was asked."""
    corrected = house.wanted(streams.fresh[: house.RETRAINED], house.REORGANISED)
    old = house.wanted(streams.train[: house.REPLAYED], house.OLD)
    return house.rows(corrected, origin="traffic") + house.rows(old)


def trained(stage: str, folder: Path, rows: Sequence[Chat]) -> Decoder:
    """A fresh adapter on the base, fitted to rows; prints what it cost."""
    began = time.process_time()
    done = tune(folder, rows, [], FIT)
    seconds = time.process_time() - began
    say(
        stage,
        {
            "rows": done.rows,
            "steps": done.fit.steps,
            "cpu_s": round(seconds, 1),
            "tokens_per_cpu_s": round(done.fit.tokens / seconds),
        },
    )
    return done.decoder


def figures(decoder: Decoder, mails: Sequence[Mail], asking: house.House) -> dict[str, Any]:
    """Greedy answers against the wanted ones."""
    rows = house.rows(house.wanted(mails, asking))
    began = time.process_time()
    found = answered(greedy(decoder, rows, new_tokens=12), rows, schema=house.schema(asking))
    took = time.process_time() - began
    return found | {"loss": losses(decoder, rows)["loss"], "cpu_s": round(took, 1)}


def say(stage: str, found: Mapping[str, Any]) -> None:
    print(json.dumps({"stage": stage} | dict(found)), flush=True)


if __name__ == "__main__":
    main()
