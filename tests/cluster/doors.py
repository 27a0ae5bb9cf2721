"""The four ways in: Serve's ingress or the replica's own listener, the routed lane or the direct one.

Above it: the tests here. Below it: `running`, httpx. Outside it: what is asked.
"""

from typing import Any, NamedTuple

import httpx

from tests.clients import Caller, Head
from tests.cluster.running import KEY, PROMPT, Running

CHAT = "/v1/chat/completions"
NAMES = ("ingress-routed", "listener-routed", "ingress-direct", "listener-direct")


class Door(NamedTuple):
    """One way to one provider. url: base URL; prefix: stands before the path; named: before the model's name."""

    url: str
    prefix: str
    named: str

    @property
    def chat(self) -> str:
        """The path of chat completions."""
        return self.prefix + CHAT

    def body(self, model: str, **more: Any) -> dict[str, Any]:
        """A streamed chat completion, unless `more` says otherwise."""
        messages = [{"role": "user", "content": f"Say {PROMPT}"}]
        return {"model": self.named + model, "messages": messages, "stream": True, **more}

    async def ask(self, caller: Caller, model: str, **more: Any) -> Head:
        """Post a chat completion on an open connection and read the head of the answer."""
        return await caller.post(self.chat, self.body(model, **more), headers=authorized())

    def client(self) -> httpx.AsyncClient:
        """An HTTP client whose paths begin with `/v1`."""
        return client(self.url + self.prefix)


def door(running: Running, name: str, provider: str) -> Door:
    """One of `NAMES`, to one provider."""
    port, lane = name.split("-")
    if lane == "routed":
        return Door(running.url if port == "ingress" else running.listener(), "", f"{provider}/")
    if port == "ingress":
        return Door(running.url, f"/{provider}", "")
    return Door(running.listener(provider), "", "")


def authorized(key: str = KEY, **more: str) -> dict[str, str]:
    """Request headers with a key; in the names of `more`, underscores stand for hyphens."""
    return {"authorization": f"Bearer {key}", **{name.replace("_", "-"): value for name, value in more.items()}}


def client(url: str, key: str = KEY) -> httpx.AsyncClient:
    """An HTTP client that shows a key."""
    return httpx.AsyncClient(base_url=url, headers=authorized(key), timeout=60.0, trust_env=False)
