"""What was learned, kept on the ledger's shelf: one piece a model, and only those that changed are written again.

Above it: `learner`. Below it: `shelf`, `pipelines.routing.learning.state`. Outside it: when; the database.
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterable

import msgspec

from actors.shelf import Pieces, Shelf, ShelfConnector
from pipelines.routing.learning.state import Knowledge, Learning, decode, encode

OWNER = "learning"

SECONDS = 5.0
"""Of one attempt to reach the ledger."""

_log = logging.getLogger("penstock.router")
_pieces = msgspec.msgpack.Decoder(Pieces)


class LearningKeeper:
    """width: features of a vector. Both methods raise whatever the connector, Ray or the ledger raise."""

    def __init__(self, connector: ShelfConnector, width: int) -> None:
        self._connector = connector
        self._width = width
        self._shelf: Shelf | None = None
        self._written: dict[str, Knowledge] = {}

    async def load(self) -> Learning:
        """What was kept last; nothing at all where nothing was. What makes no sense is passed over, and logged."""
        async with asyncio.timeout(SECONDS):
            shelf = await self._reached()
            found = _pieces.decode(await shelf.kept(OWNER)).pieces
        models: dict[str, Knowledge] = {}
        for name, piece in found.items():
            try:
                models |= decode(piece, self._width).models
            except msgspec.DecodeError as error:
                _log.error("what was learned of one model (%s) cannot be read: %s", name, error)
        self._written = dict(models)
        return Learning(self._width, models)

    async def save(self, learning: Learning) -> None:
        """Keep what has changed since the last time."""
        models, written = learning.models, self._written
        changed = {name: known for name, known in models.items() if written.get(name) is not known}
        pieces = {_label(name): encode(Learning(learning.width, {name: known})) for name, known in changed.items()}
        pieces |= _nothing(written.keys() - models.keys())
        if not pieces:
            return
        try:
            async with asyncio.timeout(SECONDS):
                shelf = await self._reached()
                await shelf.keep(msgspec.msgpack.encode(Pieces(OWNER, pieces)))
        except BaseException:
            self._shelf = None
            raise
        self._written = dict(models)

    async def _reached(self) -> Shelf:
        if self._shelf is None:
            self._shelf = await self._connector()
        return self._shelf


def _label(model: str) -> str:
    """A piece's name: a model's own may be too long for an index."""
    return hashlib.blake2b(model.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _nothing(models: Iterable[str]) -> dict[str, bytes]:
    return {_label(name): b"" for name in models}
