"""What each provider format demands of a tool beyond valid JSON Schema 2020-12.

Sources, where the vendors' references say nothing, are their own refusals (HTTP 400):
- OpenAI: "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'const'/'not' at the top level"
- OpenAI: "array schema missing items", with `prefixItems` too; "object schema missing properties"
- OpenAI takes objects only where a schema is expected: `true` and `false` are written as `{}` and `{"not": {}}`
- Anthropic: "input_schema does not support oneOf, allOf, or anyOf at the top level"
- Anthropic: "input_schema.properties: Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'", at the top level
- Ollama reads a schema into types of its own (api/types.go, `ToolFunctionParameters`): properties are objects, and
  what it does not know at the top, unions above all, never reaches the model; it has no strict mode
- names: OpenAI API reference, "Create chat completion", `tools.function.name`, which is the narrowest of all

Every format takes local references below the top level, so they are kept.

`PLAIN` is no provider's: what a tool of ours is called with is checked against a schema that nothing was taken from.

Above it: every module of this package. Below it: nothing.
"""

import re
from typing import NamedTuple

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What the name of a tool must match in full, for every provider."""

PROPERTY_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""What the name of an argument must match in full, where a format cares."""


PLAIN = "plain"
"""The format of tools that run here: any schema of an object, as it came where it is valid."""


class Rules(NamedTuple):
    """One format.

    refused_at_root: keywords that the top level must not have; properties: the top level must have them;
    items: every array must have them; booleans: `true` and `false` are taken for schemas of properties;
    safe_keys: names of arguments must match `PROPERTY_KEY`; bare: a tool may come without a schema; strict: a model
    can be held to a schema at all.
    """

    refused_at_root: frozenset[str]
    properties: bool
    items: bool
    booleans: bool
    safe_keys: bool
    bare: bool
    strict: bool = True


_UNIONS = frozenset(("oneOf", "anyOf", "allOf"))
_OPENAI = Rules(
    _UNIONS | {"enum", "const", "not"}, properties=True, items=True, booleans=False, safe_keys=False, bare=True
)

FORMATS: dict[str, Rules] = {
    "openai_chat": _OPENAI,
    "openai_responses": _OPENAI._replace(bare=False),
    "anthropic_messages": Rules(_UNIONS, properties=False, items=False, booleans=True, safe_keys=True, bare=False),
    "ollama_chat": _OPENAI._replace(items=False, bare=False, strict=False),
    PLAIN: Rules(frozenset(), properties=False, items=False, booleans=True, safe_keys=False, bare=False, strict=False),
}
"""The rules of each wire, by its name, and those of `PLAIN`."""
