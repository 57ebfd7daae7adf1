"""`--explain`: every value, and the line, variable or default that it came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.errors import SpecError
from trainer.origins import explain, lines_of
from trainer.spec import load_spec

SPEC = """# a comment
[model]
name = "router"

[data]
sql = '''
select text, label
from mail
'''
database_url = "postgresql://ann:s3cret@db/mail"
on_finding = {leakage = "drop", rare_classes = "refuse"}
[fit]
rung = "head"
seed = 7
"""


def test_every_value_has_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "router.toml"
    path.write_text(SPEC, encoding="utf-8")
    found = {one.key: one for one in explain(path, {"TRUEUP__FIT__SEED": "9", "TRUEUP__HOME": "x"})}
    assert (found["fit.rung"].value, found["fit.rung"].origin) == ("head", f"{path}, line 13")
    assert (found["fit.seed"].value, found["fit.seed"].origin) == (9, "environment, TRUEUP__FIT__SEED")
    assert (found["fit.epochs"].value, found["fit.epochs"].origin) == (1, "default")
    assert found["data.sql"].origin.endswith("line 6")
    assert found["data.on_finding.rare_classes"].value == "refuse"
    assert found["data.on_finding.leakage"].origin.endswith("line 11")
    assert found["data.on_finding.imbalance"].origin == "default"
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("TRUEUP__FIT__LEARNING_RAT", "1", "unknown key.*Did you mean 'learning_rate'"),
        ("TRUEUP__FIT__EPOCHS", "many", "fit.epochs"),
        ("TRUEUP__DATA__ON_FINDING", "{", "not JSON"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "router.toml"
    path.write_text(SPEC, encoding="utf-8")
    with pytest.raises(SpecError, match=problem):
        load_spec(path, {variable: value})


def test_a_wrong_key_is_answered_with_the_one_that_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "router.toml"
    path.write_text(SPEC.replace("seed", "sed"), encoding="utf-8")
    with pytest.raises(SpecError, match=r"unknown key.*Did you mean 'seed'\?"):
        load_spec(path)


def test_lines_of_dotted_and_quoted_keys() -> None:
    assert lines_of('a.b = 1\n"c d" = [\n 1,\n]\n[e]\nf = 2') == {"a.b": 1, "c d": 2, "e.f": 6}
