"""What secrets look like, wherever they are written: keys of known services, what names like `password` are given,
`Authorization` headers, private keys, JSON Web Tokens.

A text may be JSON, and JSON in JSON: an escape (`\\n`, `\\"`, `%20`) is no part of the word behind it. What a name is
given is taken out, and the name stays.

Whoever wrote a text may have written it to be slow to look through, and it is looked through on a gateway's event loop:
a shape takes time in proportion to the text, so none of them goes through a whole run of characters from every place
at which it could begin.

Sources: GitHub, "Secret scanning patterns"; gitleaks' rules; RFC 7468 (PEM); RFC 7519 (JWT).

Above it: `errors`, `tools.redaction`. Below it: nothing of ours. Outside it: secrets that are known by their value.
"""

import re
from functools import cache

TAKEN_OUT = "[redacted]"
_KEPT = rf"\g<kept>{TAKEN_OUT}"

HEX = "[0-9A-Fa-f]"
"""A digit of an escape."""
_NO_ESCAPE = rf"(?<!\\[abefnrtv])(?<!\\u{HEX}{{4}})(?<!\\x{HEX}{{2}})(?<!%{HEX}{{2}})"
"""Behind a letter or a digit: it ends no escape, of JSON (however often) or of a URL. The `n` of `\\n` before a key
is none of its letters."""

_INSIDE = rf"(?<![A-Za-z0-9_]{_NO_ESCAPE}(?<!\dm))"
"""Not inside a word. `m` behind a digit ends a terminal's colour."""


def _word(letters: str, shapes: str) -> str:
    """What begins as a word does. letters: those that `shapes` begin with: most places are passed by for these."""
    return rf"(?=[{letters}]){_INSIDE}(?:{shapes})"


_GIVEN = r"(?P<close>\\{0,15}[\"'])?\s*(?:=>|[:=])\s*(?P<open>\\{0,15}[\"'])?"
"""Between a name and what it is given. Quotes may be escaped, four times at most: without an end one would be looked
for from every backslash."""


def _value(ends: str, least: int) -> str:
    """At least `least` characters of what a name is given, up to one of `ends`, an escaped quote or new line."""
    inside = rf"(?:[^\s{ends}\\]|\\(?!\\{{0,14}}[\"']))"
    return rf"{inside}{{{least}}}(?:(?!\\{{1,15}}[nr]){inside})*+"


_KEY_LIKE = (
    r"(?:(?=(?:[A-Za-z0-9]{0,15}+[-_]){0,12}+[A-Za-z0-9]{16})|"
    r"(?=[a-z0-9_\-]{0,64}[A-Z])(?=[A-Z0-9_\-]{0,64}[a-z])|(?=(?:[a-z]{2,8}-){0,2}[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-))"
)
"""Names of things begin like keys. A key has a long piece without a sign, both cases, or a UUID."""

_NAME = (
    rf"(?i:(?=[xacspr])(?:(?:(?<![a-z]{_NO_ESCAPE}(?<!\dm))|(?-i:(?<=[a-z])(?=[A-Z])))"
    r"(?:(?:x-)?api[-_]?key|(?:access|refresh|session|auth|private)[-_]?token|client[-_]?secret|"
    r"secret[-_]?(?:access[-_]?)?key|subscription[-_]?key)|passw(?:or)?d|passphrase|(?<=[_;\-])pwd(?!\s*=\s*[/~])))"
)
"""Names that are given secrets. A password's may have letters before it (`PGPASSWORD`), others where a capital begins
them; `PWD` by itself is a directory."""

_END = r"(?=[\s\"'`,;)\]}\\]|\Z)"

_TEMPLATE = (
    rf"\$[{{(]|\$[A-Za-z_][\w:]{{0,64}}+(?:{_END}|(?=[&/.\[@|]|->))|\{{\{{|%\(|%[A-Za-z_]\w{{0,64}}+%|\#\{{|"
    r"<[^<>\"'\n]{0,64}>"
)
"""What stands for a value that is somewhere else: `$NAME`, `${NAME}`, `{{ name }}`, `%(name)s`, `%NAME%`, `<name>`."""

_PIECE = r"[A-Za-z_]{1,40}+(?:\d{1,3}(?:[A-Z_][A-Za-z_]{1,40}+\d{0,3})?)?"
_PATH = rf"{_PIECE}(?:(?:\??\.|->|::){_PIECE})"
_CODE = (
    rf"=|{_PATH}{{1,8}}(?:{_END}|(?=[(\[]))|{_PATH}{{0,8}}(?:\([^\n]{{0,200}}?\)|\[[^\]\n]{{0,64}}\])|"
    rf"{_PIECE}(?=\s{{1,8}}=(?!=))"
)
"""Code that says where a value comes from: names with dots, a call, an index, a type before `=`; `==`."""

_BARE = rf"(?:_{{0,2}}(?:[A-Z]?[a-z]{{2,32}}|[A-Z]{{2,32}}(?![a-z]))){{1,8}}{_END}"
"""Words as one name, without a digit: `authHeader`, `AUTH_HEADER`."""

_NO_CODE = rf"(?(open)|(?:(?<=[A-Z]=)|(?!{_CODE})))"
"""Only what stands in no quotes is code, and not in an environment (`NAME=value`)."""

_HEADER = _word("ap", "(?:proxy-)?authorization")
_SCHEME = r"(?i:bearer|basic|token|apikey|digest)\s+"

_NAMED = (
    (
        # A number of JSON. What takes its place is a string there.
        rf"(?P<kept>(?:{_NAME}|(?i:{_HEADER}))(?P<close>\\{{0,15}}[\"'])\s*:\s*(?:\[(?:\s|\\{{1,15}}[nrt])*+)?)"
        r"-?\d[\d.eE+\-]{5,}+(?=[\s,}\]\\])",
        r"\g<kept>\g<close>" + TAKEN_OUT + r"\g<close>",
    ),
    (
        rf"(?P<kept>{_NAME}{_GIVEN})(?=[^\s\"',;&\d]{{0,64}}\d)(?!{_TEMPLATE}){_NO_CODE}"
        rf"(?(close)(?(open)|(?![\[{{])))" + _value("\"',;&", 8),
        _KEPT,
    ),
    (
        # Without the name of a scheme it may be a word of prose: that has neither a digit nor a capital inside.
        rf"(?P<kept>(?i:{_HEADER}){_GIVEN}(?:(?P<scheme>{_SCHEME})|(?!{_SCHEME})"
        r"(?=[^\s\"',;]{0,64}?(?:\d|[a-z][A-Z])|[^\s\"',;]{32})))"
        rf"(?!{_TEMPLATE})(?(scheme)(?!\{{[A-Za-z_][\w.]{{0,64}}\}})|{_NO_CODE}(?(open)|(?!{_BARE})))"
        + _value("\"',;", 6),
        _KEPT,
    ),
    (rf"(?P<kept>(?i:{_word('b', 'bearer')}\s+))(?=[A-Za-z_\-.=+/~]{{0,64}}\d)[A-Za-z0-9_\-.=+/~]{{12,}}", _KEPT),
    (rf"(?P<kept>{_word('AS', '(?:Account|SharedAccess)Key=')})[A-Za-z0-9+/]{{40,}}={{0,2}}", _KEPT),
)
"""What is known by the name that is given it, and what stands there instead: the name stays."""

_SHAPES = (
    r"-----BEGIN (?P<label>[A-Z ]*PRIVATE KEY(?: BLOCK)?)-----[\s\S]*?(?:-----END (?P=label)-----|\Z)",
    _word("spr", r"(?:sk|pk|rk)[-_](?=[A-Za-z_\-]{0,40}\d)" + _KEY_LIKE + r"[A-Za-z0-9_\-]{20,}"),
    _word("pgxdtn", r"(?:psk|gsk|xai|pplx|glpat|dop_v1|tgp_v1|nvapi)[-_](?=[A-Za-z_\-]{0,40}\d)[A-Za-z0-9_\-]{20,}"),
    _word(
        "nhrspd",
        r"(?:npm|hf|r8|sbp)_[A-Za-z0-9]{30,}|pypi-AgE[A-Za-z0-9_\-]{20,}|dckr_pat_[A-Za-z0-9_\-]{20,}",
    ),
    _word("g", r"(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"),
    _word(
        "xwS",
        r"xapp-\d-[A-Za-z0-9-]{10,}|whsec_[A-Za-z0-9+/=]{20,}|SG\.[A-Za-z0-9_\-]{16,64}\.[A-Za-z0-9_\-]{16,64}",
    ),
    _word("h", r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_\-]{20,}"),
    _word("xAy", r"xox[abeprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_\-]{30,}|ya29\.[A-Za-z0-9_\-]{20,}"),
    _word("AG", r"(?:AKIA|ASIA)[A-Z0-9]{16}\b|GOCSPX-[A-Za-z0-9_\-]{24,}|AGE-SECRET-KEY-1[A-Z0-9]{50,}"),
    _word("sdkS", r"shp(?:at|ca|pa|ss)_[0-9a-f]{32}|dapi[0-9a-f]{32}|key-[0-9a-f]{32}\b|SK[0-9a-f]{32}\b"),
    _word("gnplrP", r"(?:glsa|ntn|pscale_tkn|pscale_pw|lin_api|rubygems|PMAK)[_-](?=[A-Za-z_\-]{0,40}\d)")
    + r"[A-Za-z0-9_\-]{30,}",
    _word("hdA", r"hv[sb]\.[A-Za-z0-9_\-]{20,}|dp\.(?:pt|st|sa|ct)\.[A-Za-z0-9]{40,}|ATATT3[A-Za-z0-9_\-=]{40,}"),
    _word(
        r"\dps",
        r"\d{8,10}:AA[A-Za-z0-9_\-]{33}\b|pat[A-Za-z0-9]{14}\.[0-9a-f]{64}\b|sq0(?:atp|csp)-[A-Za-z0-9_\-]{22,}",
    ),
    # A run is gone through from its beginning only, and from behind an escape that looks like its beginning.
    rf"(?<![A-Za-z0-9_\-]{_NO_ESCAPE})(?<!\\(?=[nrtbf]|u{HEX}{{4}}))"
    r"(?>[A-Za-z0-9_\-]*?eyJ)[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*",
    r"(?<=/)(?:(?<=://)|(?<=:\\/\\/))[^\s/?#:@]{0,64}:[^\s/?#@]{3,256}(?=@)",
)


@cache
def shapes() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Each shape, and what stands in its place. One after the other: as one expression they take twice the time."""
    return tuple(
        (re.compile(pattern), instead) for pattern, instead in (*_NAMED, *((one, TAKEN_OUT) for one in _SHAPES))
    )


def without_secrets(text: str) -> str:
    """`text` without what looks like a secret."""
    for pattern, instead in shapes():
        text = pattern.sub(instead, text)
    return text
