"""What a call to a model costs, learned from the calls themselves: seconds = per_row · rows + fixed."""

from dataclasses import dataclass

_MEMORY = 0.95
_MOST_TIMES = 8.0
"""A call counts for at most so many times what was expected: now and then the machine is simply busy elsewhere."""


@dataclass
class Cost:
    """A least-squares line through the recent calls, older ones fading."""

    _n: float = 0.0
    _rows: float = 0.0
    _seconds: float = 0.0
    _rows_rows: float = 0.0
    _rows_seconds: float = 0.0

    def add(self, rows: int, seconds: float) -> None:
        """One call's rows and its duration in seconds."""
        if self._n:
            seconds = min(seconds, _MOST_TIMES * max(self.of(rows), self._seconds / self._n))
        self._n = self._n * _MEMORY + 1
        self._rows = self._rows * _MEMORY + rows
        self._seconds = self._seconds * _MEMORY + seconds
        self._rows_rows = self._rows_rows * _MEMORY + rows * rows
        self._rows_seconds = self._rows_seconds * _MEMORY + rows * seconds

    @property
    def each(self) -> float:
        """Seconds of a row, on the average of the recent calls; 0 before the first."""
        return self._seconds / self._rows if self._rows else 0.0

    def of(self, rows: int) -> float:
        """The expected seconds of a call; infinite before the first."""
        if not self._n:
            return float("inf")
        spread = self._n * self._rows_rows - self._rows**2
        mean = self._seconds / self._n
        if spread <= 1e-9 * self._rows_rows:
            return mean * max(1.0, rows * self._n / self._rows)
        per_row = max(0.0, (self._n * self._rows_seconds - self._rows * self._seconds) / spread)
        return max(0.0, mean + per_row * (rows - self._rows / self._n))
