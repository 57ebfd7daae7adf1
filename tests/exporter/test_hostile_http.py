"""What a careless or hostile client can send: refused, and the exporter stays as it was."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from exporter.http.protocol import MAX_HEAD_BYTES
from tests.exporter.conftest import deploy_new_home
from tests.exporter.exporter_process import exporter_process

READ_S = 1.0
ASK = b'{"model": "router", "inputs": ["x"]}'
HEAD = b"POST /v1/predict HTTP/1.1\r\nhost: x\r\n"
MIB = 1 << 20


class Server:
    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url, self._process = url, process
        self._before = process.memory_info().rss

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        address = urlsplit(self.url)
        assert address.hostname is not None
        assert address.port is not None
        with socket.create_connection((address.hostname, address.port), timeout=15) as made:
            yield made

    def says(self, sent: bytes) -> bytes:
        """Everything that comes back until the server closes."""
        with self.connected() as made:
            made.sendall(sent)
            return received(made)

    def assert_well(self, grown: int = 40 * MIB) -> None:
        assert httpx.post(f"{self.url}/v1/predict", content=ASK).status_code == 200
        assert self._process.memory_info().rss - self._before < grown


def received(made: socket.socket) -> bytes:
    found = b""
    try:
        while chunk := made.recv(65536):
            found += chunk
    except ConnectionResetError:
        pass
    return found


def flood(made: socket.socket, piece: bytes) -> None:
    """100 MB of it."""
    for _ in range(100_000_000 // len(piece)):
        made.sendall(piece)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def code(answer: bytes) -> str:
    found: str = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"]
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = deploy_new_home(tmp_path_factory.mktemp("home"))
    with exporter_process(home, max_body_bytes=MIB, read_timeout_s=READ_S) as (process, url):
        httpx.post(f"{url}/v1/predict", content=ASK)
        yield Server(url, psutil.Process(process.pid))


def test_a_declared_body_of_100_mb_is_refused_unread(server: Server) -> None:
    answer = server.says(HEAD + b"content-length: 104857600\r\n\r\n" + b"x" * 1000)
    assert (status(answer), code(answer)) == (413, "body_too_large")
    server.assert_well()


def test_a_chunked_flood_of_100_mb_is_cut_off(server: Server) -> None:
    with server.connected() as made:
        made.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            flood(made, b"10000\r\n" + b"x" * 65536 + b"\r\n")
    server.assert_well()


def test_a_flood_of_tiny_chunks_is_cut_off(server: Server) -> None:
    with server.connected() as made:
        made.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            flood(made, b"1\r\nx\r\n" * 1000)
    server.assert_well()


@pytest.mark.parametrize(
    "begun", [HEAD, HEAD + b"content-length: 100\r\n\r\n{", b"POST"], ids=["head", "body", "method"]
)
def test_a_request_that_does_not_go_on_is_408(server: Server, begun: bytes) -> None:
    answer = server.says(begun)
    assert (status(answer), code(answer)) == (408, "timeout")


def test_a_body_that_trickles_is_408_all_the_same(server: Server) -> None:
    with server.connected() as made:
        made.sendall(HEAD + b"content-length: 100000\r\n\r\n")
        made.settimeout(0.05)
        answer, ends = b"", time.monotonic() + 10 * READ_S
        while not answer and time.monotonic() < ends:
            try:
                made.sendall(b" ")
                answer = made.recv(65536)
            except TimeoutError:
                continue
    assert status(answer) == 408


def test_a_connection_that_says_nothing_is_closed(server: Server) -> None:
    assert server.says(b"") == b""


@pytest.mark.parametrize(
    "piece", [b"x-a: " + b"y" * 8000 + b"\r\n", b"y" * 8000], ids=["many headers", "one header"]
)
def test_an_endless_head_is_431(server: Server, piece: bytes) -> None:
    with server.connected() as made:
        made.sendall(HEAD + b"x-b: ")
        try:
            for _ in range(MAX_HEAD_BYTES // 8000 * 8):
                made.sendall(piece)
        except OSError:
            pass
        answer = received(made)
    assert answer == b"" or status(answer) == 431  # a reset may overtake the answer
    server.assert_well()


@pytest.mark.parametrize(
    "piece", [b"x-a: " + b"y" * 8000 + b"\r\n", b"y" * 8000], ids=["many trailers", "one trailer"]
)
def test_endless_trailers_are_431(server: Server, piece: bytes) -> None:
    with server.connected() as made:
        made.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(ASK) + ASK)
        made.sendall(b"\r\n0\r\nx-b: ")
        with suppress(OSError):
            for _ in range(100_000_000 // len(piece)):
                made.sendall(piece)
        answer = received(made)
    assert answer == b"" or status(answer) == 431  # a reset may overtake the answer
    server.assert_well()


def test_a_trailer_is_passed_over_and_many_small_chunks_are_a_body(server: Server) -> None:
    with server.connected() as made:
        made.sendall(HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        for letter in ASK + b" " * 20:
            made.sendall(b"1;" + b"x" * 4000 + b"\r\n%c\r\n" % letter)
        made.sendall(b"0\r\nx-sum: 1\r\n\r\n")
        assert status(received(made)) == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-request-id: a\x00b\r\n\r\n",
        b"GET /\r\nx HTTP/1.1\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nxxxxx",
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"content-length: -5\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_is_400_in_the_same_form(server: Server, sent: bytes) -> None:
    answer = server.says(sent)
    assert status(answer) == 400
    assert code(answer) in {"invalid_http", "invalid_request"}


@pytest.mark.parametrize("given", ["a\tb", "é", "a b", "x" * 129, "<script>", "a%0d%0aset-cookie:x"])
def test_a_request_id_that_could_do_harm_is_not_echoed(server: Server, given: str) -> None:
    answer = httpx.get(f"{server.url}/healthz", headers={b"x-request-id": given.encode("latin-1")})
    assert len(answer.headers["x-request-id"]) == 32
    assert "set-cookie" not in answer.headers


PATHS = [
    "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
    "/v1/models/%2e%2e",
    "/v1/models/a%00b",
    "/v1/models/%ff%fe",
    "/v1/models/a%0d%0ax-injected:%20y",
    "/v1/models/" + "a" * 9000,
    "/v2/models/..%2fx/ready",
    "/docs/..%2fdocs.html",
    "/docs/../docs.html",
    "/docs/%2e%2e/schemas.py",
    "//etc/passwd",
    "/v1//models",
    "/v1/predict/",
]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_a_path_that_plays_tricks_is_404(server: Server, path: str) -> None:
    sent = f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = server.says(sent.encode())
    assert status(answer) == 404
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-injected" not in head
    assert b"root:" not in body


@pytest.mark.parametrize("name", ["../router", "router\x00", "router/../router", "a" * 257, "\r\nx-a: b"])
def test_a_model_name_that_plays_tricks_is_refused(server: Server, name: str) -> None:
    for path, content in (
        ("/v1/predict", {"inputs": ["x"]}),
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/decisions", {"input": "x", "questions": []}),
    ):
        answer = httpx.post(server.url + path, json={"model": name} | content)
        assert answer.status_code in {400, 404}
        assert "x-a" not in answer.headers


def test_deep_json_is_400_and_costs_nothing(server: Server) -> None:
    for opened in (b"[", b'{"a":'):
        answer = httpx.post(f"{server.url}/v1/predict", content=opened * 150_000)
        assert answer.status_code == 400
    server.assert_well()


def test_requests_in_one_piece_are_answered_in_their_order(server: Server) -> None:
    asked = b"".join(
        HEAD + b"x-request-id: r%d\r\ncontent-length: %d\r\n%s\r\n" % (number, len(ASK), last) + ASK
        for number, last in enumerate([b"", b"", b"connection: close\r\n"])
    )
    answer = server.says(asked)
    assert [answer.find(b"x-request-id: r%d" % number) > 0 for number in range(3)] == [True] * 3
    assert answer.find(b": r0") < answer.find(b": r1") < answer.find(b": r2")


def test_a_client_that_goes_away_is_counted_and_harms_nobody(server: Server) -> None:
    for _ in range(20):
        with server.connected() as made:
            made.sendall(HEAD + b"content-length: 100\r\n\r\n{")
    server.assert_well()
    metrics = httpx.get(f"{server.url}/metrics").text
    assert 'trueup_requests_total{route="/v1/predict",status="499"}' in metrics
    assert 'status="500"' not in metrics


def test_a_client_that_takes_no_answer_is_left(server: Server) -> None:
    asked = 2000
    with socket.socket() as made:
        made.settimeout(15)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        address = urlsplit(server.url)
        made.connect((address.hostname, address.port))
        made.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * asked)
        time.sleep(READ_S + 1)
        assert 0 < received(made).count(b"HTTP/1.1 200") < asked
    server.assert_well()
