"""A closed-loop HTTP client over raw sockets: cheap enough to share two cores with the server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass(slots=True)
class Load:
    """What `clients` saw. `cut` requests got no answer at all: the connection ended before its first byte."""

    answered: list[tuple[str, str]] = field(default_factory=list)  # (prediction id, text)
    versions: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failed: list[tuple[int, bytes]] = field(default_factory=list)
    cut: int = 0


async def clients(
    url: str, number: int, text: Callable[[], str], load: Load, *, stop: asyncio.Event, model: str = "router"
) -> None:
    """`number` clients, one request at a time each, until `stop` or until the server is gone.

    A client whose server answers `connection: close` opens another connection; it repeats no request.
    """
    await asyncio.gather(*(_client(url, text, load, stop, model) for _ in range(number)))


async def post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, content: object
) -> tuple[int, bytes]:
    """Status and body; `writer` is closed where the server asks for it."""
    body = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    content = await reader.readexactly(length)
    if b"connection: close" in lines:
        writer.close()
    return int(lines[0].split()[1]), content


async def _client(url: str, text: Callable[[], str], load: Load, stop: asyncio.Event, model: str) -> None:
    address = urlsplit(url)
    while not stop.is_set():
        try:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
        except OSError:
            return
        try:
            while not (stop.is_set() or writer.is_closing()):
                await _request(reader, writer, text(), load, model)
        except (OSError, asyncio.IncompleteReadError):
            load.cut += 1
            return
        finally:
            writer.close()


async def _request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str, load: Load, model: str
) -> None:
    started = time.perf_counter()
    status, body = await post(reader, writer, "/v1/predict", {"model": model, "inputs": [text]})
    load.seconds.append(time.perf_counter() - started)
    if status != 200:
        load.failed.append((status, body))
        return
    answer: dict[str, Any] = json.loads(body)
    load.answered.append((answer["predictions"][0]["id"], text))
    load.versions.append(answer["version"])
