from __future__ import annotations

import io
import re
from typing import Any

import pytest
from PIL import Image

from monitor.message import compose, paragraphs, plain
from monitor.notices import Notice
from monitor.picture import draw

EVIL = '<script>alert(1)</script> <!channel> @everyone [x](https://evil.example) & "q"'
FACTS: dict[str, Any] = {
    "model": "router",
    "version": "v1",
    "kind": "firing",
    "causes": ["class_mix", "drift"],
    "since": 1.7e9,
    "reasons": ["The pager proved a change (drift)."],
    "moved": {
        "share": 0.31,
        "rising": ["crypto", "wallet"],
        "falling": ["card"],
        "slices": [{"key": "desk", "value": EVIL, "what": "accuracy", "before": 0.93, "now": 0.71}],
        "classes": [{"label": EVIL, "share": 0.8, "reference_share": 0.25}],
        "examples": [
            {"text": EVIL + " x" * 200, "label": "comp", "nearest_text": EVIL, "nearest_label": "comp"}
        ],
    },
    "sure": {
        "log_e": 11.5,
        "log_page_line": 8.5,
        "effects": [
            {"detector": "similarity", "effect": -0.41, "measure": "cliffs_delta", "p_value": 0.0003}
        ],
        "quality": {"state": "ok", "accuracy": 0.812, "lower": 0.78, "upper": 0.842, "labels": 120,
                    "rows": 1000},
        "holdout_accuracy": 0.93,
    },
    "next": ["A retrain waits for 140 labels: `trueup labels next 140` draws them."],
    "links": [{"name": "Status page", "url": "https://trueup.example.org/models/router"}],
    "series": [
        {"at": 1.7e9 + 300 * n, "accuracy": 0.9 - 0.01 * n, "lower": None, "upper": None, "share": 0.1 * n,
         "paged": n > 9}
        for n in range(12)
    ],
}  # fmt: skip
NOTICE = Notice(
    id=3, model="router", version="v1", kind="firing", group_id=7, causes=["class_mix", "drift"],
    dedupe_key="router:0", key="0f3c", created_at=1.7e9, content=FACTS, routed_at=1.7e9,
)  # fmt: skip


def test_a_message_says_what_moved_how_sure_and_what_happens_next() -> None:
    text = compose(NOTICE, FACTS).text
    for said in (
        "31 % of recent texts are unlike the training texts",
        "More often: crypto, wallet.",
        "accuracy 0.93 → 0.71",
        "Odds of 98,716 to 1 against luck",
        "similarity: cliffs delta -0.41, p = 0.0003.",
        "Accuracy 0.812 [0.780, 0.842], 120 labels of 1000 rows; 0.930 when it was sealed.",
        "A retrain waits for 140 labels",
        "Status page: https://trueup.example.org/models/router",
    ):
        assert said in text


def test_what_users_wrote_acts_nowhere() -> None:
    message = compose(NOTICE, FACTS)
    assert "<script" not in message.html
    assert not re.search(r"<!(?!doctype|--picture)", message.html)
    for live in ("<", "@e", "https://evil", "]("):
        assert live not in message.text
    assert len(message.text) < 3000


def test_a_doubtful_repetition_says_so_and_keeps_key_and_thread() -> None:
    first, again = compose(NOTICE, FACTS), compose(NOTICE, FACTS, doubtful=True)
    assert "may be a repetition" in again.text
    assert "may be a repetition" not in first.text
    assert (first.key, first.thread, first.title) == (again.key, again.thread, again.title)


def test_without_any_detail_there_is_still_a_message() -> None:
    bare = FACTS | {"moved": None, "sure": {}, "next": [], "reasons": [], "series": []}
    message = compose(NOTICE, bare)
    assert message.text.startswith("What happened\n- router v1, since 2023-11-14 22:13 UTC.")
    assert message.picture() is None


def test_a_recovery_says_what_it_was_and_why_it_ended() -> None:
    facts = FACTS | {"kind": "resolved", "moved": None, "next": [], "reasons": ["v2 was proven and promoted"]}
    text = plain(paragraphs(facts), facts["links"])
    assert "It was: the mix of classes changed, drift that costs accuracy." in text
    assert "V2 was proven and promoted." in text
    assert "luck" not in text


@pytest.mark.parametrize("points", [2, 12, 60])
def test_the_picture_is_small_light_and_drawn_without_a_display(points: int) -> None:
    series = [(FACTS["series"] * 5)[n] for n in range(points)]
    png = draw(series, title="router $v1_{x}$")
    assert png is not None
    assert len(png) < 60_000
    image = Image.open(io.BytesIO(png))
    assert image.size == (720, 672)
    assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)


def test_one_check_makes_no_picture() -> None:
    nothing = {"at": 0.0, "accuracy": None, "lower": None, "upper": None, "share": None, "paged": False}
    assert draw([FACTS["series"][0], nothing, nothing], title="router") is None
