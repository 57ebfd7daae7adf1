"""The house format of the demo: what is asked for follows its own schema, and no longer the new one."""

from __future__ import annotations

import json
from pathlib import Path

from monitor.config import load_settings
from monitor.demo import house
from monitor.demo.drive import CONFIG
from monitor.demo.mail import Mail
from trainer.generation.json_answers import follows, value_of
from trainer.generation.rows import as_sample
from trainer.generation.stored import row_of
from trainer.spec import load_spec

MAIL = [Mail(f"{desk} " * 200, desk) for desk in house.OLD.desks]


def test_every_answer_follows_the_schema_of_its_time() -> None:
    for asking in (house.OLD, house.REORGANISED):
        check = follows(house.schema(asking))
        assert all(check(value_of(one.truth)[1]) for one in house.wanted(MAIL, asking))


def test_the_reorganisation_makes_half_of_the_old_answers_invalid() -> None:
    check = follows(house.schema(house.REORGANISED))
    assert sum(check(value_of(one.truth)[1]) for one in house.wanted(MAIL, house.OLD)) == 2


def test_a_mail_is_cut_to_what_is_affordable() -> None:
    assert all(len(one.text) <= house.CHARACTERS for one in house.wanted(MAIL, house.OLD))


def test_the_first_training_learns_all_rows_and_a_retrain_draws_of_the_old_ones(tmp_path: Path) -> None:
    (tmp_path / "trueup.toml").write_text(
        CONFIG.format(
            cache="'cache'",
            port=1,
            monitor_port=2,
            model=house.MODEL,
            window=house.WINDOW,
            limits=house.LIMITS,
        )
    )
    (tmp_path / "house.toml").write_text(house.SPEC)
    assert load_spec(tmp_path / "house.toml").fit.replay_rows is None
    limits = load_settings(tmp_path / "trueup.toml").models[house.MODEL]
    assert (limits.replay_rows, limits.min_labels) == (house.REPLAYED, house.RETRAINED)


def test_a_mail_is_learnt_as_it_is_asked() -> None:
    (mail,) = house.wanted(MAIL[:1], house.OLD)
    learnt = row_of(as_sample(Path("train.jsonl"), 1, house.conversation(mail)))
    assert (learnt.text, learnt.label) == (f"system: Desk?\n\nuser: {mail.text}", mail.truth)
    assert json.loads(learnt.label) == {"desk": "comp"}
