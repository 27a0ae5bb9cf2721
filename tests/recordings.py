"""The recorded provider traffic of `../shared/recorded`, and the small set of our own in `tests/recorded`.

Tests run without the shared recordings too: `shared()` is then empty, and `own()` still has every dialect.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared" / "recorded"
OWN = HERE / "recorded"


class Recording(NamedTuple):
    """One exchange: what was asked and what came back."""

    name: str
    provider: str
    features: tuple[str, ...]
    path: str
    request: dict[str, Any]
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def streaming(self) -> bool:
        """Whether the answer is a stream: server-sent events, or Ollama's lines."""
        text = self.body.strip()
        lines = self.path.endswith("/api/chat") and b"\n" in text
        return self.status == 200 and (lines or text.startswith((b"data:", b"event:", b":")))


def read(path: Path) -> Recording:
    """One recording file."""
    content = json.loads(path.read_text())
    request: dict[str, Any] = content.get("request") or {}
    asked: Any = request.get("body")
    body = content["response"].get("body") or ""
    return Recording(
        name=f"{path.parent.name}/{path.name}",
        provider=content.get("provider", ""),
        features=tuple(content.get("features") or ()),
        path=request.get("path") or "",
        request=asked if isinstance(asked, dict) else {},
        status=content["response"]["status"],
        headers={k.lower(): v for k, v in (content["response"].get("headers") or {}).items()},
        body=(body if isinstance(body, str) else json.dumps(body)).encode(),
    )


def _all(folder: Path) -> Iterator[Recording]:
    for path in sorted(folder.glob("*/*.json")):
        yield read(path)


def shared() -> list[Recording]:
    """Every shared recording; none where the folder is absent."""
    return list(_all(SHARED))


def own() -> list[Recording]:
    """The small recordings of our own making."""
    return list(_all(OWN))
