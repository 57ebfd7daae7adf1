from __future__ import annotations

import contextlib
import http.server
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.demo import house
from monitor.demo.chat import ChatClient
from monitor.demo.client import Client
from monitor.demo.drive import NotOurFolderError, _empty
from monitor.demo.mail import Mail
from monitor.demo.story import Served, Story, summary
from trainer.generation.json_answers import follows


class Flaky(http.server.BaseHTTPRequestHandler):
    """Answers every request but those that hold the word "fail"."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = [one["content"] for one in body.get("messages", [])]
        if "fail" in [*body.get("inputs", []), *said]:
            self.send_error(503)
            return
        reply: dict[str, object] = {"stored": len(body.get("labels", []))}
        if "inputs" in body:
            reply = {"version": "v1", "predictions": [{"id": text, "label": "a"} for text in body["inputs"]]}
        if said:
            reply = {
                "id": said[1],
                "system_fingerprint": "v1",
                "choices": [{"message": {"content": said[1]}}],
            }
        content = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_the_client_counts_each_failed_request_once_and_goes_on(port: int) -> None:
    client = Client(port, "m")
    answered = client.answer([Mail(f"{n}", "ab"[n % 2]) for n in range(15)])
    assert [one.right for one in answered] == [n % 2 == 0 for n in range(15)]
    assert client.answer([Mail("fail", "a")]) == []
    assert client.label(answered, share=1.0, order=random.Random(0)) == 15
    assert (client.failed, client.requests) == (1, 4)
    client.close()


def test_a_language_model_is_asked_a_mail_at_a_time_and_its_json_held_to_the_schema_of_the_question(
    port: int,
) -> None:
    reads = {one.instruction: follows(house.schema(one)) for one in (house.OLD, house.REORGANISED)}
    with contextlib.closing(ChatClient(port, "m", reads=reads)) as client:
        old, new = (one.instruction for one in (house.OLD, house.REORGANISED))
        comp, words = '{"desk": "comp"}', "the desk is comp"
        mail = [Mail(comp, comp, old), Mail(comp, comp, new), Mail(words, comp, old), Mail("fail", "", old)]
        answered = client.answer(mail)
    assert [(one.right, one.valid) for one in answered] == [(True, True), (True, False), (False, False)]
    assert (client.failed, client.requests) == (1, 4)


def test_the_demo_empties_only_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(NotOurFolderError):
        _empty(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
    _empty(tmp_path / "new")
    (tmp_path / "new" / "left").touch()
    _empty(tmp_path / "new")
    assert not (tmp_path / "new" / "left").exists()


def test_the_summary_weighs_windows_by_their_rows() -> None:
    story = Story(versions=["v1", "v2"])
    story.served = [
        Served("clean", 100, 95, "v1"),
        Served("clean", 300, 270, "v1"),
        Served("drifted", 10, 5, "v1"),
        Served("drifted", 10, 10, "v2"),
        Served("fresh", 4, 3, "v2"),
    ]
    assert summary(story, seconds=1.0, peak_rss_mb=2.0)["accuracy"] == {
        "before": 0.9125, "drifted": 0.5, "recovered": 0.75, "old_traffic_after": None,
    }  # fmt: skip
    assert "validity" not in summary(story, seconds=1.0, peak_rss_mb=2.0)


def test_the_summary_tells_how_many_answers_could_be_used_where_that_is_a_question() -> None:
    story = Story(versions=["v1", "v2"])
    story.served = [Served("clean", 4, 3, "v1", valid=4), Served("drifted", 4, 1, "v1", valid=2)]
    assert summary(story, seconds=1.0, peak_rss_mb=2.0)["validity"] == {
        "before": 1.0, "drifted": 0.5, "recovered": None, "old_traffic_after": None,
    }  # fmt: skip
