"""The page in a real browser: read, tried, and asked for a key."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf import json_format
from playwright.sync_api import Browser, Page, Playwright, Route, expect, sync_playwright

from bridge.core.contract.service import UsageLimits, UsageWindow
from bridge.v1 import completion_pb2 as pb
from tests.support.harness import PATIENCE, LoopThread, RunningBridge, settings_for_tests, sim

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECRET = "an-admin-secret-of-the-page"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="this machine has no Chromium")


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE * 1000)
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread
) -> Iterator[RunningBridge]:
    settings = settings_for_tests(
        tmp_path_factory.mktemp("guarded"),
        pool_size=1,
        bridge_api_keys=f"op:admin={SECRET},app=not-an-admin-secret",
    )
    running = RunningBridge(settings, loop_thread)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., tuple[Page, list[str]]]]:
    """Open a page; what it complains of, and what it asks for elsewhere, is noted."""
    pages: list[Page] = []

    def go(url: str, **options: object) -> tuple[Page, list[str]]:
        page = browser.new_page(**options)  # type: ignore[arg-type]
        page.set_default_timeout(PATIENCE * 1000)
        pages.append(page)
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith((url, "data:")) else problems.append(asked.url)
            ),
        )
        page.goto(f"{url}/")
        return page, problems

    yield go
    for page in pages:
        page.close()


OpenPage = Callable[..., tuple[Page, list[str]]]


def ask(url: str, prompt: str, key: str = "unused", model: str = "opus", **fields: Any) -> None:
    httpx.post(
        f"{url}/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": prompt}], **fields},
        headers={"authorization": f"Bearer {key}"},
        timeout=PATIENCE,
        trust_env=False,
    )


def test_it_shows_what_runs_and_a_click_streams_an_answer(
    bridge: RunningBridge, open_page: OpenPage
) -> None:
    labels = {"team": "search", "note": "x" * 500}
    ask(bridge.url, "A prompt with words that are nobody's business.", metadata=labels)
    page, problems = open_page(bridge.url)

    expect(page.locator("#status")).to_have_text("ok")
    expect(page.locator("#facts")).to_contain_text("simulated model")
    expect(page.locator("#recent tr").first).to_contain_text("claude-opus")
    expect(page.locator("#recent .labels").first).to_contain_text("team=search note=xxx")
    expect(page.locator("#recent .labels").first).to_have_attribute("title", re.compile("x{500}$"))
    assert page.locator("#pool i").count() >= 1
    assert page.locator("#model option").all_inner_texts()[0] == "default"

    page.fill("#prompt", sim(tokens=40))
    page.click("#send")
    expect(page.locator("#answer")).to_have_text(" ".join(f"w{n}" for n in range(40)))
    expect(page.locator("#times")).to_contain_text("first token")
    expect(page.locator("#times")).to_contain_text("40 tokens")
    expect(page.locator("#times")).to_contain_text("claude-")
    expect(page.locator("#send")).to_be_visible()
    assert "nobody's business" not in page.content()
    assert problems == []


def test_an_answer_can_be_cancelled_and_a_failure_is_shown(
    bridge: RunningBridge, open_page: OpenPage
) -> None:
    page, _ = open_page(bridge.url)
    page.fill("#prompt", sim(endless=True, delay_ms=5))
    page.click("#send")
    expect(page.locator("#answer")).to_contain_text("w3")
    page.click("#cancel")
    expect(page.locator("#times")).to_contain_text("cancelled")

    page.fill("#prompt", sim(error={"status": 400, "message": "This will not do."}))
    page.click("#send")
    expect(page.locator("#answer")).to_contain_text("This will not do.")

    # What came before a failure stays, and an answer without its end is none.
    page.fill("#prompt", sim(tokens=3, error_after=2))
    page.click("#send")
    expect(page.locator("#answer .error")).to_be_visible()
    expect(page.locator("#answer")).to_contain_text("w0")
    cut = 'data: {"choices": [{"delta": {"content": "half"}}]}\n\n'
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=cut))
    page.click("#send")
    expect(page.locator("#answer")).to_contain_text("The answer ended prematurely.")


def test_it_can_be_used_without_a_mouse(bridge: RunningBridge, open_page: OpenPage) -> None:
    page, problems = open_page(bridge.url)
    page.fill("#prompt", sim(endless=True, delay_ms=5))
    page.focus("#prompt")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#answer")).to_contain_text("w3")
    # Announced when it is complete, not token by token.
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "true")
    page.keyboard.press("Escape")
    expect(page.locator("#times")).to_contain_text("cancelled")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")

    # The button that has been pressed goes; its place is kept.
    page.focus("#send")
    page.keyboard.press("Enter")
    expect(page.locator("#cancel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#send")).to_be_focused()

    tabs = page.get_by_role("tab")
    tabs.first.focus()
    page.keyboard.press("ArrowRight")
    expect(tabs.nth(1)).to_be_focused()
    expect(tabs.nth(1)).to_have_attribute("aria-selected", "true")
    expect(tabs.first).to_have_attribute("tabindex", "-1")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tabpanel", name="LangChain")).to_contain_text("langchain_openai")
    expect(page.get_by_role("img", name="Processes: ")).to_be_visible()
    assert problems == []


def test_it_reports_an_unreachable_server_and_resumes_when_it_is_back(
    bridge: RunningBridge, open_page: OpenPage
) -> None:
    page, _ = open_page(bridge.url)
    expect(page.locator("#status")).to_have_text("ok")
    page.route("**/bridge/state", lambda route: route.abort())
    expect(page.locator("#status")).to_have_text("no connection")
    expect(page.locator("#detail")).to_contain_text("Showing the state as of")
    page.unroute("**/bridge/state")
    expect(page.locator("#status")).to_have_text("ok")
    expect(page.locator("#detail")).to_be_hidden()


def changed(page: Page, change: Callable[[Any], None]) -> None:
    """Send the page another state than there is."""

    def answer(route: Route) -> None:
        reply = route.fetch()
        state = reply.json()
        change(state)
        route.fulfill(response=reply, json=state)

    page.route("**/bridge/state", answer)


def test_it_shows_the_usage_limits_and_what_is_wrong(
    bridge: RunningBridge, open_page: OpenPage
) -> None:
    page, _ = open_page(bridge.url)

    def near_a_limit(state: Any) -> None:
        windows = (
            UsageWindow("five_hour", 0.83, time.time() + 60),
            UsageWindow("seven_day", 0.4),
        )
        state["pool"]["plan"] = asdict(UsageLimits("allowed_warning", windows=windows))
        state["pool"]["status"] = "not_logged_in"
        state["pool"]["detail"] = "Log in."

    changed(page, near_a_limit)
    expect(page.locator("#plan")).to_contain_text("Near a limit.")
    expect(page.locator("#plan")).to_contain_text("five hour: 83 % used, resets ")
    expect(page.get_by_role("meter", name="seven day: 40 % used")).to_be_visible()
    expect(page.locator("#status")).to_have_text("not logged in")
    expect(page.get_by_role("alert").first).to_have_text("Log in.")


def test_what_has_not_changed_is_left_as_it_is_so_that_it_can_be_selected(
    bridge: RunningBridge, open_page: OpenPage
) -> None:
    ask(bridge.url, "Anything.")
    page, _ = open_page(bridge.url)
    expect(page.locator("#recent tr").first).to_be_visible()
    page.evaluate("() => document.querySelector('#recent tr').id = 'this-one'")
    with page.expect_response("**/bridge/state"):
        pass
    with page.expect_response("**/bridge/state"):
        pass
    expect(page.locator("#recent tr").first).to_have_id("this-one")


def test_each_client_has_its_settings_with_this_servers_address(
    bridge: RunningBridge, open_page: OpenPage
) -> None:
    page, _ = open_page(bridge.url)
    texts = {}
    expect(page.get_by_role("tab").first).to_be_visible()
    for tab in page.get_by_role("tab").all():
        tab.click()
        texts[tab.inner_text()] = page.locator("#code").inner_text()
    assert list(texts) == [
        "curl",
        "OpenAI Python",
        "OpenAI JavaScript",
        "grpcurl",
        "gRPC Python",
        "Open WebUI",
        "LangChain",
    ]
    for name in ("OpenAI Python", "gRPC Python"):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(texts[name], name, "exec"), {})
        assert "simulated answer" in said.getvalue()
    given = re.search("-d '(.+)'", texts["grpcurl"])
    assert given is not None
    assert json_format.Parse(given[1], pb.CompleteRequest()).HasField("completion")
    for name in ("grpcurl", "gRPC Python"):
        assert bridge.target in texts.pop(name)
    assert all(f"{bridge.url}/v1" in text for text in texts.values())


def test_it_asks_for_a_key_and_keeps_it_to_itself(
    guarded: RunningBridge, open_page: OpenPage
) -> None:
    page, _ = open_page(guarded.url)
    expect(page.locator("#key-form")).to_be_visible()
    expect(page.locator("#main")).to_be_hidden()

    page.fill("#key", "not-an-admin-secret")
    page.click("#key-form button")
    expect(page.locator("#key-error")).to_contain_text("admin")
    expect(page.locator("#main")).to_be_hidden()

    page.fill("#key", SECRET)
    page.click("#key-form button")
    expect(page.locator("#main")).to_be_visible()
    page.fill("#prompt", sim(text="for the operator"))
    page.click("#send")
    expect(page.locator("#answer")).to_have_text("for the operator")

    assert SECRET not in page.content()
    assert SECRET not in page.url
    assert (
        page.evaluate("() => localStorage.length + sessionStorage.length + document.cookie.length")
        == 0
    )
    page.reload()
    expect(page.locator("#key-form")).to_be_visible()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(390, "dark"), (768, "light"), (1100, "light")],
    ids=["phone in the dark", "tablet", "desk"],
)
def test_it_fits_the_screen_and_the_light(
    bridge: RunningBridge, open_page: OpenPage, tmp_path: Path, width: int, scheme: str
) -> None:
    # Callers choose names, and long ones.
    ask(bridge.url, "Anything.", model="claude-" + 200 * "x", metadata={"team": 500 * "x"})
    ask(bridge.url, "Anything.")
    page, problems = open_page(
        bridge.url, viewport={"width": width, "height": 844}, color_scheme=scheme
    )
    expect(page.locator("#recent tr").first).to_be_visible()
    cells = page.locator("#recent tr").first.locator("td").all()
    edges = [(at["x"], at["x"] + at["width"]) for cell in cells if (at := cell.bounding_box())]
    assert all(left >= 0 and right <= width for left, right in edges)
    # Shown as cards or as a table, it is one to a screen reader.
    assert page.get_by_role("table").get_by_role("cell").count() >= len(cells)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    red = int(ground.removeprefix("rgb(").split(",")[0])
    assert (red < 64) == (scheme == "dark")
    # Nothing is cut off or laid over another: every section is within the page, one below another.
    boxes = [box for section in page.locator("section").all() if (box := section.bounding_box())]
    assert len(boxes) == 5
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    overlaps = [
        (a, b)
        for n, a in enumerate(boxes)
        for b in boxes[n + 1 :]
        if a["x"] < b["x"] + b["width"]
        and b["x"] < a["x"] + a["width"]
        and a["y"] < b["y"] + b["height"]
        and b["y"] < a["y"] + a["height"]
    ]
    assert overlaps == []
    image = tmp_path / "page.png"
    page.screenshot(path=image, full_page=True)
    # A blank page of this size has a few kilobytes.
    assert image.stat().st_size > 30_000
    assert problems == []
