"""How bytes of the Web are read as text: by their first bytes, by what was said of them, by what they say themselves.

    byte order mark -> the charset of the header -> `<meta>` or `<?xml?>` in the first 1,024 bytes -> UTF-8

Source: https://encoding.spec.whatwg.org (names, and what browsers read under them),
https://html.spec.whatwg.org/#determining-the-character-encoding. What a browser guesses by its language is UTF-8 here.

Above it: `fetching`. Below it: nothing.
"""

import codecs
import re
from collections.abc import Iterator

_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_UNMARKED = ((b"<\0?\0x\0", "utf-16-le"), (b"\0<\0?\0x", "utf-16-be"))
"""How XML begins that has no mark."""

_LOOKED_AT = 1024

_OTHER_NAMES = {
    name: codec
    for codec, names in {
        "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8",
        "utf-16-le": "unicode csunicode ucs-2 iso-10646-ucs-2 unicodefeff",
        "utf-16-be": "unicodefffe",
        "cp932": "windows-31j x-sjis",
        "gb18030": "gb_2312 gb_2312-80 x-gbk csgb2312 iso-ir-58",
        "big5hkscs": "cn-big5 x-x-big5",
        "cp949": "windows-949 ksc5601 ksc_5601 ks_c_5601-1989",
        "euc_jp": "x-euc-jp cseucpkdfmtjapanese",
        "cp874": "windows-874 dos-874",
        "iso8859-8": "iso-8859-8-i iso-8859-8-e logical visual csiso88598i csiso88598e",
        "cp1252": "x-user-defined",
        "mac-roman": "mac x-mac-roman csmacintosh",
        "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
        "koi8-r": "koi koi8",
        **{f"cp125{digit}": f"x-cp125{digit}" for digit in range(9)},
    }.items()
    for name in names.split()
}
"""Names of the Web that Python does not know, and what they mean."""

_READ_AS = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "shift_jis": "cp932", "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "big5": "big5hkscs",
    "utf-16": "utf-16-le",
}  # fmt: skip
"""What is read as something that has more characters, for pages use them all the same."""

_KNOWN = frozenset((
    *_OTHER_NAMES.values(), *_READ_AS.values(), "cp866", "iso2022_jp", "koi8-u",
    *(f"iso8859-{number}" for number in (2, 3, 4, 5, 6, 7, 10, 13, 14, 15, 16)),
))  # fmt: skip
"""Python has codecs that are none of the Web's, and take long for what is made to."""

_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_META = re.compile(rb"<meta[\s/]([^>]*)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(rb"""([^\s=/"'>]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?""")
_IN_CONTENT = re.compile(r"""charset\s*=\s*["']?\s*([^\s;"']+)""", re.IGNORECASE)
_DECLARATION = re.compile(rb"""<\?xml\s[^>]*?encoding\s*=\s*(?:"([^"]*)"|'([^']*)')""")


def codec_of(body: bytes, media_type: str, charset: str) -> str:
    """The name of the codec that reads the body. charset: as the header says, "" where it says nothing."""
    for mark, codec in _MARKS:
        if body.startswith(mark):
            return codec
    if (said := _codec(charset)) is not None:
        return said
    if media_type and not media_type.endswith(("html", "xml")):
        return "utf-8"
    start = body[:_LOOKED_AT]
    for beginning, codec in _UNMARKED:
        if start.startswith(beginning):
            return codec
    for name in _declared(start):
        if (found := _codec(name)) is not None:
            # What could be read that far is not UTF-16.
            return "utf-8" if found.startswith("utf-16") else found
    return "utf-8"


def _codec(name: str) -> str | None:
    """The codec of that name, as pages mean it."""
    name = name.strip().lower()
    try:
        codec = _OTHER_NAMES.get(name) or codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    codec = _READ_AS.get(codec, codec)
    return codec if codec in _KNOWN else None


def _declared(start: bytes) -> Iterator[str]:
    """What the beginning of a page says of its charset."""
    if found := _DECLARATION.match(start):
        yield (found[1] or found[2] or b"").decode("latin-1")
    for meta in _META.finditer(_COMMENT.sub(b"", start)):
        pairs = reversed(_ATTRIBUTE.findall(meta[1]))
        given = {name.lower(): b"".join(values).decode("latin-1") for name, *values in pairs}
        if charset := given.get(b"charset"):
            yield charset
        elif given.get(b"http-equiv", "").strip().lower() == "content-type":
            yield from _IN_CONTENT.findall(given.get(b"content", ""))[:1]
