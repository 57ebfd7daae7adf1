"""The house format of the demo: what is asked for follows its own schema, and no longer the new one."""

from __future__ import annotations

from monitor.demo import house
from monitor.demo.mail import Mail
from trainer.generation.json_answers import follows, value_of

MAIL = [Mail(f"{desk} " * 200, desk) for desk in house.DESKS]


def test_every_answer_follows_the_schema_of_its_time() -> None:
    for desks in (house.DESKS, house.REORGANISED):
        check = follows(house.schema(desks))
        assert all(check(value_of(row.answer)[1]) for row in house.rows(MAIL, desks))


def test_the_reorganisation_makes_half_of_the_old_answers_invalid() -> None:
    check = follows(house.schema(house.REORGANISED))
    assert sum(check(value_of(row.answer)[1]) for row in house.rows(MAIL)) == 2


def test_a_mail_is_cut_to_what_is_affordable() -> None:
    assert all(len(row.prompt) <= house.CHARACTERS for row in house.rows(MAIL))
