"""Attacks on the console: other websites, other users of the machine, hostile evidence and agreements."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from kluis.cleanroom.agreement.agreement import Arm
from kluis.cleanroom.records.rooms import Room
from kluis.console.access import MAX_BODY
from tests.cleanroom import samples
from tests.console.site import Case, Site

HOSTILE = '<script src="/x"></script><img src=x onerror=alert(1)> \' hx-get="/x" {{ 7*7 }}'


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("console"))


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example:8417",
        "localhost:8417",
        "127.0.0.1:8417",
        "kluis-00000000000000000000000000000000.localhost:8417",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.0.0.1:8417.attacker.example",
        "",
    ],
)
def test_dns_rebinding(case: Case, host: str) -> None:
    """A name that an attacker's DNS resolves to loopback reaches no page, even with cookie and token."""
    site = case.site()
    for path in ("/", "/rooms", site.access.url.removeprefix(site.access.origin)):
        answer = site.get(path, host=host)
        assert (answer.status_code, "set-cookie" in answer.headers) == (421, False)
        assert (
            answer.text == "kluis console: want another Host: open the address that kluis console printed\n"
        )


def test_a_second_host(case: Case) -> None:
    """A request with two Host headers is refused: programs disagree about which one counts."""
    site = case.site()
    twice = [(b"host", site.access.host.encode())] * 2
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": twice}
    answer = site.access.refusal_of(scope)
    assert answer is not None
    assert answer.status_code == 421


@pytest.mark.parametrize(
    "origin",
    ["http://attacker.example", "null", "http://127.0.0.1:8417", "http://localhost:8417", None],
)
def test_a_post_of_another_site(tmp_path: Path, origin: str | None) -> None:
    """A form of another origin signs nothing, though it came with the cookie and the form's token."""
    case = Case(tmp_path)
    proposed = case.propose(case.changed(title="Second"))
    site = case.site()
    fields = {"csrf": site.access.form_token, "party": "clinic", "agreement": proposed.hash, "read": "yes"}
    answer = site.send("POST", f"/rooms/{case.room.file.room}/sign", origin=origin, data=fields)
    assert answer.status_code == 403
    assert not case.homes["clinic"].has_signed(proposed.hash)


@pytest.mark.parametrize("given", [None, "", "x", "é" * 20])
def test_a_form_without_its_token(tmp_path: Path, given: str | None) -> None:
    """A form of this origin without the session's second token signs nothing, and judges nothing."""
    case = Case(tmp_path)
    proposed = case.propose(case.changed(title="Second"))
    site = case.site()
    fields = {"party": "clinic", "agreement": proposed.hash, "read": "yes"}
    fields |= {} if given is None else {"csrf": given}
    for path in (f"/rooms/{case.room.file.room}/sign", "/evidence", "/machine"):
        answer = site.send("POST", path, origin=site.access.origin, data=fields)
        assert (answer.status_code, "was not sent by a page of this console" in answer.text) == (403, True)
    assert not case.homes["clinic"].has_signed(proposed.hash)
    assert not site.console.examination.running


def test_a_room_in_the_folder_of_another(tmp_path: Path) -> None:
    """Under the id of another of a party's rooms, a folder's agreement is not signed, and no log is shown."""
    case, other = Case(tmp_path), "ab" * 32
    for each in case.agreement.datasets:
        home = case.homes[each.owner]
        kept = home.key(case.room.file.room, each.id, each.version)
        home.keep_key(msgspec.structs.replace(kept, room=other))
    proposed = case.propose(case.changed(room=other))
    path = case.room.path / "room.json"
    path.write_bytes(path.read_bytes().replace(case.room.file.room.encode(), other.encode()))
    site = case.site()
    fields = {"party": "clinic", "agreement": proposed.hash, "read": "yes"}
    refusal = f"as clinic joined it in {case.room.path}, got &#39;{other}&#39;"
    for answer in (site.post(f"/rooms/{other}/sign", fields), site.get(f"/rooms/{other}/events")):
        assert (answer.status_code, refusal in answer.text) == (403, True), answer.text
    assert not case.homes["clinic"].has_signed(proposed.hash)


@pytest.mark.parametrize("site_of", ["cross-site", "same-site"])
def test_a_page_embedded_by_another_site(case: Case, site_of: str) -> None:
    """A browser that states that another site sends the request gets no page; same-site is another port."""
    answer = case.site().get("/rooms", **{"sec-fetch-site": site_of})
    assert answer.status_code == 403


def test_a_guessed_token(case: Case) -> None:
    """Without the token there is no cookie, and without the cookie no page, no script and no stream."""
    site = Site(case.room.path, parties=case.folder / "homes")
    room = f"/rooms/{case.room.file.room}"
    right = site.access.url.split("token=")[1]
    guesses = ["", right[:-1], f"{right}x", "A" * 43, f"{right}&token={right}", right.swapcase()]
    for guess in guesses:
        answer = site.get(f"/open?token={guess}")
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    assert site.send("POST", f"/open?token={right}", origin=site.access.origin).status_code == 401
    for cookie in ("", "x", "é", right, site.access.form_token):
        site.cookies = {}
        for path in ("/", room, f"{room}/events/stream?after=0", "/static/console.css", "/nope"):
            header = {"cookie": f"kluis-console-8417={cookie}".encode()} if cookie else {}
            assert site.send("GET", path, headers=header).status_code == 401, path


def test_each_console_has_its_own_name(case: Case) -> None:
    """The name is random, so a server on another port does not get the cookie; no answer states the name."""
    one, other = case.site(), case.site()
    label, _, rest = one.access.host.partition(".")
    assert (len(label), rest) == (38, "localhost:8417")
    assert one.access.host != other.access.host
    refused = [one.get("/", host="localhost:8417"), one.send("POST", "/machine", origin="http://localhost")]
    for answer in refused:
        assert answer.status_code in (403, 421)
        assert label not in f"{answer.text}{answer.headers}"
    assert "domain" not in Site(parties=case.folder).access.session_response().headers["set-cookie"].lower()


def test_secrets_differ_and_are_not_shown(case: Case) -> None:
    """Token, cookie and form token are separate random values; no page and no ``repr`` has the first two."""
    one, other = case.site(), case.site()
    token = one.access.url.split("token=")[1]
    values = {token, *one.cookies.values(), one.access.form_token}
    values |= {other.access.url.split("token=")[1], *other.cookies.values(), other.access.form_token}
    assert len(values) == 6
    assert min(map(len, values)) >= 43
    assert repr(one.access) == "Access(8417)"
    page = one.get("/evidence").text
    assert token not in page
    assert next(iter(one.cookies.values())) not in page


@pytest.mark.parametrize(
    "path",
    [
        "/static/../access.py",
        "/static/..%2faccess.py",
        "/static/%2e%2e/access.py",
        "/static//etc/passwd",
        "/static/",
        "/static/console.css/..",
        "/rooms/../../etc/passwd",
        "/rooms/..%2f..%2fetc",
        "/rooms/" + "0" * 64,
        "/rooms/{room}/../../x",
        "/rooms/{room}/receipts/../../../etc/passwd",
        "/rooms/%00",
        "/\\attacker.example",
    ],
)
def test_path_tricks(case: Case, path: str) -> None:
    """A path names a page, a shipped file, or a room by its id; nothing else of the disk is reached."""
    answer = case.site().get(path.format(room=case.room.file.room))
    assert answer.status_code in (400, 404), answer.text
    assert "root:" not in answer.text
    assert "location" not in answer.headers


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH"])
def test_other_methods(case: Case, method: str) -> None:
    """Only GET, HEAD and POST are served, so no preflight allows another site anything."""
    for path in ("/", "/nope"):
        answer = case.site().send(method, path)
        assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (405, False)


def test_every_answer_has_the_headers(case: Case) -> None:
    """Pages, refusals and files forbid inline scripts, frames, caching and type guessing."""
    site = case.site()
    answers = [site.get(path) for path in ("/rooms", "/nope", "/static/htmx.min.js")]
    answers += [site.get("/", host="attacker.example"), site.send("POST", "/machine")]
    answers.append(Site(parties=case.folder).get("/"))
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-frame-options"] == "DENY"


def test_a_hostile_agreement(tmp_path: Path) -> None:
    """Text of an agreement that is markup is shown as text; it starts no script and adds no attribute."""
    case = Case(tmp_path)
    first, second = case.agreement.parties
    analysis = msgspec.structs.replace(case.agreement.analyses[0], question=HOSTILE)
    case.propose(
        case.changed(
            title=HOSTILE,
            purpose=f"</main>{HOSTILE}",
            parties=(msgspec.structs.replace(first, name=f"Clinic {HOSTILE}"), second),
            analyses=(analysis,),
        )
    )
    page = case.site().get(f"/rooms/{case.room.file.room}")
    assert page.status_code == 200, page.text
    assert "&lt;script src=" in page.text
    _no_markup(page.text)


def test_an_arm_ends_where_it_ends(tmp_path: Path) -> None:
    """The name of an arm stands out of the sentence about what leaves, as it could read like a part of it."""
    case, name = Case(tmp_path), "one, two) predicts nothing (none"
    arm = Arm(name=name, predictors=("age",))
    model = msgspec.structs.replace(samples.MODEL, arms=(arm,), compare=())
    case.propose(case.changed(analyses=(model,)))
    page = case.site().get(f"/rooms/{case.room.file.room}")
    assert f"how well each of <code>{name}</code> predicts (AUC, with intervals)" in page.text


def test_an_agreement_that_cannot_be_shown(tmp_path: Path) -> None:
    """Text that turns other text around is refused, and the refusal does not obey it either."""
    case = Case(tmp_path)
    proposed = case.propose(case.changed(title="Sample \u202e\u2066evil"))
    site, room = case.site(), f"/rooms/{case.room.file.room}"
    page = site.get(room)
    assert page.status_code == 403
    assert "\u202e" not in page.text
    answer = site.post(f"{room}/sign", {"party": "clinic", "agreement": proposed.hash, "read": "yes"})
    assert answer.status_code == 403
    assert not case.homes["clinic"].has_signed(proposed.hash)


def test_a_hostile_room(tmp_path: Path) -> None:
    """A room's title and its folder's name are shown as text, without characters that move other text."""
    path = tmp_path / '<b onclick="x">\u202e'
    Room.create(path, HOSTILE, HOSTILE)
    page = Site(path, parties=tmp_path / "homes").open().get("/rooms")
    assert page.status_code == 200
    assert "\u202e" not in page.text
    _no_markup(page.text)


@pytest.mark.parametrize("data", [HOSTILE.encode(), b"\xff" * 100, b"{" * 5000, b"[" * 200_000, b"\x00"])
def test_hostile_evidence(case: Case, data: bytes) -> None:
    """Bytes that are no evidence are refused with an error of ours, and shown as text."""
    answer = case.site().post("/evidence", files={"evidence": data, "policy": data})
    assert (400 <= answer.status_code < 500, "Code <code>" in answer.text) == (True, True), answer.text
    _no_markup(answer.text)


def test_a_hostile_file_name(case: Case) -> None:
    """The name of an uploaded file is used for nothing."""
    site = case.site()
    upload = {"evidence": ("../../../etc/cron.d/x", b"no evidence")}
    answer = site.send(
        "POST", "/evidence", origin=site.access.origin, data={"csrf": site.access.form_token}, files=upload
    )
    assert answer.status_code == 400
    assert "cron.d" not in answer.text


def test_uploads_are_bounded(case: Case) -> None:
    """A body over the limit is refused by its stated length, and while it is read if it states none."""
    site = case.site()
    stated = site.send(
        "POST",
        "/evidence",
        origin=site.access.origin,
        headers={"content-length": str(MAX_BODY + 1)},
        content=b"",
    )
    assert stated.status_code == 413
    sent = 0

    async def endless():  # type: ignore[no-untyped-def]
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="evidence"; filename="e"\r\n\r\n'
        while sent < 4 * MAX_BODY:
            sent += 1 << 20
            yield b"a" * (1 << 20)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = site.send("POST", "/evidence", origin=site.access.origin, headers=headers, content=endless())
    assert answer.status_code == 413
    assert sent <= MAX_BODY + (2 << 20)


def test_forms_are_bounded(case: Case) -> None:
    """Thousands of fields or files, and one field of a megabyte, are refused."""
    site = case.site()
    for fields, files, words in (
        ({f"f{n}": "x" for n in range(100)}, {"evidence": b"x"}, "Maximum number of fields is 64"),
        ({}, {f"f{n}": b"x" for n in range(50)}, "Maximum number of files is 8"),
        ({"nonce": "a" * (1 << 20)}, {"evidence": b"x"}, "exceeded maximum size of 4KB"),
    ):
        answer = site.post("/evidence", fields, files)
        assert (answer.status_code, words in answer.text) == (400, True), answer.text


def _no_markup(page: str) -> None:
    """Nothing of :data:`HOSTILE` became an element, an attribute or an expression."""
    tags = re.findall(r"<[^>]*>", page)
    assert not [each for each in tags if "onerror" in each or "onclick" in each or 'hx-get="/x"' in each]
    assert '<script src="/x">' not in page
    assert "<img" not in page
    assert "49" not in re.findall(r"\{\{.*?\}\}|\b49\b", page)
