"""An explanation as a page of its own, beside Evidently's in the folder of reports."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from monitor.explain import Explanation
from trainer.tabular import write_bytes

SUFFIX = ".explanation.html"


def write_page(explanation: Explanation, path: Path) -> None:
    """Write the page whole or not at all; every text in it is escaped, and it loads nothing."""
    html = _templates().get_template("explanation.html").render(e=explanation.to_json())
    write_bytes(path, html.encode())


@cache
def _templates() -> Environment:
    return Environment(loader=PackageLoader("monitor"), autoescape=True, undefined=StrictUndefined)
