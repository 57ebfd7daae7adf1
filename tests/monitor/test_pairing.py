from __future__ import annotations

from monitor.compose import Pairing


def test_only_classes_that_the_sealed_version_has_are_said_to_be_learnt() -> None:
    pairing = Pairing(
        parent="v1", base_rows=1, recent_ids=(), labels_used=1, new_classes=("crypto", "dropped")
    )
    assert pairing.notes(["yes", "no", "crypto"]) == ("Learns new classes: 'crypto'.",)
    assert pairing.notes(["yes", "no"]) == ()
