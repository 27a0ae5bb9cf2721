"""Secrets in what tools answer: found wherever they stand, in a time that grows with the text and no faster."""

import hashlib
import json
import time
from urllib.parse import quote

import pytest

from pipelines.tools.redaction import Redactor

OPAQUE = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6"
HEX = "0123456789abcdef" * 2
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGH"

SHORT, LONG = 2_000, 32_000


def seconds(text: str) -> float:
    """CPU time of one look, the best of three: another process may have had the caches in between."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        Redactor(hashes=["0" * 64]).redacted(text)
        taken.append(time.process_time() - began)
    return min(taken)


@pytest.mark.parametrize("before", ["", "password=", "bearer ", "eyJabcdefgh.eyJ", "authorization: ", "password=a."])
@pytest.mark.parametrize(
    "piece",
    [
        *("sk-", "npm-", "hf_a-", "eyJ-", "eyJabcdefgh.", "api_key=", "password=a", "://a:b", "://", "SG.", "bearer "),
        *("A ", "1", "pat1", "ntn_", "\\n", "\\nsk-", "\\neyJ", "\\u000a", "%41eyJ", "1msk-1", "sk-1a-B"),
        *("\\", '\\"', 'password\\":', 'authorization\\":a', "psk-"),
        *("password=$a", "password=a.b", "password=f(1", "api_key=<", "myApiKey", '"password": 12345678', "aBb", "a_"),
    ],
)
def test_no_text_is_slow_to_look_through(piece: str, before: str) -> None:
    text = before + piece * (LONG // len(piece))
    # 16 times the text: some 16 times the time, and 256 times it where every place is looked at from every other one.
    assert seconds(text[:LONG]) < 64 * max(seconds(text[:SHORT]), 0.0002)


def test_a_long_token_is_taken_out_whole() -> None:
    token = f"eyJ{'h' * 2_000}.eyJ{'p1-_' * 2_000}.{'s' * 500}"
    assert Redactor().redacted(f"a {token} b") == "a [redacted] b"
    assert Redactor().redacted(f"my-{token}") == "[redacted]"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f'"apiKey": "{OPAQUE}"', OPAQUE),
        (f"apikey={OPAQUE}", OPAQUE),
        (f"OPENAI_API_KEY={OPAQUE}", OPAQUE),
        (f"aws_secret_access_key = {OPAQUE}/+{OPAQUE}", OPAQUE),
        (f'{{"access_token":"{OPAQUE}"}}', OPAQUE),
        (f"https://a.example/?access_token={OPAQUE}&x=1", OPAQUE),
        (f'"client_secret":"{OPAQUE}"', OPAQUE),
        ("password=hunter2hunter2", "hunter2"),
        (f"SG.{OPAQUE[:22]}.{OPAQUE}{OPAQUE[:11]}", OPAQUE[:22]),
        (f"xapp-1-A012-12345-{OPAQUE}", OPAQUE),
        (f"https://hooks.slack.com/services/T000/B000/{OPAQUE[:24]}", OPAQUE[:24]),
        (f"AccountName=a;AccountKey={OPAQUE * 2}{OPAQUE[:22]}==;x", OPAQUE),
        (f"hf_{LETTERS}", LETTERS),
        (f"npm_{LETTERS}ab", LETTERS),
        (f"pypi-AgEIcHlwaS5vcmc{OPAQUE}", OPAQUE),
        ("postgresql://:p4ss@h/db", "p4ss"),
        (f"dckr_pat_{LETTERS[:27]}", LETTERS[:27]),
        (f"nvapi-{OPAQUE}-{OPAQUE}", OPAQUE),
        (f"whsec_{OPAQUE}+/{LETTERS}", LETTERS),
        (f"sbp_{'0123456789abcdef' * 2}01234567", "0123456789abcdef"),
        (f"use bearer {OPAQUE}", OPAQUE),
        (f"GOCSPX-{OPAQUE[:28]}", OPAQUE[:28]),
        (f"AGE-SECRET-KEY-1{OPAQUE.upper()}{OPAQUE.upper()[:26]}", OPAQUE.upper()),
        (f"shpat_{HEX}", HEX),
        (f"dapi{HEX}", HEX),
        (f"key-{HEX}", HEX),
        (f"SK{HEX}", HEX),
        (f"glsa_{OPAQUE}_0a1b2c3d", OPAQUE),
        (f"lin_api_{OPAQUE}{OPAQUE[:8]}", OPAQUE),
        (f"ntn_{OPAQUE}{OPAQUE[:14]}", OPAQUE),
        (f"pscale_tkn_{OPAQUE}", OPAQUE),
        (f"PMAK-{HEX[:24]}-{HEX}01", HEX),
        (f"hvs.{OPAQUE}", OPAQUE),
        (f"dp.pt.{OPAQUE}{OPAQUE[:11]}", OPAQUE),
        (f"ATATT3xFfGF0{OPAQUE * 3}=0A1B2C3D", OPAQUE),
        (f"bot 123456789:AA{OPAQUE}x", OPAQUE),
        (f"patAbCdEfGh12345x.{HEX * 2}", HEX),
        (f"sq0atp-{OPAQUE[:22]}", OPAQUE[:22]),
        ("PGPASSWORD=hunter2hunter2 psql", "hunter2"),
        ("export MYSQL_PWD=hunter2hunter2", "hunter2"),
        ("passwd=hunter2hunter2", "hunter2"),
        (f"refresh_token=1//0{OPAQUE}", OPAQUE),
        (f"aws_session_token={OPAQUE}", OPAQUE),
        (f"Ocp-Apim-Subscription-Key: {HEX}", HEX),
        (f"SECRET_KEY='django-insecure-{OPAQUE}'", OPAQUE),
        (f"'apiKey' => '{OPAQUE}'", OPAQUE),
        (f'spotifyClientSecret: "{OPAQUE}"', OPAQUE),
        ("DB_PASSWORD=abc.hunter2", "hunter2"),
        ('password = "abc.hunter2"', "hunter2"),
        ('password = "f(hunter2)"', "hunter2"),
        ("password: $2b$10$hunter2hunter2", "hunter2"),
    ],
)
def test_secrets_as_services_write_them(text: str, secret: str) -> None:
    told = Redactor().redacted(text)
    assert secret not in told
    assert "[redacted]" in told


SECRETS = [
    "sk-proj-abcdefghij0123456789ABCDEF",
    "ghp_abcdefghijklmnopqrst0123456789ABCD",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "API_KEY=zxcvbnm123456",
    "Authorization: Bearer abcdefgh",
    "use bearer a1b2c3d4e5f6g7",
    json.dumps({"password": "hunter2secret"}),
    json.dumps({"Authorization": "Basic dXNlcjpwYXNz"}),
    json.dumps({"password": "hunter2\\x"}),
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("before", ["\n", "\t", '"', "\u0001", "\\", "a\r\n", "\x1b[32m"])
@pytest.mark.parametrize("deep", [1, 2, 3])
def test_secrets_in_json_are_taken_out_and_leave_it_json(secret: str, before: str, deep: int) -> None:
    text = f"# keys{before}{secret}\nDEBUG=1"
    for _ in range(deep):
        text = json.dumps({"content": text})
    told = Redactor().redacted(text)
    for _ in range(deep):
        told = json.loads(told)["content"]
    assert told.startswith("# keys")
    assert told.endswith("\nDEBUG=1")
    assert "[redacted]" in told
    left = told.replace("Bearer", "").replace("Basic", "")
    assert not any(piece in left for piece in (secret[-12:-3], "hunter2", "dXNl", "a1b2"))


@pytest.mark.parametrize("before", ["%0A", "key%3D", "\\x0a", "\x1b[0m", "键"])
@pytest.mark.parametrize("secret", SECRETS[:4])
def test_what_ends_an_escape_begins_no_word(secret: str, before: str) -> None:
    assert Redactor().redacted(before + secret) == before + "[redacted]"


@pytest.mark.parametrize("space", [None, 1])
@pytest.mark.parametrize("deep", [0, 1, 2])
@pytest.mark.parametrize(
    "given",
    [
        *("abcd1234efgh5678", "Bearer abcdef123456", "hunter2\\hunter2", "${KEY_1}", "8 characters, 1 digit"),
        *(1234567890, -1234567890, 12345678.25, [1234567890, 1], ["hunter2hunter2"], {"type": "string"}, None, True),
    ],
)
@pytest.mark.parametrize("name", ["client_secret", "Authorization", "db_password", "refreshToken"])
def test_what_is_json_stays_json_with_every_name(name: str, given: object, deep: int, space: int | None) -> None:
    text = json.dumps({"a": {name: given}, "n": 1}, indent=space)
    for _ in range(deep):
        text = json.dumps([text])
    told = Redactor().redacted(text)
    assert "1234567890" not in told
    assert "abcd1234" not in told
    for _ in range(deep):
        (told,) = json.loads(told)
    assert json.loads(told).keys() == {"a", "n"}
    assert json.loads(told)["a"].keys() == {name}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"X-Api-Key: {HEX}", "X-Api-Key: [redacted]"),
        ('"Authorization": "Bearer abcdef123"', '"Authorization": "Bearer [redacted]"'),
        ("password = 'hunter2hunter2'", "password = '[redacted]'"),
        (f"AccountKey={OPAQUE * 2}==;x", "AccountKey=[redacted];x"),
        (f"use bearer {OPAQUE}", "use bearer [redacted]"),
    ],
)
def test_a_name_stays_with_its_quotes(text: str, told: str) -> None:
    assert Redactor().redacted(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "fetch(url, { headers: { Authorization: authHeader, Accept: 'json' } })",
        "authorization=requiresAdmin",
        "Authorization: Bearer ${API_TOKEN_1}",
        'headers = {"Authorization": f"Bearer {token1}"}',
        "client_secret = settings.OAUTH2_CLIENT_SECRET",
        "password = get_password(length=16)",
        "password=passwordEncoder.encode(user1)",
        "apiKey: config.services[0].key",
        "api_key: process.env.API_KEY_2,",
        "const password: Password2Field = form.password",
        "psql --password=$DB_PASSWORD_1 -h db",
        'password="${DB_PASSWORD1}"',
        "password: {{ vault_password_1 }}",
        "password: {{vault_password_1}}",
        "password=%(db_password_1)s",
        "api_key: <your-api-key-1>",
        "if password==stored_hash256: pass",
        "OLD_PWD=/home/user1/project",
    ],
)
def test_code_that_says_where_a_secret_is_stays(text: str) -> None:
    assert Redactor().redacted(text) == text
    assert json.loads(Redactor().redacted(json.dumps({"c": text + "\n"})))["c"] == text + "\n"


def test_an_address_in_json_may_have_escaped_slashes() -> None:
    assert Redactor().redacted(r"https:\/\/me:passw0rd@host\/") == r"https:\/\/[redacted]@host\/"


@pytest.mark.parametrize(
    "key",
    [
        f"sk-{OPAQUE}{OPAQUE[:16]}",
        f"sk-ant-api03-{OPAQUE[:9]}-{OPAQUE[9:]}_AA",
        f"sk-or-v1-{HEX}{HEX}",
        f"sk_live_{OPAQUE[:24]}",
        "sk-lf-01234567-89ab-cdef-0123-456789abcdef",
        "pk-01234567-89ab-cdef-0123-456789abcdef",
        "sk-proj-aB1-cD2_eF3-gH4_iJ5-kL6",
    ],
)
def test_keys_that_begin_as_names_do(key: str) -> None:
    assert Redactor().redacted(f"a {key} b") == "a [redacted] b"


@pytest.mark.parametrize(
    "text",
    [
        "sk-learn-based-pipeline-2024-edition",
        "pk-2024-03-01-monthly-metrics-table",
        "pk_customers_orders_2024_idx",
        "Authorization: required for all endpoints",
        '"authorization": "optional"',
        "Use bearer authentication for all requests.",
        "Bearer authorization is required",
        "The api_key: required parameter",
        "api_key=os.environ['KEY']",
        'the "password": required, and client_secret: optional, of 8 characters',
        "https://blog.example/npm-package-manager-2024-guide",
        "hf-transformers-v4-release-notes-page and r8-minification-rules-for-android-14",
        "pypi-packages-of-2024-in-numbers-and-words",
        "ntn_bearings_and_lin_api_reference_guide_for_people_who_read",
        "rubygems-release-notes-and-glsa-advisories-of-gentoo",
        "at 10:30:00 the patient 12345678:AAA was seen; the patterns.of-2024",
        "https://a.com:8443?mail=joe@x.org",
        "https://a.com:8443#joe@x.org",
    ],
)
def test_words_about_secrets_stay(text: str) -> None:
    assert Redactor().redacted(text) == text


AROUND = [
    "DB_PASSWORD={}",
    "the password is {}.",
    "url?token={}&x",
    "plain {} here",
    "'{}'",
    "/tmp/{}",
    "MY_TOKEN: {}",
    '{{"a":"{}","b":1}}',
]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("value", ["correcthorsebatterystaple", "Zx!kdhhjJqhblsdkfj"])
def test_a_value_that_is_known_by_its_hash(value: str, around: str) -> None:
    redactor = Redactor(hashes=[hashlib.sha256(value.encode()).hexdigest()])
    assert redactor.redacted(around.format(value)) == around.format("[redacted]")
    assert redactor.redacted(around.format(value + "s")) == around.format(value + "s")


@pytest.mark.parametrize("key", ["psk-" + "Ab-dEf_hIjKlMnOpQrStUvWxYz-_abcdefghijklmno", "psk-AbCdEfGhIjKlMnOpQrSt"])
@pytest.mark.parametrize("around", ["foo_{}", "-{}", "a+{}", "\\n{}", "\\\\n{}", "\\u000a{}", "%0A{}", "npm{}", "{}"])
def test_keys_of_our_own_are_known_wherever_they_stand(key: str, around: str) -> None:
    redactor = Redactor(hashes=[hashlib.sha256(key.encode()).hexdigest()])
    assert redactor.redacted(around.format(key)) == around.format("[redacted]")


def test_a_key_of_our_own_may_be_followed_by_anything() -> None:
    key = "psk-" + "Ab-dEf_hIjKlMnOpQrStUvWxYz-_abcdefghijklmno"
    redactor = Redactor(hashes=[hashlib.sha256(key.encode()).hexdigest()])
    assert redactor.redacted(f"my_{key}_and-more") == "my_[redacted]_and-more"


@pytest.mark.parametrize("around", ["\\n{}", "\\t{}\\n", "\\u000a{}", "\\\\n{}", "%0A{}", '\\"{}\\"', "[{}]"])
@pytest.mark.parametrize("value", ["correct-horse_battery+staple", "correcthorsebatterystaple"])
def test_a_hashed_word_begins_behind_an_escape(value: str, around: str) -> None:
    redactor = Redactor(hashes=[hashlib.sha256(value.encode()).hexdigest()])
    assert redactor.redacted(around.format(value)) == around.format("[redacted]")


@pytest.mark.parametrize("around", ["foo_{}", "-{}", "a+{}", "~{}~"])
def test_a_hashed_word_of_letters_is_known_between_any_signs(around: str) -> None:
    redactor = Redactor(hashes=[hashlib.sha256(OPAQUE.encode()).hexdigest()])
    assert redactor.redacted(around.format(OPAQUE)) == around.format("[redacted]")


@pytest.mark.parametrize("around", ["\\n{}", "{}\\n", "\\t{}\\r"])
def test_a_hashed_word_with_other_signs_is_known_between_escapes(around: str) -> None:
    value = "Zx!kdhhj#Jqhblsdkfj"
    redactor = Redactor(hashes=[hashlib.sha256(value.encode()).hexdigest()])
    assert redactor.redacted(around.format(value)) == around.format("[redacted]")


def test_what_a_name_is_given_may_have_signs_of_its_own() -> None:
    value = "ab+c/defghijklm=="
    assert Redactor(hashes=[hashlib.sha256(value.encode()).hexdigest()]).redacted(f"A={value}") == "A=[redacted]"


@pytest.mark.parametrize("around", [*AROUND, "is it {}?!", "{}{}", "x{}x"])
@pytest.mark.parametrize("value", ["correcthorsebatterystaple", 'a "quoted\\ pass phrase & é', "ab+c/defghijklm=="])
def test_a_value_that_is_known_is_taken_out_wherever_it_stands(value: str, around: str) -> None:
    redactor = Redactor(values=[value, value[:16]])
    for form in (value, json.dumps(value)[1:-1], quote(value, safe="")):
        assert redactor.redacted(around.format(form, form)) == around.format("[redacted]", "[redacted]")


def test_a_value_that_is_no_text_is_none_the_less_known() -> None:
    assert Redactor(values=["sixteen\udcffcharacters"]).redacted("a sixteen%FFcharacters") == "a [redacted]"
