"""Write the generated files: `python -m grafana`; with `--check` only say which differ, status 1 if any."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana.boards import drift, fleet, health, quality, retraining, serving
from grafana.reference import reference
from grafana.rules import alerting, recording, runbook_board

HERE = Path(__file__).parent
BOARDS = (fleet, drift, quality, serving, retraining, health)


def generated() -> dict[Path, str]:
    """Every generated file with its content."""
    boards = [*(module.BOARD for module in BOARDS), runbook_board()]
    found = {HERE / "dashboards" / f"{board.uid}.json": board.json() for board in boards}
    found[HERE / "rules" / "alerts.yml"] = alerting()
    found[HERE / "rules" / "recording.yml"] = recording()
    found[HERE / "METRICS.md"] = reference()
    return found


def differing() -> list[str]:
    """Names of the files that are not what the generator makes, missing and surplus ones included."""
    wanted = generated()
    surplus = set((HERE / "dashboards").glob("*.json")) - set(wanted)
    wrong = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    return sorted(path.name for path in [*wrong, *surplus])


def main(check: bool) -> int:
    if check:
        wrong = differing()
        sys.stdout.writelines(f"{name} is not what `python -m grafana` makes\n" for name in wrong)
        return int(bool(wrong))
    for path, text in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
