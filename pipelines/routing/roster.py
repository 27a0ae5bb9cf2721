"""Who is there: the providers as their replicas announce them.

Above it: `state`. Below it: `table`. Outside it: how well they do.
"""

from typing import NamedTuple

import msgspec

from pipelines.routing.table import (
    ANNOUNCEMENT_LIFETIME,
    Announcement,
    ModelCard,
    ProviderEntry,
    ReplicaEntry,
)

REMEMBERED = 86_400.0
"""Seconds for which a provider whose last replica went silent is still listed, as unreachable: it will come back."""

LEFT = 60.0
"""Seconds for which one is that said that it leaves: it is being replaced, or was taken out of the configuration."""


class _Heard(NamedTuple):
    """A replica's last announcement, and when it was first and last heard (seconds)."""

    announcement: Announcement
    first: float
    last: float


class _Silent(NamedTuple):
    """A provider without a replica, as it is listed, and until when (seconds)."""

    entry: ProviderEntry
    until: float


class Roster:
    """The announcements that are alive, by provider and replica."""

    def __init__(self) -> None:
        self._heard: dict[str, dict[str, _Heard]] = {}
        self._silent: dict[str, _Silent] = {}

    def announce(self, announcement: Announcement, now: float) -> bool:
        """Take an announcement; say whether it changes more than a replica's load."""
        replicas = self._heard.setdefault(announcement.provider, {})
        before = replicas.get(announcement.replica)
        first = before.first if before else now
        replicas[announcement.replica] = _Heard(announcement, first, now)
        self._silent.pop(announcement.provider, None)
        return before is None or _without_load(before.announcement) != _without_load(announcement)

    def expire(self, now: float) -> bool:
        """Drop the replicas that were silent for ANNOUNCEMENT_LIFETIME; say whether there were any."""
        changed = False
        for name, replicas in list(self._heard.items()):
            entry = _entry(name, replicas)
            for replica, heard in list(replicas.items()):
                if now - heard.last > ANNOUNCEMENT_LIFETIME:
                    del replicas[replica]
                    changed = True
            if not replicas:
                del self._heard[name]
                self._silent[name] = _Silent(_silent(entry), now + (LEFT if entry.state == "draining" else REMEMBERED))
        for name, silent in list(self._silent.items()):
            if now > silent.until:
                del self._silent[name]
                changed = True
        return changed

    def excuse(self, seconds: float) -> None:
        """Nobody could be heard for so long: that silence does not count."""
        for replicas in self._heard.values():
            for name, heard in replicas.items():
                replicas[name] = heard._replace(last=heard.last + seconds)

    def entries(self) -> list[ProviderEntry]:
        """All providers by name, without performance."""
        entries = [_entry(name, replicas) for name, replicas in self._heard.items()]
        entries += [silent.entry for silent in self._silent.values()]
        return sorted(entries, key=lambda entry: entry.name)

    def __contains__(self, provider: str) -> bool:
        return provider in self._heard or provider in self._silent


def _without_load(announcement: Announcement) -> Announcement:
    return msgspec.structs.replace(announcement, in_flight=0, queued=0)


def _silent(entry: ProviderEntry) -> ProviderEntry:
    """The provider without a replica. One that nobody set up stays that: it is none that `auto` waits for."""
    if entry.state == "unconfigured":
        return msgspec.structs.replace(entry, others=())
    why = f"no replica has been heard of for more than {ANNOUNCEMENT_LIFETIME:.0f} s"
    return msgspec.structs.replace(entry, state="unreachable", why=why, replicas=(), others=())


def _entry(name: str, replicas: dict[str, _Heard]) -> ProviderEntry:
    """The provider as its replicas describe it; in a rolling update the newest replica's word counts.

    Ready if any replica is. Only those that are ready are listed to be asked.
    """
    by_age = sorted(replicas.values(), key=lambda heard: heard.first)
    ready = [heard.announcement for heard in by_age if heard.announcement.state == "ready"]
    speakers = ready or [heard.announcement for heard in by_age]
    newest = speakers[-1]
    cards: dict[str, ModelCard] = {}
    for announcement in speakers:
        cards.update({card.name: card for card in announcement.models})
    return ProviderEntry(
        name=name,
        state=newest.state,
        why=newest.why,
        dialects=newest.dialects,
        models=tuple(cards.values()),
        any_model=newest.any_model,
        simulated=newest.simulated,
        replicas=tuple(ReplicaEntry(one.replica, one.address, one.in_flight, one.queued, one.limit) for one in ready),
        others=tuple(heard.announcement.replica for heard in by_age if heard.announcement.state != "ready"),
    )
