"""Numbers as people read them: seconds, counts, rates, shares, bytes, money; two or three digits that count."""

import math

DAY = 86_400.0
HOUR = 3_600.0

_TIMES = ((DAY, "days"), (HOUR, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def seconds(value: float) -> str:
    """A time: 24 h, 3.2 ms."""
    if math.isinf(value):
        return "never"
    for size, unit in _TIMES:
        # A day is 24 h to most people, and a day and a half 36 h.
        if value >= size * (2 if size >= DAY else 0.9995):
            return f"{digits(value / size)} {unit}"
    return f"{digits(value / 1e-6)} µs" if value > 0 else "0 s"


def count(value: float) -> str:
    """A number of rows: 1,234, 2.5M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size * 0.9995:
            return f"{digits(value / size)}{unit}"
    return f"{value:,.0f}" if value >= 10 or value == round(value) else digits(value)


def short(value: float) -> str:
    """A number for an axis: 1k, 20M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.9995:
            return f"{digits(value / size)}{unit}"
    return digits(value)


def rate(value: float) -> str:
    """A number a second: 300/s, 5/min."""
    if value >= 0.1:
        return f"{count(value) if value >= 100 else digits(value)}/s"
    return f"{digits(value * 60)}/min" if value * 60 >= 0.1 else f"{digits(value * DAY)} a day"


def share(value: float) -> str:
    """A share as percent: 0.03 %, 95 %."""
    return f"{digits(value * 100)} %"


def size(value: float) -> str:
    """Bytes: 95 MiB."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= unit:
            return f"{digits(value / unit)} {name}"
    return f"{value:.0f} bytes"


def money(value: float) -> str:
    """An amount without its currency, to the digits that matter: 0.0012, 12.30."""
    if value == 0:
        return "0"
    return f"{value:,.2f}" if value >= 1 else f"{value:.{min(9, 1 - math.floor(math.log10(value)))}f}"


def times(value: float) -> str:
    """A ratio as a factor: 340 times, 1.5 times."""
    return f"{digits(value)} times"


def digits(value: float) -> str:
    """A number with two or three digits that count, without a power of ten: 0.034, 1.5, 24, 1,200."""
    if value == 0:
        return "0"
    if abs(value) >= 99.5:
        told = round(value, 2 - math.floor(math.log10(abs(value)))) if abs(value) >= 1000 else round(value)
        return f"{told:,.0f}"
    places = max(0, 1 - math.floor(math.log10(abs(value))))
    if abs(value) >= 9.95:
        places = 0 if abs(value - round(value)) < 0.05 else 1
    text = f"{value:.{min(places, 9)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
