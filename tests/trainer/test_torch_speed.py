from __future__ import annotations

from pathlib import Path

import torch

from trainer.torch_speed import BATCH, torch_run


def test_the_encoder_reads_every_text_sorted_by_length(base: Path) -> None:
    ids = [[2, *([5] * size), 3] for size in (9, 1, 30, 2, 7, 7, 7, 7, 7, 7)]
    found = torch_run(base, ids, threads=1, way="eager")()
    assert isinstance(found, list)
    assert [len(part) for part in found] == [BATCH["cpu"], len(ids) - BATCH["cpu"]]
    alone = torch_run(base, [ids[1]], threads=1, way="eager")()
    assert isinstance(alone, list)
    torch.testing.assert_close(found[0][0], alone[0][0])
