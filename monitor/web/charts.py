"""Geometry of the page's charts: numbers in, SVG paths out; no text is drawn: it would shrink with the width.

A chart is WIDTH by HEIGHT units, stretched by the browser to the room there is. Ticks are evenly spaced: the
page sets them beside the drawing as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from monitor.over_time import Point

WIDTH, HEIGHT = 640, 160
STRONGEST = 2.0  # page lines: what is beyond says nothing more
_STEPS = (0.02, 0.05, 0.1, 0.2)
_DAY_S = 86400.0
_DOTS = 40  # more of them hide the line


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened, at `x`."""

    x: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Paths in SVG's words, "" where there is nothing; ticks from left to right and from top to bottom."""

    line: str
    band: str
    dots: str  # points of zero length: round line caps make them round
    bars: str
    rule: float | None  # height of a horizontal line
    marks: tuple[Mark, ...]
    times: tuple[str, ...]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time that both charts show; never of no length."""

    start: float
    end: float

    def x(self, at: float) -> float:
        """Place of a moment, in [0, WIDTH].

        >>> Span(start=0.0, end=100.0).x(25.0)
        160.0
        """
        return WIDTH * min(max((at - self.start) / (self.end - self.start), 0.0), 1.0)

    def times(self) -> tuple[str, ...]:
        """Four moments, evenly spaced, as text in UTC.

        >>> Span(start=0.0, end=3 * 86400.0).times()
        ('Jan 1', 'Jan 2', 'Jan 3', 'Jan 4')
        """
        length = self.end - self.start
        form = "%b %-d" if length >= 3 * _DAY_S else "%b %-d %H:%M" if length > _DAY_S / 2 else "%H:%M:%S"
        moments = (self.start + length * part / 3 for part in range(4))
        return tuple(datetime.fromtimestamp(at, UTC).strftime(form) for at in moments)


def span_of(course: Sequence[Point]) -> Span:
    """From the first check to the last, so that a page without news stays the same, letter by letter."""
    start, end = (course[0].at, course[-1].at) if course else (0.0, 1.0)
    return Span(start=min(start, end - 1), end=end)


def draw_accuracy(course: Sequence[Point], span: Span, marks: Iterable[tuple[float, str]]) -> Chart:
    """A line through the measured accuracy in the band of its interval; bars count the labels."""
    told = [point for point in course if point.accuracy is not None]
    low, high, step = _range(told)

    def y(value: float) -> float:
        return HEIGHT * (high - value) / (high - low)

    measured = [point for point in told if point.lower is not None and point.upper is not None]
    upper = [(span.x(point.at), y(point.upper or 0.0)) for point in measured]
    lower = [(span.x(point.at), y(point.lower or 0.0)) for point in measured]
    most = max((point.labels for point in told), default=0) or 1
    return Chart(
        line=_path((span.x(point.at), y(point.accuracy or 0.0)) for point in measured),
        band=_path([*upper, *reversed(lower)]) + "Z" if len(measured) > 1 else "",
        dots=_dots((span.x(point.at), y(point.accuracy or 0.0)) for point in _dotted(told)),
        bars=_bars((span.x(point.at), 22 * point.labels / most) for point in told),
        rule=None,
        marks=_marks(marks, span),
        times=span.times(),
        values=tuple(f"{high - step * number:.2f}" for number in range(round((high - low) / step) + 1)),
    )


def draw_evidence(course: Sequence[Point], span: Span, marks: Iterable[tuple[float, str]]) -> Chart:
    """The evidence as a share of the page line, which is the rule."""
    told = [(span.x(point.at), point.share) for point in course if point.share is not None]
    high = STRONGEST if any(share > 1.25 for _, share in told) else 1.25
    heights = [(x, HEIGHT * (1 - min(max(share, 0.0), high) / high)) for x, share in told]
    area = [(heights[0][0], float(HEIGHT)), *heights, (heights[-1][0], float(HEIGHT))] if heights else []
    ticks = (2.0, 1.5, 1.0, 0.5, 0.0) if high == STRONGEST else (1.25, 1.0, 0.75, 0.5, 0.25, 0.0)
    return Chart(
        line=_path(heights),
        band=_path(area) + "Z" if len(told) > 1 else "",
        dots=_dots(heights) if len(told) <= _DOTS else "",
        bars="",
        rule=HEIGHT * (1 - 1 / high),
        marks=_marks(marks, span),
        times=span.times(),
        values=tuple(f"{tick:.0%}" for tick in ticks),
    )


def _range(told: Sequence[Point]) -> tuple[float, float, float]:
    """Lowest and highest value and the step between ticks: four to six ticks around what was told."""
    least = min(
        (p.accuracy if p.lower is None else p.lower for p in told if p.accuracy is not None), default=0.5
    )
    most = max(
        (p.accuracy if p.upper is None else p.upper for p in told if p.accuracy is not None), default=1.0
    )
    step = next((step for step in _STEPS if most - least <= 4 * step), _STEPS[-1])
    low = max(0.0, step * (least // step))
    high = low + step
    while high < most - 1e-9 or high < low + 3 * step - 1e-9:
        high += step
    if high > 1 + 1e-9:  # nothing is more accurate than 1
        low, high = max(0.0, low - (high - 1.0)), 1.0
    return low, high, step


def _dotted(told: Sequence[Point]) -> list[Point]:
    """The points that no line shows, and all of them where they are few."""
    return [point for point in told if point.lower is None or len(told) <= _DOTS]


def _path(points: Iterable[tuple[float, float]]) -> str:
    """Straight lines through points.

    >>> _path([(0, 1), (2.25, 3)])
    'M0,1L2.2,3'
    """
    joined = "L".join(f"{_short(x)},{_short(y)}" for x, y in points)
    return f"M{joined}" if joined else ""


def _dots(points: Iterable[tuple[float, float]]) -> str:
    return "".join(f"M{_short(x)},{_short(y)}h0" for x, y in points)


def _bars(points: Iterable[tuple[float, float]]) -> str:
    return "".join(f"M{_short(x)},{HEIGHT}v-{_short(height)}" for x, height in points)


def _marks(marks: Iterable[tuple[float, str]], span: Span) -> tuple[Mark, ...]:
    inside = ((at, text) for at, text in marks if span.start <= at <= span.end)
    return tuple(Mark(x=round(span.x(at), 1), text=text) for at, text in inside)


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
