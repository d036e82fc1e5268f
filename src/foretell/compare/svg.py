"""Charts as SVG text: scales, axes, lines, areas, marks, and labels that stand beside what they name: never on each
other, and on a line or a dot only where there is no other place. Colours are classes, which the page's style sheet
fills for light and dark."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

Pair = tuple[float, float]

WIDTH, HEIGHT = 460, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 26, 40
_LINE = 15
_ASCENT, _DESCENT, _LETTER = 12, 5, 7.8
_STEP, _FAR = 3, 60


@dataclass(frozen=True)
class Scale:
    """Values to positions, linear or logarithmic. name: what it measures, with its unit. told: a tick's text."""

    low: float
    high: float
    name: str
    told: Callable[[float], str]
    log: bool = True
    ticks: Sequence[float] = ()

    def share(self, value: float) -> float:
        """Where a value lies from 0 to 1; outside values at the edge."""
        if self.log:
            value = min(max(value, self.low), self.high)
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)

    def marks(self) -> list[float]:
        """Where ticks are: the given ones, else round numbers, at most seven."""
        if self.ticks:
            return [tick for tick in self.ticks if self.low <= tick <= self.high]
        return decades(self.low, self.high) if self.log else steps(self.low, self.high)


def decades(low: float, high: float, most: int = 6) -> list[float]:
    """Powers of ten between two values, every second or third one where there are many."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first + 1) / most))
    found = [10.0**power for power in range(first, last + 1) if (power - first) % every == 0]
    if len(found) >= 2:
        return found
    return [
        digit * 10.0**power
        for power in range(first - 1, last + 1)
        for digit in (1, 2, 5)
        if low <= digit * 10.0**power <= high
    ]


def steps(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between two values, the same distance apart."""
    rough = (high - low) / most or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * (1 - 1e-9))
    return [at * step for at in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


@dataclass
class Chart:
    """One chart, drawn from the back to the front. title: read to those who cannot see it."""

    title: str
    x: Scale
    y: Scale
    parts: list[str] = field(default_factory=list)
    labels: list[tuple[float, float, str, str, str]] = field(default_factory=list)
    inked: list[Pair] = field(default_factory=list)

    def at(self, x: float, y: float) -> Pair:
        """A point of the data as a point of the picture."""
        return (
            _LEFT + self.x.share(x) * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - self.y.share(y) * (HEIGHT - _TOP - _BOTTOM),
        )

    def line(self, points: Sequence[Pair], style: str) -> None:
        corners = [self.at(*point) for point in points]
        self.inked += itertools.chain.from_iterable(_between(*pair) for pair in itertools.pairwise(corners))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        self.parts.append(f'<polyline class="line {style}" points="{path}"/>')

    def area(self, points: Sequence[Pair], style: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        self.parts.append(f'<polygon class="area {style}" points="{path}"/>')

    def bar(self, low: Pair, high: Pair, style: str, told: str = "") -> None:
        """A rectangle between two corners."""
        (left, bottom), (right, top) = self.at(*low), self.at(*high)
        told = f"<title>{escape(told)}</title>" if told else ""
        self.parts.append(
            f'<rect class="bar {style}" x="{left + 0.5:.1f}" y="{top:.1f}" width="{max(0.5, right - left - 1):.1f}" '
            f'height="{max(0.0, bottom - top):.1f}">{told}</rect>'
        )

    def dot(self, x: float, y: float, style: str, told: str = "") -> None:
        at = self.at(x, y)
        self.inked.append(at)
        told = f"<title>{escape(told)}</title>" if told else ""
        self.parts.append(f'<circle class="dot {style}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="4">{told}</circle>')

    def upright(self, x: float, style: str) -> None:
        """A line from the bottom to the top."""
        at = self.at(x, self.y.low)[0]
        self.parts.append(
            f'<line class="rule {style}" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
        )

    def level(self, y: float, style: str) -> None:
        """A line from the left to the right."""
        at = self.at(self.x.low, y)[1]
        self.parts.append(
            f'<line class="rule {style}" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )

    def label(self, x: float, y: float, text: str, style: str, anchor: str = "start") -> None:
        """Words beside a point, moved down or up where something is. anchor: start, middle or end."""
        self.labels.append((*self.at(x, y), text, style, anchor))

    def drawn(self) -> str:
        """The whole chart."""
        head = (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.title)}" '
            f'xmlns="http://www.w3.org/2000/svg">'
        )
        return "".join([head, *self._axes(), *self.parts, *self._placed(), "</svg>"])

    def _axes(self) -> list[str]:
        bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
        out = [f'<text class="axis" x="0" y="13">{escape(self.y.name)}</text>']
        out.append(f'<text class="axis" x="{right}" y="{HEIGHT - 4}" text-anchor="end">{escape(self.x.name)}</text>')
        for tick in self.y.marks():
            y = self.at(self.x.low, tick)[1]
            out.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            out.append(
                f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{self.y.told(tick)}</text>'
            )
        for tick in self.x.marks():
            x = self.at(tick, self.y.low)[0]
            out.append(
                f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{self.x.told(tick)}</text>'
            )
        out.append(f'<line class="base" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        return out

    def _placed(self) -> list[str]:
        out = []
        taken: list[tuple[float, float, float]] = []
        for x, y, text, style, anchor in sorted(self.labels, key=lambda label: label[1]):
            width = _LETTER * len(text)
            left = x - (0 if anchor == "start" else width / 2 if anchor == "middle" else width)
            left = min(max(left, _LEFT + 2), WIDTH - width)
            top, bottom = _TOP + 10, HEIGHT - _BOTTOM - 6
            wanted = min(max(y, top), bottom)
            away = sorted(range(-_FAR, _FAR + 1, _STEP), key=lambda by: (abs(by), -by))
            places = [at for by in away if top <= (at := wanted + by) <= bottom]
            right = left + width
            near = [other for begin, end, other in taken if left < end and begin < right]
            free = [at for at in places if not any(abs(at - other) < _LINE for other in near)]
            clear = (at for at in free if not self._covers(left, right, at))
            place = next(clear, free[0] if free else wanted)
            taken.append((left, right, place))
            out.append(f'<text class="label {style}" x="{left:.1f}" y="{place:.1f}">{escape(text)}</text>')
        return out

    def _covers(self, left: float, right: float, base: float) -> bool:
        """Whether words there would lie on a line or a dot."""
        return any(left <= x <= right and base - _ASCENT <= y <= base + _DESCENT for x, y in self.inked)


def _between(start: Pair, end: Pair) -> list[Pair]:
    """Points on the way, a few pixels apart."""
    count = max(1, math.ceil(math.dist(start, end) / _STEP))
    (x, y), (to_x, to_y) = start, end
    return [(x + (to_x - x) * at / count, y + (to_y - y) * at / count) for at in range(count + 1)]
