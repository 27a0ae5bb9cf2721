"""Pages in the charsets of the Web."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.tools.fetching import Fetched

WORDS = {
    "shift_jis": "東京の天気は晴れ",
    "euc-jp": "東京の天気は晴れ",
    "gbk": "北京天气晴朗",
    "big5": "台北天氣晴朗",
    "euc-kr": "서울 날씨 맑음",
    "windows-1251": "Погода в Москве",
    "koi8-r": "Погода в Москве",
    "iso-8859-2": "Łódź",
    "windows-1252": "20 € – “Zoë”",
    "utf-8": "Zoë 東京",
}


def text(body: bytes, media_type: str = "text/html", charset: str = "") -> str:
    return Fetched("https://a.example/", 200, media_type, charset, body).text


@pytest.mark.parametrize(("charset", "words"), WORDS.items())
@pytest.mark.parametrize(
    "head",
    [
        '<!doctype html><html><head><meta charset="{}">',
        "<META CHARSET={}>",
        "<meta charset = '{}' />",
        "<meta name=a content='charset=utf-8'><meta http-equiv=Content-Type content='text/html; charset={}'>",
        '<meta content="text/html;charset={}" http-equiv="content-type">',
        "<!-- <meta charset=utf-8> --><meta name=viewport><meta charset={}>",
        '<meta charset="nobody-knows"><meta charset="{}">',
        '<?xml version="1.0" encoding="{}"?>',
        "<?xml version='1.0' encoding='{}' standalone='yes'?>",
    ],
)
def test_a_page_says_its_charset(head: str, charset: str, words: str) -> None:
    page = head.format(charset) + words
    assert text(page.encode(charset)) == page
    assert text(page.encode(charset), "application/xhtml+xml") == page
    assert text(words.encode(charset), "text/plain", charset.upper()) == words


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("charset", ["", "iso-8859-1"])
@pytest.mark.parametrize("media_type", ["text/csv", "text/html", "application/json"])
def test_a_byte_order_mark_goes_before_everything(codec: str, charset: str, media_type: str) -> None:
    body = "price;42\nname;Zoë"
    marked = body if codec in ("utf-8-sig", "utf-16") else "\ufeff" + body
    assert text(marked.encode(codec), media_type, charset).removeprefix("\ufeff") == body


def test_xml_in_two_bytes_needs_no_mark() -> None:
    page = '<?xml version="1.0"?><a>Zoë</a>'
    assert text(page.encode("utf-16-le"), "text/xml") == text(page.encode("utf-16-be"), "text/xml") == page


@pytest.mark.parametrize(
    ("charset", "body", "words"),
    [
        ("iso-8859-1", b"\x93Zo\xeb\x94 \x80", "“Zoë” €"),
        ("us-ascii", b"\x93", "“"),
        ("x-sjis", "①".encode("cp932"), "①"),
        ("gb2312", "镕".encode("gb18030"), "镕"),
        ("ks_c_5601-1987", "똠".encode("cp949"), "똠"),
        ("windows-874", "ไทย".encode("cp874"), "ไทย"),
        ("utf-16", "Zoë".encode("utf-16-le"), "Zoë"),
        ("", "Zoë".encode(), "Zoë"),
        ("nobody-knows", "Zoë".encode(), "Zoë"),
        ("punycode", "Zoë".encode(), "Zoë"),
        ("base64", "Zoë".encode(), "Zoë"),
        ("undefined", "Zoë".encode(), "Zoë"),
        ("\0", "Zoë".encode(), "Zoë"),
    ],
)
def test_charsets_are_read_as_browsers_do(charset: str, body: bytes, words: str) -> None:
    assert text(body, "text/plain", charset) == words


@pytest.mark.parametrize("declared", ["utf-16", "utf-16le", "unicode", "utf-16be"])
def test_what_says_in_single_bytes_that_it_is_utf_16_is_not(declared: str) -> None:
    page = f"<meta charset={declared}>Zoë"
    assert text(page.encode()) == page


def test_the_header_goes_before_the_page_and_only_pages_say_anything() -> None:
    page = "<meta charset=shift_jis>Zoë"
    assert text(page.encode(), charset="utf-8") == page
    assert text(page.encode(), "text/plain") == page
    assert text(b" " * 2000 + page.encode()) == " " * 2000 + page


@given(st.binary(max_size=2000), st.sampled_from(["", "text/html", "text/plain"]), st.text(max_size=20))
def test_whatever_comes_is_text(body: bytes, media_type: str, charset: str) -> None:
    assert isinstance(text(body, media_type, charset), str)
