"""Trials: a sampled request is also given to a second model, to find out how it does.

    shadow   the second answer is thrown away once it is known how it went: seconds, tokens, its form
    duel     the two answers are compared, by a judge (a configured model) or, without one, by the caller

The first answer is the caller's own, and waits for nothing here. A judged second answer and a shadow begin when the
first one has ended well, so that a caller who leaves leaves nothing running. Where the caller is to judge, both run at
once: the answer's header `x-penstock-duel` names the second request, the same request sent again with that name as
its `Idempotency-Key` is answered by the second answer (`replaying` has it), and `POST /v1/feedback` takes the verdict.

The second model is one of those that the decision could have named: nobody's text goes where his request could not.
Only plain text is tried, without tools. What trials use is booked under the key TRIALS, in rows that name the caller's
request and the roles `shadow`, `duel` and `judge`; nothing of it is in the sums of the caller's key.

Above it: `routed_lane`. Below it: `choosing`, `actors.routing.client`, `pipelines.routing`. Outside it: asking a
provider.
"""

import asyncio
import contextvars
import logging
import random
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any, Literal, NamedTuple

import msgspec

from actors.routing.client import RouterClient
from deployments.choosing import Chooser, Chosen, evidence_of, recorded
from deployments.config import TrialSettings
from deployments.handles import call_from_body
from deployments.identity import new_id
from pipelines.calls import Account, Answer, Call, Caller
from pipelines.conversation import Request, Text
from pipelines.dialects import DIALECTS
from pipelines.errors import PenstockError
from pipelines.events import Event, assemble
from pipelines.keys import model_matcher
from pipelines.routing.ask import Candidate
from pipelines.routing.judging import judging, verdict
from pipelines.routing.learning.evidence import WEIGHT, Compared
from pipelines.routing.table import LOWEST_PRIORITY, Decided, Role
from pipelines.story import Story

TRIALS = "trials"
"""The key that trials are booked under."""

HEADER = "x-penstock-duel"
"""Names the second request of a duel that the caller may judge."""

LARGEST = 256 * 1024
"""Bytes of an answer, at most, that is judged."""

_OURS = Caller(TRIALS, priority=LOWEST_PRIORITY, explore=False)
_log = logging.getLogger("penstock.trials")

Ask = Callable[[Call, Candidate, Role], Awaitable[Answer]]
"""Asks one candidate, in a role. Raises PenstockError."""

Replay = Callable[[Call, Callable[[Call], Awaitable[Answer]]], Awaitable[Answer]]
"""`Replaying.answer`: keeps the answer for whoever asks with the call's Idempotency-Key."""


Check = Callable[[Call, Answer], Awaitable[Answer]]
"""An answer as it may be handed out. Raises PenstockError where it may not."""


class _Trial(NamedTuple):
    """One request, who answers it, and who is tried; id: the second request's."""

    kind: Literal["shadow", "duel"]
    call: Call
    chosen: Chosen
    candidate: Candidate
    rival: Candidate
    id: str


class Trials:
    """One gateway replica's trials. ask: the routed lane; replay: keeps answers that callers are to judge, and check
    goes over those first, if anything does."""

    def __init__(
        self,
        settings: TrialSettings,
        chooser: Chooser,
        router: RouterClient,
        ask: Ask,
        replay: Replay,
        check: Check | None = None,
    ) -> None:
        self._settings = settings
        self._chooser = chooser
        self._router = router
        self._ask = ask
        self._replay = replay
        self._check = check
        self._running: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """How many are under way."""
        return len(self._running)

    def begin(self, call: Call, chosen: Chosen, candidate: Candidate, answer: Answer) -> None:
        """Try another model on the call, if the dice say so; the answer stands at its first output."""
        kind = self._drawn()
        if kind is None or not self._room() or not call.may_explore or call.operation or not plain(call.request):
            return
        rivals = [one for one in chosen.decision.candidates if self._may_be_tried(one, candidate, chosen)]
        if not rivals:
            return
        trial = _Trial(kind, call, chosen, candidate, random.choice(rivals), new_id())
        if kind == "duel" and not self._settings.judge:
            answer.headers[HEADER] = trial.id
            task = self._spawn(self._offered(trial))
            if task is not None:
                answer.on_close(lambda: None if answer.result == "ok" else _drop(task))
            return
        heard = _Heard(answer) if kind == "duel" else None
        answer.on_close(partial(self._answered, trial, answer, heard))

    async def close(self) -> None:
        """End what is under way."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _drawn(self) -> Literal["shadow", "duel"] | None:
        drawn = random.random()
        if drawn < self._settings.duel:
            return "duel"
        return "shadow" if drawn < self._settings.duel + self._settings.shadow else None

    def _room(self) -> bool:
        return len(self._running) < self._settings.concurrent

    def _may_be_tried(self, one: Candidate, first: Candidate, chosen: Chosen) -> bool:
        entry = chosen.table.provider(one.provider)
        performance = entry.performance.get(one.model) if entry is not None else None
        wanted = self._settings.models
        return (
            one.name != first.name
            and not one.beyond
            and (performance is None or performance.breaker == "closed")
            and (not wanted or model_matcher(tuple(wanted))(one.provider, one.model))
        )

    def _answered(self, trial: _Trial, answer: Answer, heard: "_Heard | None") -> None:
        """The first answer is over. Nothing is tried where it failed, or another model went on with it."""
        outcome = answer.outcome
        if answer.result != "ok" or outcome is None or outcome.model != trial.candidate.model:
            return
        self._spawn(self._shadowed(trial) if heard is None else self._judged(trial, heard.data))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None] | None":
        """Run `work` in no request's context, within the limits."""
        if not self._room():
            work.close()
            return None
        task = contextvars.Context().run(asyncio.get_running_loop().create_task, self._bounded(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _bounded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self._settings.patience):
                await work
        except (PenstockError, TimeoutError):
            # How each attempt went is in the ledger and in the router's statistics.
            return
        except Exception:
            _log.exception("a trial failed")

    async def _shadowed(self, trial: _Trial) -> None:
        answer = await self._second(trial)
        await _consumed(answer)
        self._decided(trial, answer)

    async def _offered(self, trial: _Trial) -> None:
        """The second answer of a duel that the caller judges: kept for him under its name."""

        asked = False

        async def ask(_: Call) -> Answer:
            nonlocal asked
            asked = True
            answer = await self._second(trial)
            return answer if self._check is None else await self._check(trial.call, answer)

        answer = await self._replay(msgspec.structs.replace(trial.call, idempotency_key=trial.id), ask)
        await _consumed(answer)
        # The caller may have been faster, and has then been answered by somebody else.
        if asked:
            self._decided(trial, answer)

    async def _judged(self, trial: _Trial, data: bytes | None) -> None:
        answer = await self._second(trial)
        second = await _consumed(answer)
        texts = text_of(trial.call, data), text_of(trial.call, second)
        result = await self._judge(trial, *texts) if all(texts) else None
        compared = None
        if result is not None:
            names = trial.candidate.name, trial.rival.name
            compared = Compared(*names, trial.chosen.estimate.known.profile.task, result, WEIGHT["judge"])
        self._decided(trial, answer, compared)

    async def _second(self, trial: _Trial) -> Answer:
        """The rival's answer."""
        call = msgspec.structs.replace(
            trial.call, id=trial.id, caller=_OURS, idempotency_key="", account=_account(trial.call), story=Story()
        )
        answer = await self._ask(call, trial.rival, trial.kind)
        answer.headers |= {"x-penstock-provider": trial.rival.provider, "x-penstock-model": trial.rival.model[:200]}
        return answer

    async def _judge(self, trial: _Trial, one: str, other: str) -> float | None:
        """1 if the first answer is preferred, 0 if the second; None where nobody can judge, or the judge says else."""
        swapped = random.random() < 0.5
        messages = judging(trial.call.request, one, other, swapped=swapped, mark=f"<{secrets.token_hex(8)}>")
        # Who may not be asked by the caller may not read him either.
        ours = msgspec.structs.replace(_OURS, models=trial.call.caller.models)
        call = call_from_body({"model": self._settings.judge, "messages": messages}, ours, "routed")
        call = msgspec.structs.replace(call, account=_account(trial.call))
        excluded = () if self._settings.judge_own else (trial.candidate.name, trial.rival.name)
        judges = [one for one in self._chooser.choose(call).decision.candidates if one.name not in excluded]
        if not judges:
            return None
        answer = await self._ask(call, judges[0], "judge")
        return verdict(text_of(call, await _consumed(answer)), swapped=swapped)

    def _decided(self, trial: _Trial, answer: Answer, compared: Compared | None = None) -> None:
        """Tell the router of the second answer, and what it or its judge says."""
        if answer.result != "ok":
            return
        record = recorded(trial.chosen, trial.rival)
        evidence = evidence_of(trial.call, answer, record) if compared is None else msgspec.msgpack.encode(compared)
        self._router.decided(Decided(trial.call.caller.id, trial.id, msgspec.msgpack.encode(record), evidence))


class _Heard:
    """What an answer says, read along: `data`, None where it is too large."""

    def __init__(self, answer: Answer) -> None:
        self.data: bytes | None = answer.body
        if answer.frames is not None:
            answer.frames = self._passing(answer.frames)

    async def _passing(self, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        pieces, size = list[bytes](), 0
        async with aclosing(frames):
            async for data in frames:
                size += len(data)
                if size <= LARGEST:
                    pieces.append(data)
                yield data
        self.data = b"".join(pieces) if size <= LARGEST else None


def plain(request: Request) -> bool:
    """Whether a request is plain text: without tools, and with one answer."""
    texts = all(isinstance(part, Text) for message in request.messages for part in message.parts)
    return texts and not request.tools and request.n in (None, 1)


def text_of(call: Call, data: bytes | None) -> str:
    """The text of an answer in the call's dialect; "" where there is none, or it cannot be read."""
    if not data or len(data) > LARGEST:
        return ""
    dialect = DIALECTS[call.dialect]
    try:
        if call.stream:
            decoder = dialect.decoder()
            events: list[Event] = [*decoder.feed(data), *decoder.close()]
        else:
            events = dialect.read_answer(data)
        return "".join(message.text for message in assemble(events).messages)
    except PenstockError:
        return ""


async def _consumed(answer: Answer) -> bytes | None:
    """All of an answer; None where it is too large."""
    heard = _Heard(answer)
    try:
        if answer.frames is not None:
            async for _ in answer.frames:
                pass
        return heard.data
    finally:
        await answer.close()


def _account(call: Call) -> Account:
    """Rows that name the caller's request, and are nobody's."""
    account = call.account
    return Account(entry=account.entry, began=account.began, task=account.task)


def _drop(task: "asyncio.Task[None]") -> None:
    task.cancel()
