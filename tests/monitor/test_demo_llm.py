"""The demo of a language model, played with a tiny one: it pages, retrains and swaps by itself."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path

from monitor.demo import house
from monitor.demo.chat import ChatClient
from monitor.demo.drive import play, prepare
from monitor.demo.mail import Mail, Streams
from monitor.demo.piece import Piece
from monitor.demo.processes import Children
from monitor.demo.story import Story, summary
from tests.decoders import tiny_llama
from trainer.generation.json_answers import follows

NAMES = [
    a + b + c for a, b, c in product(("bo", "ka", "mi", "lu", "re", "to"), "aeiou", ("n", "sk", "ra", "ty"))
]
ROWS = 40  # of a window
LIMITS = """\
min_labels = 60
margin = 0.3
"""
SPEC = """
[model]
name = "house"
task = "text-generation"
base = "{base}"
max_tokens = 96

[data]
train = "train.jsonl"
holdout = "holdout.jsonl"
on_finding = {{ leakage = "ignore", near_duplicate_prompts = "ignore", exact_duplicates = "ignore" }}

[fit]
start = "parent"
threads = 1

[generation]
max_tokens = 90
epochs = {epochs}
learning_rate = 0.007
batch_tokens = 400
pass_tokens = 400
answer_tokens = 8
patience = 0
"""


def tiny(base: Path) -> Piece:
    """Old questions are answered "home", new ones "away"."""
    tiny_llama(base)
    old = [Mail(f"where is {name}", '"home"', "?") for name in NAMES]
    new = [Mail(f"find {name}", '"away"', "!") for name in NAMES]
    return Piece(
        model="house",
        spec=SPEC.format(base=base, epochs=40),
        limits=LIMITS,
        window=ROWS,
        label_share=0.95,
        drifted_windows=2,
        streams=Streams(
            train=old[:8],
            holdout=old[8:48],
            clean=old[48:88],
            old_after=old[88:],
            drifted=new[:90],
            fresh=new[90:],
        ),
        row=house.conversation,
        client=partial(ChatClient, reads={"?": follows({"const": "home"}), "!": follows({"const": "away"})}),
    )


def test_the_demo_pages_retrains_and_swaps_a_language_model_by_itself(tmp_path: Path) -> None:
    demo = prepare(tmp_path / "demo", tmp_path / "cache", tiny(tmp_path / "base"))
    story, children, told = (
        Story(stages=house.STAGES, shown=house.SHOWN),
        Children(demo.config, tmp_path / "logs"),
        [],
    )
    try:
        play(demo, story, lambda stage, _: told.append(stage), children=children)
    finally:
        children.stop()
    seen = summary(story, seconds=1.0, peak_rss_mb=1.0)
    assert seen["validity"]["drifted"] < 0.5 < seen["validity"]["recovered"]
    assert seen["accuracy"]["recovered"] >= seen["accuracy"]["drifted"] + 0.15
    assert (seen["pages_before_shift"], seen["failed_requests"]) == (0, 0)
    assert seen["windows_to_page"] in (1, 2)
    assert seen["versions"] == ["v1", "v2"]
    assert set(told) <= {*house.STAGES}
