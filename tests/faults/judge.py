"""From what a caller heard and an upstream saw to a verdict.

The rules, which hold for every case whatever is expected of it (a breach is a violation):

1. A complete answer's text is exactly the upstream's whole text.
2. An incomplete answer's text is a beginning of it: nothing doubled, nothing invented.
3. An incomplete answer says its error (a status, an event, a broken transfer) and never a successful end.
4. After a 429 the next try is never sooner than the least backoff, or than the provider asked for.
5. A provider that is silent is asked once.
6. No upstream connection outlives its case in the middle of an answer (`providers` looks for that).

Above it: `providers`, `soak`. Below it: `hearing`, `cases`. Outside it: printing.
"""

import json
from collections.abc import Sequence

import msgspec

from bench.answers import TOOL_CALLS
from tests.faults.cases import Case
from tests.faults.hearing import Heard
from tests.faults.ways import Way

CLOCK = 0.005
"""Seconds by which two processes may see the same moment apart."""


class Run(msgspec.Struct):
    """One way of one case: what the caller heard; when the two providers were asked (`time.monotonic()`)."""

    way: Way
    heard: Heard
    asked: list[float] = []
    spare_asked: list[float] = []

    @property
    def gaps(self) -> list[float]:
        """Seconds between the tries at the first provider."""
        return [after - before for before, after in zip(self.asked, self.asked[1:], strict=False)]


def result_of(run: Run, text: str) -> str:
    """In a word or two what the caller had; `text` is the whole answer's."""
    heard = run.heard
    if heard.wrong:
        return f"wrong: {heard.wrong}"
    if heard.complete:
        if heard.tools:
            return "tools" if same_tools(heard) else "other tools"
        if heard.words != text:
            return "other text"
        if heard.reason in ("content_filter", "refusal"):
            return "filtered"
        if heard.provider == run.way.spare.name:
            return "spare"
        return "continued" if run.spare_asked else "whole"
    if heard.status not in (0, 200):
        return f"refused {heard.status}"
    if heard.error:
        return "broken"
    return f"cut: {heard.broken}" if heard.broken else "cut in silence"


def same_tools(heard: Heard) -> bool:
    """Whether the tool calls are the upstream's."""
    found = [(name, json.loads(arguments)) for _, (name, arguments) in sorted(heard.tools.items())]
    return found == [(name, json.loads(arguments)) for _, name, arguments in TOOL_CALLS]


def truthful(heard: Heard, text: str) -> list[str]:
    """Which of the first three rules an answer breaks; `text` is what the whole one says."""
    found = []
    if heard.complete and heard.words != text and not heard.tools:
        found.append(f"complete, but the text is not whole: {ends(heard.words)}, not {ends(text)}")
    if not text.startswith(heard.words):
        found.append(f"doubled or invented text: {ends(heard.words)}")
    if heard.status == 200 and not heard.complete and not heard.error and not heard.broken:
        found.append(f"incomplete without an error after {ends(heard.words)}")
    if heard.error and heard.sentinels:
        found.append(f"the error {heard.error} and a successful end")
    if heard.complete and heard.sentinels > 1:
        found.append("the end is said twice")
    return found


def ends(text: str) -> str:
    """A text for people: its length, its beginning and its end."""
    return repr(text) if len(text) < 80 else f"{len(text)} characters, {text[:20]!r}…{text[-20:]!r}"


def violations(case: Case, run: Run) -> list[str]:
    """Which of rules 1 to 5 are broken."""
    found = truthful(run.heard, case.text(run.way, run.heard.provider))
    if case.fault.error == "rate_limited" and run.gaps and min(run.gaps) < case.gap - CLOCK:
        found.append(f"asked again {min(run.gaps):.3f} s after a 429, least is {case.gap:g} s")
    if case.silent and len(run.asked) > 1:
        found.append(f"a silent provider was asked {len(run.asked)} times")
    return [f"{case.name}, {described(run.way)}: {text}" for text in found]


def unexpected(case: Case, run: Run) -> list[str]:
    """What is not as the case has it."""
    want, result = case.want(run.way), result_of(run, case.text(run.way, run.heard.provider))
    found = []
    if result != want.result:
        found.append(f"{result} instead of {want.result}{said(run.heard)}")
    if len(run.asked) != want.tries:
        found.append(f"{len(run.asked)} tries instead of {want.tries}")
    if run.spare_asked and not found and want.result.split()[0] in ("refused", "broken", "whole"):
        found.append(f"the fallback was asked {len(run.spare_asked)} times")
    return [f"{described(run.way)}: {text}" for text in found]


def said(heard: Heard) -> str:
    """The error that was said, if one was."""
    return f" ({heard.status}, {heard.error}: {heard.message[:80]})" if heard.error or heard.message else ""


def described(way: Way) -> str:
    """A way in words."""
    return f"{way.dialect} at {way.provider.name}, {way.lane}, {way.port}, {way.form}"


def shown(case: Case, runs: Sequence[Run]) -> list[str]:
    """Each run's result, with the words that came and the error's code where it was broken."""
    found = []
    for run in runs:
        result = result_of(run, case.text(run.way, run.heard.provider))
        if result == "broken":
            result += f" after {len(run.heard.words.split())} words ({run.heard.error})"
        elif result.startswith("refused"):
            result += f" ({run.heard.error})"
        found.append(result)
    return found
