"""Lines on the terminal, and the count of what they say.

Above it: the parts. Below it: the standard library. Outside it: what is judged.
"""

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Column(NamedTuple):
    """One column: its head and its least width; a negative width aligns to the right."""

    head: str
    width: int

    def cell(self, text: str) -> str:
        """`text`, filled up."""
        return text.rjust(-self.width) if self.width < 0 else text.ljust(self.width)


class Sheet:
    """The table of one part, printed line by line.

    cases, failed: how many lines were judged, and how many of them were not as expected; violations: what went
    against a rule that holds for every case.
    """

    def __init__(self, title: str, columns: Sequence[tuple[str, int]]) -> None:
        self.title = title
        self.columns = [Column(*column) for column in columns]
        self.cases = 0
        self.failed: list[str] = []
        self.violations: list[str] = []
        print(f"\n{title}\n")
        self._print([column.head for column in self.columns], "verdict")

    def row(self, cells: Iterable[object], wrong: Sequence[str] = (), violations: Sequence[str] = ()) -> None:
        """One case. wrong: what was not as expected; violations: which rules it broke."""
        texts = [str(cell) for cell in cells]
        self.cases += 1
        if wrong or violations:
            self.failed.append(" ".join(text for text in texts[:3] if text))
        self.violations += violations
        said = "VIOLATION" if violations else "UNEXPECTED" if wrong else "ok"
        self._print(texts, said)
        for text in (*violations, *wrong):
            for line in textwrap.wrap(text, 140):
                print(f"      {line}", flush=True)

    def figure(self, cells: Iterable[object]) -> None:
        """A line that is not judged."""
        self._print([str(cell) for cell in cells], "-")

    def end(self) -> bool:
        """The summary; whether everything was as it should be."""
        passed = self.cases - len(self.failed)
        print(f"\n{self.title}: {self.cases} cases, {passed} passed, {len(self.violations)} violations", flush=True)
        for name in self.failed:
            print(f"    not as expected: {name}")
        for violation in dict.fromkeys(self.violations):
            print(f"    violation: {violation[:160]}")
        return not self.failed and not self.violations

    def _print(self, texts: Sequence[str], verdict: str) -> None:
        cells = [column.cell(text) for column, text in zip(self.columns, texts, strict=True)]
        print("  ".join([*cells, verdict]).rstrip(), flush=True)


def span(seconds: Iterable[float]) -> str:
    """The least and the greatest of some seconds."""
    values = sorted(seconds)
    if not values:
        return ""
    least, most = f"{values[0]:.2f}", f"{values[-1]:.2f}"
    return least if least == most else f"{least}-{most}"


def counts(values: Iterable[object]) -> str:
    """The different values, most frequent first."""
    texts = [str(value) for value in values]
    return " | ".join(sorted(set(texts), key=lambda text: -texts.count(text)))


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which `share` of them lie; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
