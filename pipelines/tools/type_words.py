"""Type names of programming languages as JSON Schema: what `type` holds in real definitions.

Plain words (`dict`, `float`, `HashMap`, `BIGINT`), generic ones (`List[int]`, `Map<String, Integer>`), `string[]`,
`str?`, and unions (`number | null`, `string or int`). What is said beside the type is passed over, as definitions that
are made of docstrings have it (`str, optional`, `int, default 5`, `List[int] (required)`; xLAM's, numpydoc's).

Above it: `schemas`. Below it: nothing.
"""

import re

import msgspec

from pipelines.conversation import Json

LEGAL = frozenset(("string", "number", "integer", "boolean", "array", "object", "null"))
"""The types of JSON Schema."""

Fragment = dict[str, Json]

_BY_TYPE = {
    "string": "str char character text varchar nvarchar charsequence stringbuilder keyword symbol enum const regex "
    "regexp pattern nsstring byte[] bytes bytearray blob binary base64 file path",
    "integer": "int long short byte bigint biginteger smallint tinyint int8 int16 int32 int64 uint uint8 uint16 uint32 "
    "uint64 usize isize i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 atomicinteger atomiclong timestamp serial",
    "number": "float double decimal bigdecimal real numeric num f32 f64 float32 float64 complex single",
    "boolean": "bool bit atomicboolean",
    "array": "list arraylist linkedlist vector vec sequence seq iterable iterator collection tuple stack queue deque "
    "slice stream ndarray generator arrays",
    "object": "dict dictionary map hashmap treemap linkedhashmap concurrenthashmap hashtable record mapping struct "
    "json jsonobject properties btreemap defaultdict ordereddict namedtuple dataclass class instance interface",
    "null": "none nil void nonetype undefined",
}
_FORMATS = {
    "date": "date", "localdate": "date", "datetime": "date-time", "date-time": "date-time",
    "localdatetime": "date-time", "instant": "date-time", "zoneddatetime": "date-time", "time": "time",
    "localtime": "time", "duration": "duration", "timedelta": "duration", "uuid": "uuid", "uri": "uri", "url": "uri",
    "email": "email", "ipv4": "ipv4", "ipv6": "ipv6", "hostname": "hostname",
}  # fmt: skip
_ANY = ("any", "unknown", "mixed", "dynamic", "variant", "value", "jsonvalue", "anything", "type_unspecified", "")
_SETS = ("set", "hashset", "treeset", "frozenset", "linkedhashset", "btreeset")

_WORDS: dict[str, Fragment] = {
    **{word: {"type": kind} for kind, words in _BY_TYPE.items() for word in [kind, *words.split()]},
    **{word: {"type": "string", "format": form} for word, form in _FORMATS.items()},
    **{word: {"type": "array", "uniqueItems": True} for word in _SETS},
    **{word: {} for word in _ANY},
}

_GENERIC = re.compile(r"([\w.\-]+(?: +[\w.\-]+)*)\s*(?:<(.*)>|\[(.+)\]|\((.*)\))", re.DOTALL)
_ASIDE = re.compile(r"(?:optional|required|mandatory|default|defaults)\b", re.IGNORECASE)
_DEPTH = 8
_OPENING, _CLOSING = "<[({", ">])}"


def read_type(word: str, depth: int = 0) -> Fragment | None:
    """The schema that a type's name stands for, {} where it is "any"; None where nobody knows the name."""
    word = word.strip()
    known = _WORDS.get(word.lower().rpartition(".")[2])
    if known is not None:
        return dict(known)
    if depth > _DEPTH:
        return None
    if (alone := _alone(word)) != word:
        return read_type(alone, depth + 1)
    branches = _split(word.replace(" or ", "|"), "|")
    if len(branches) > 1:
        return _union([read_type(branch, depth + 1) for branch in branches])
    if word.endswith("?"):
        return _union([read_type(word[:-1], depth + 1), {"type": "null"}])
    if word.endswith("[]"):
        return {"type": "array", "items": read_type(word[:-2], depth + 1) or {}}
    generic = _GENERIC.fullmatch(word)
    if generic is None:
        return None
    inner = next(group for group in generic.groups()[1:] if group is not None)
    return _generic(generic[1].lower().rpartition(".")[2], inner, depth)


def _alone(word: str) -> str:
    """The type without what is said beside it."""
    first, *more = _split(word, ",")
    if more and _ASIDE.match(more[0]):
        return first
    before, opening, after = word.rpartition("(")
    return before.rstrip() if opening and word.endswith(")") and _ASIDE.match(after) else word


def _generic(base: str, inner: str, depth: int) -> Fragment | None:
    arguments = [part for part in _split(inner, ",") if part]
    if base in ("union", "optional", "nullable"):
        members = [read_type(argument, depth + 1) for argument in arguments]
        return _union(members if base == "union" else [*members, {"type": "null"}])
    if base in ("literal", "enum"):
        return {"enum": [argument.strip("'\"") for argument in arguments]} if arguments else {}
    known = _WORDS.get(base)
    if known is None:
        return None
    found = dict(known)
    if known.get("type") == "array" and arguments:
        members = [read_type(argument, depth + 1) or {} for argument in arguments if argument != "..."]
        if base == "tuple" and "..." not in arguments:
            return {**found, "prefixItems": members}
        found["items"] = members[0] if members else {}
    elif known.get("type") == "object" and len(arguments) == 2:
        found["additionalProperties"] = read_type(arguments[1], depth + 1) or {}
    return found


def _union(members: list[Fragment | None]) -> Fragment | None:
    """Several schemas as one; None where one of them is not known."""
    known = [member for member in members if member is not None]
    if len(known) < len(members):
        return None
    if {} in known:
        return {}
    distinct = list({msgspec.json.encode(member, order="sorted"): member for member in known}.values())
    if len(distinct) == 1:
        return distinct[0]
    if all(member.keys() == {"type"} and isinstance(member["type"], str) for member in distinct):
        return {"type": [member["type"] for member in distinct]}
    return {"anyOf": distinct}


def _split(text: str, separator: str) -> list[str]:
    """`text` at each `separator` that stands outside of brackets, without the blanks around it."""
    parts, start, depth = [], 0, 0
    for place, letter in enumerate(text):
        if letter in _OPENING:
            depth += 1
        elif letter in _CLOSING:
            depth -= 1
        elif letter == separator and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]


def join(members: list[Fragment | None]) -> Fragment | None:
    """A union of types; None where one of them is not known."""
    return _union(members) if members else {}
