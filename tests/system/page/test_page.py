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

from bridge.core.contract.states import UsageLimits, UsageWindow
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
    # It sees what it has used itself, and nothing of the server.
    expect(page.locator("#usage")).to_be_visible()
    visible = [section for section in page.locator("section").all() if section.is_visible()]
    assert len(visible) == 1

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


def test_it_shows_what_was_used_by_whom_and_what_it_cost(
    guarded: RunningBridge, open_page: OpenPage
) -> None:
    for key, model in (("not-an-admin-secret", "haiku"), (SECRET, "opus"), (SECRET, "opus")):
        ask(guarded.url, sim(text="Some words."), key=key, model=model)
    guarded.call(guarded.bridge.service.booked)
    headers = {"authorization": f"Bearer {SECRET}"}
    url = f"{guarded.url}/v1/usage"
    told = httpx.get(url, headers=headers, timeout=PATIENCE, trust_env=False).json()["total"]

    page, problems = open_page(guarded.url)
    page.fill("#key", SECRET)
    page.click("#key-form button")
    expect(page.locator("#used")).to_contain_text(f"Today{told['requests']} requests · ")
    expect(page.locator("#used")).to_contain_text("not billed")
    rows = page.locator("#usage-rows tr")
    expect(rows.first).to_contain_text("claude-opus")
    # Of all keys, the dearest first; then what one more request adds.
    page.select_option("#by", "key")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("op")
    ask(guarded.url, sim(text="More words."), key="not-an-admin-secret")
    expect(page.locator("#used")).to_contain_text(f"Today{told['requests'] + 1} requests · ")
    page.select_option("#by", "payer")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("default")
    # The first question was one without a key.
    assert all("401" in problem for problem in problems)

    own, _ = open_page(guarded.url)
    own.fill("#key", "not-an-admin-secret")
    own.click("#key-form button")
    expect(own.locator("#status")).to_have_text("own usage")
    expect(own.locator("#key-error")).to_contain_text("shows only what it has used")
    own.select_option("#by", "key")
    expect(own.locator("#usage-rows tr")).to_have_count(1)
    expect(own.locator("#usage-rows tr").first).to_contain_text("app")


def test_many_keys_take_ten_rows_and_one_for_the_rest(
    bridge: RunningBridge, open_page: OpenPage
) -> None:
    def many(route: Route) -> None:
        sums = {
            "requests": 1,
            "input_tokens": 2,
            "cache_read_tokens": 0,
            "cache_write_tokens": 0,
            "output_tokens": 3,
            "billed_usd": 0.5,
            "unknown_costs": 0,
        }
        rows = [{"key": f"key-{n}", **sums, "cost_usd": n / 2} for n in range(1, 31)]
        total = {**sums, "cost_usd": 232.5}
        by = "day" if "by=day" in route.request.url else "key"
        data = [] if by == "day" else rows
        route.fulfill(json={"object": "usage", "by": by, "data": data, "total": total})

    page, problems = open_page(bridge.url)
    page.route("**/v1/usage?**", many)
    page.select_option("#by", "key")
    rows = page.locator("#usage-rows tr")
    expect(rows).to_have_count(11)
    expect(rows.first).to_contain_text("key-30")
    expect(rows.first).to_contain_text("$15.00, $0.50 billed")
    expect(rows.last).to_contain_text("20 more")
    expect(rows.last).to_contain_text("$105, $10.00 billed")
    assert problems == []


def test_several_payers_are_shown_each_with_its_state(
    bridge: RunningBridge, open_page: OpenPage
) -> None:
    page, problems = open_page(bridge.url)
    windows = (UsageWindow("five_hour", 0.37, time.time() + 60),)
    plan = asdict(UsageLimits("allowed", windows=windows))
    limited = [{"model": "claude-opus", "reason": "PLAN_LIMIT", "until": time.time() + 600}]

    def payer(name: str, kind: str, **more: Any) -> dict[str, Any]:
        known = {"status": "ok", "detail": "", "account": "x", "answered": 3, "limited": []}
        usual = {"subscription": kind in ("login", "token"), "plan": None}
        return {"name": name, "kind": kind, **known, **usual, **more}

    def several(state: Any) -> None:
        state["pool"]["payers"] = [
            payer("mine", "login", plan=plan, limited=limited),
            payer("ci", "token", status="not_logged_in", detail="Run: bridge login ci"),
            payer("team", "api-key"),
        ]

    assert page.locator(".payer").count() == 0
    changed(page, several)
    payers = page.locator(".payer")
    expect(payers).to_have_count(3)
    mine, ci, team = payers.all()
    expect(mine).to_contain_text("login · 3 answered")
    expect(mine).to_contain_text("five hour: 37 % used, resets ")
    expect(mine).to_contain_text("Not used for claude-opus until ")
    expect(ci).to_contain_text("not logged in")
    expect(ci).to_contain_text("bridge login ci")
    expect(ci).to_contain_text("known after the first answer")
    expect(team).to_contain_text("Billed per token")
    # Logging in is a matter of the terminal.
    assert page.locator("#payers button, #payers input, #payers a").count() == 0
    assert problems == []


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
    assert len(boxes) == 6
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
