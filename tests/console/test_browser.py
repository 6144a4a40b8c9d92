"""The console in Debian's Chromium: accessibility, keyboard, sizes, schemes, live events, and other sites."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from kluis.console import server
from kluis.console.examining import Examination
from kluis.console.state import Console
from kluis.tee.doctor import Finding, Part, State
from tests.cleanroom import logs, samples
from tests.console.browser import chromium, opened, served
from tests.console.site import Case
from tests.console.test_evidence import NONCE, Evidence

pytestmark = pytest.mark.slow
SIZES = {"phone": (360, 740), "laptop": (1280, 800), "wall": (3840, 2160)}
FOUND = [
    Finding(part=Part.PROCESS, name="memfd_secret", state=State.MISSING, seen="no", fix="boot with it"),
    Finding(part=Part.PROCESS, name="seccomp", state=State.OK, seen="filters"),
    Finding(part=Part.OPEN, name="swap", state=State.OPEN, seen="on: " + "x" * 200, fix="swapoff -a"),
    Finding(part=Part.HARDWARE, name="SGX", state=State.ABSENT, seen="no /dev/sgx_enclave"),
    Finding(part=Part.VM, name="KVM", state=State.PARTIAL, seen="in software"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    found = Case(tmp_path_factory.mktemp("browser"))
    found.homes["clinic"].pin_path("laboratory").unlink()
    found.propose(found.changed(title="Do laboratory values help?"))
    return found


@pytest.fixture(scope="module")
def console(case: Case) -> Iterator[Console]:
    examination = Examination(lambda: samples.NOW, lambda: FOUND)
    with served(case.room.path, parties=case.folder / "homes", examine=examination) as found:
        yield found


@pytest.fixture(scope="module")
def evidence(case: Case) -> dict[str, Path]:
    """Files of evidence, by the fields of the form."""
    made = Evidence()
    files = {"evidence": made.file, "root": made.root, "policy": made.policy}
    for name, data in files.items():
        (case.folder / name).write_bytes(data)
    return {name: case.folder / name for name in files}


def paths(case: Case) -> list[str]:
    room = f"/rooms/{case.room.file.room}"
    return ["/", "/evidence", "/rooms", room, f"{room}/receipts", f"{room}/events", "/machine", "/nope"]


def judge(page: Any, console: Console, files: dict[str, Path], nonce: bytes) -> None:
    """Judge evidence in the form, as a person does."""
    page.goto(f"{console.access.origin}/evidence")
    for name, path in files.items():
        page.set_input_files(f"#{name}", path)
    page.fill("#nonce", nonce.hex())
    page.get_by_role("button", name="Judge").click()


@pytest.mark.parametrize(("scheme", "size"), [("light", "laptop"), ("dark", "phone")])
def test_axe_finds_nothing(
    browser: Any, console: Console, case: Case, evidence: dict[str, Path], scheme: str, size: str
) -> None:
    """No page breaks one of axe-core's rules, in either scheme, with a failed verdict and an open list."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe-playwright-python"
    ).Axe()
    width, height = SIZES[size]
    page = opened(browser, console, color_scheme=scheme, viewport={"width": width, "height": height})
    found = {}

    def check(name: str) -> None:
        # The policy allows no inline script, so the test's tool is evaluated by the browser's own protocol.
        result = axe.run(page)
        if result.violations_count:
            found[name] = result.generate_report()

    for path in paths(case):
        page.goto(f"{console.access.origin}{path}")
        if path == "/machine":
            page.get_by_text("Missing: memfd_secret").wait_for()
        for details in page.locator("summary").all():
            details.click()
        check(path)
    judge(page, console, evidence, b"\0" * 16)
    page.get_by_role("heading", name="Contraindicated").wait_for()
    check("verdict")
    assert found == {}
    page.context.close()


@pytest.mark.parametrize("size", list(SIZES))
def test_no_page_is_wider_than_its_window(
    browser: Any, console: Console, case: Case, evidence: dict[str, Path], size: str
) -> None:
    """From 360 px to 4k, no page scrolls sideways, and nothing that can be pressed is small."""
    width, height = SIZES[size]
    page = opened(browser, console, viewport={"width": width, "height": height})
    wide, small = {}, {}

    def check(name: str) -> None:
        found = page.evaluate("document.documentElement.scrollWidth")
        if found > width:
            wide[name] = found
        for each in page.locator("button, nav a, input:not([type=hidden]):not([type=checkbox])").all():
            box = each.bounding_box()
            if box is not None and box["height"] < 24:
                small[name] = (each.inner_text(), box)

    for path in paths(case):
        page.goto(f"{console.access.origin}{path}")
        check(path)
    judge(page, console, evidence, NONCE)
    page.get_by_role("heading", name="Affirming").wait_for()
    check("verdict")
    assert (wide, small) == ({}, {})
    page.context.close()


def test_a_browser_is_opened_by_a_file(browser: Any, console: Console) -> None:
    """The file that the command gives to a browser leads to the console, past the strict cookie."""
    with mock.patch("webbrowser.open") as browse, server.open_browser(console.access.url):
        context = browser.new_context()
        page = context.new_page()
        page.goto(browse.call_args.args[0])
        page.wait_for_url(f"{console.access.origin}/", timeout=60_000)
        page.get_by_role("heading", name="What runs here").wait_for()
        context.close()


def test_schemes_differ(browser: Any, console: Console) -> None:
    """The page follows the user's scheme."""
    colours = []
    for scheme in ("light", "dark"):
        page = opened(browser, console, color_scheme=scheme)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.context.close()
    assert colours == ["rgb(255, 255, 255)", "rgb(20, 24, 31)"]


def test_the_keyboard_is_enough(browser: Any, console: Console, case: Case) -> None:
    """Tab reaches the skip link first, then every link and field in order, each with a visible focus; a party
    signs without a mouse.
    """
    page = opened(browser, console)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.goto(f"{console.access.origin}/rooms/{case.room.file.room}")
    seen: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "[document.activeElement.innerText || document.activeElement.name || '',"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        if not name:
            break
        assert outline != "none", name
        seen.append(name.split("\n")[0])
        if name == "confirm.laboratory":
            page.keyboard.type("0000")
        elif name == "read":
            page.keyboard.press("Space")
        elif name == "Sign as clinic":
            break
    assert seen[:5] == ["Skip to the content", "Kluis", "Running", "Evidence", "Rooms"]
    assert seen[-3:] == ["confirm.laboratory", "read", "Sign as clinic"]
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("party laboratory: want fingerprint 0000, got").wait_for()
    page.context.close()


def test_the_policy_hinders_no_page(
    browser: Any, console: Console, case: Case, evidence: dict[str, Path]
) -> None:
    """No page breaks its own content policy: the browser reports nothing, on any page or partial update."""
    page = opened(browser, console)
    for path in paths(case)[:-1]:
        page.goto(f"{console.access.origin}{path}")
        page.wait_for_load_state("load")
    judge(page, console, evidence, NONCE)
    page.get_by_role("heading", name="Affirming").wait_for()
    assert page.complaints == []
    page.context.close()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_verdict_with_and_without_scripts(
    browser: Any, console: Console, evidence: dict[str, Path], scripts: bool
) -> None:
    """With scripts the verdict appears under the form; without, it is a page. Both have each rule."""
    page = opened(browser, console, java_script_enabled=scripts)
    judge(page, console, evidence, b"\0" * 16)
    page.get_by_role("heading", name="Contraindicated: SGX quote v3").wait_for()
    assert page.get_by_role("row", name="✗ FAILS nonce").count() == 1
    assert page.locator("#evidence").count() == int(scripts)
    page.context.close()


def test_events_appear_while_the_page_is_open(browser: Any, tmp_path: Path) -> None:
    """A line that a party writes appears in the open page; a log that was changed is reported there."""
    case = Case(tmp_path)
    with served(case.room.path, parties=case.folder / "homes") as console:
        page = opened(browser, console)
        page.goto(f"{console.access.origin}/rooms/{case.room.file.room}/events")
        rows = page.locator("tbody tr")
        assert rows.count() == 6
        logs.say(case.room, case.homes["clinic"], "result.opened", "by-sex.0123")
        page.get_by_role("cell", name="by-sex.0123").wait_for()
        assert [rows.count(), rows.nth(6).locator("td").first.inner_text()] == [7, "7"]
        changed = logs.lines(case.room)
        changed[3] = changed[2]
        logs.put(case.room, changed)
        page.get_by_role("alert").get_by_text("events.jsonl line 4").wait_for()
        assert rows.count() == 7
        page.context.close()


@contextlib.contextmanager
def website(page: str) -> Iterator[str]:
    """Another site on this machine, with one page; its address."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Page)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}/"
        server.shutdown()


def test_a_server_on_another_port_gets_no_session(browser: Any, console: Console) -> None:
    """A page of another user's server on loopback is opened in the same browser: it gets no cookie."""
    seen: list[tuple[str, str | None]] = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.headers["host"], self.headers["cookie"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    page = opened(browser, console)
    assert [each["domain"] for each in page.context.cookies()] == [console.access.host.partition(":")[0]]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        port = other.server_address[1]
        for host in ("127.0.0.1", "localhost", "kluis.localhost"):
            page.goto(f"http://{host}:{port}/")
        other.shutdown()
    hosts = {host for host, _ in seen}
    assert hosts == {f"{host}:{port}" for host in ("127.0.0.1", "localhost", "kluis.localhost")}
    assert {cookie for _, cookie in seen} == {None}
    page.goto(f"{console.access.origin}/")
    page.get_by_role("heading", name="What runs here").wait_for()
    page.context.close()


def test_another_site_signs_nothing(browser: Any, tmp_path: Path) -> None:
    """A page of another site, in the same browser, sends a form with every right field, and shows the console
    in a frame: nothing is signed, nothing is shown, and a script of it reads nothing.
    """
    case = Case(tmp_path)
    proposed = case.propose(case.changed(title="Second"))
    with served(case.room.path, parties=case.folder / "homes") as console:
        page = opened(browser, console)
        target = f"{console.access.origin}/rooms/{case.room.file.room}"
        fields = {
            "csrf": console.access.form_token,
            "party": "clinic",
            "agreement": proposed.hash,
            "read": "yes",
        }
        inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
        evil = (
            f'<form method="post" action="{target}/sign" target="out">{inputs}<button>Win</button></form>'
            f'<iframe name="out"></iframe><iframe name="in" src="{target}"></iframe>'
            f'<script>window.got="nothing"; fetch("{target}", {{credentials: "include"}}).then('
            'r => r.text()).then(t => { window.got = t; }, () => { window.got = "refused"; });</script>'
        )
        with website(evil) as address:
            page.goto(address)
            page.get_by_role("button", name="Win").click()
            page.wait_for_function("window.got !== 'nothing'")
            page.wait_for_timeout(1000)
            assert page.evaluate("window.got") == "refused"
            for name in ("out", "in"):
                frame = page.frame(name=name)
                assert frame is not None
                assert "Second" not in frame.content()
        assert not case.homes["clinic"].has_signed(proposed.hash)
        assert [each.party for each in case.room.signed_agreement().signatures] == []
        page.context.close()
