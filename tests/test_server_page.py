"""The page in a real browser: drop, play, seek, review, by keys alone, without a server, and no foreign host."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from musicgenre.library.plan import PlanRow, read_plan, write_plan
from tests.limits import GUARD_S
from tests.serving import running_server
from tests.sounds import music, write
from tests.toy import RATE_HZ, save_toy

pytest.importorskip("playwright", reason="the extra browser is not installed")

from playwright.sync_api import Browser, Page, expect, sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import ViewportSize

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]
GUARD_MS = 1000 * GUARD_S
WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 360, "height": 740}
TOKEN = "a token of more than sixteen characters"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tracks, something that is none, a model and a plan."""
    folder = tmp_path_factory.mktemp("page")
    tracks = folder / "tracks"
    tracks.mkdir()
    for number in range(40):
        write(tracks / f"song {number:02d}.wav", music(3.0, RATE_HZ, 1, seed=number), RATE_HZ)
    (folder / "broken.mp3").write_bytes(b"This is a shopping list.\n" * 50)
    save_toy(folder / "toy.onnx", unsure_threshold=0.2)
    rows = [
        PlanRow(
            str(path),
            write=True,
            now=("Other",),
            set={"genre": ("Jazz",)},
            meant=("Jazz",),
            confidence=0.8,
            title=f"Title {number}",
            artist="Somebody",
            album=("First", "Second")[number // 3],
            container="wav",
        )
        for number, path in enumerate(sorted(tracks.glob("*.wav"))[:6])
    ]
    write_plan(rows, folder / "plan.jsonl")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    with running_server("--model", place / "toy.onnx", "--jobs", "1") as (_, found):
        yield found


def open_page(browser: Browser, address: str, **options: Any) -> tuple[Page, list[str]]:
    """Open the page; with it, what went wrong in it, and every address of another host that it asked for."""
    context = browser.new_context(**{"viewport": WIDE, "permissions": ["microphone"], **options})
    page = context.new_page()
    page.set_default_timeout(GUARD_MS)
    expect.set_options(timeout=GUARD_MS)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    page.on(
        "request",
        lambda asked: (
            None if asked.url.startswith((address, "blob:", "data:")) else faults.append(f"asked {asked.url}")
        ),
    )
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page, faults


def wait_until(page: Page, condition: str) -> None:
    """Wait until an expression holds; the browser's own way is forbidden by the page's policy."""
    ends_s = time.monotonic() + GUARD_S
    while not page.evaluate(condition):
        assert time.monotonic() < ends_s, condition
        page.wait_for_timeout(100)


def songs(place: Path, n: int) -> list[str]:
    return [str(path) for path in sorted((place / "tracks").glob("*.wav"))[:n]]


def accessibility_faults(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it is."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    # the page's own policy lets no script of ours in: axe is run by the browser itself
    found = axe.Axe().run(page).response["violations"]
    return [f"{fault['id']}: {node['target']}" for fault in found for node in fault["nodes"]]


def test_a_file_is_heard_shown_played_and_sought(browser: Browser, address: str, place: Path) -> None:
    page, faults = open_page(browser, address)
    page.set_input_files("#files", songs(place, 1))
    expect(page.locator("#detail")).to_be_visible()
    expect(page.locator("#detail-name")).to_have_text("song 00.wav")
    expect(page.locator("#summary")).to_have_text("1 of 1 heard")
    assert page.locator("#scores dt").count() >= 2
    assert page.locator("#sections button").count() >= 1

    page.click("#play")
    expect(page.locator("#play")).to_have_text("Pause")
    wait_until(page, "Number(document.querySelector('#seek').value) > 0.2")
    page.click("#play")
    expect(page.locator("#play")).to_have_text("Play")

    box = page.locator("#wave").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 20)
    sought_s = float(page.locator("#seek").input_value())
    assert sought_s == pytest.approx(1.5, abs=0.2)
    painted = page.evaluate(
        "() => { const c = document.querySelector('#wave');"
        " return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size }"
    )
    assert painted > 3, "the waveform is drawn"
    assert not faults


def test_forty_files_become_a_table_that_sorts_filters_and_downloads(
    browser: Browser, address: str, place: Path
) -> None:
    page, faults = open_page(browser, address)
    page.set_input_files("#files", [*songs(place, 40), str(place / "broken.mp3")])
    expect(page.locator("#summary")).to_have_text("40 of 41 heard, 1 failed")
    failed = page.locator("tr.failed")
    assert failed.count() == 1 and "broken.mp3" in failed.inner_text() and str(place) not in failed.inner_text()

    page.click("[data-sort=name]")
    page.click("[data-sort=name]")
    names = page.locator("tbody tr td:first-child").all_inner_texts()
    assert names == sorted(names, reverse=True) and len(names) == 41
    assert page.locator("th[aria-sort=descending]").count() == 1

    genres = page.locator("#filter option").all_inner_texts()[1:]
    assert genres
    page.select_option("#filter", genres[0])
    shown = page.locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert shown and set(shown) == {genres[0]}

    with page.expect_download() as waiting:
        page.click("#json")
    answers = json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))
    assert len(answers) == 40 and {answer["path"] for answer in answers} == {Path(p).name for p in songs(place, 40)}
    with page.expect_download() as waiting:
        page.click("#csv")
    lines = Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 42 and lines[0].startswith("path,genre,confidence")
    assert not faults


def test_files_can_be_dropped(browser: Browser, address: str, place: Path) -> None:
    page, faults = open_page(browser, address)
    sound = np.frombuffer(Path(songs(place, 1)[0]).read_bytes(), np.uint8).tolist()
    page.evaluate(
        """(bytes) => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(bytes)], "dropped.wav", { type: "audio/wav" }));
            carried.items.add(new File(["art"], "cover.jpg", { type: "image/jpeg" }));
            document.querySelector("#drop").dispatchEvent(
                new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
        }""",
        sound,
    )
    expect(page.locator("#summary")).to_have_text("1 of 1 heard")
    expect(page.locator("#notice")).not_to_be_visible()
    expect(page.locator("#detail-name")).to_have_text("dropped.wav")
    assert not faults


def test_ten_seconds_are_recorded_and_heard(browser: Browser, address: str) -> None:
    page, faults = open_page(browser, address)
    page.click("#record")
    expect(page.locator("#record-note")).to_contain_text("Recording")
    expect(page.locator("#summary")).to_have_text("1 of 1 heard")
    assert page.locator("#detail-name").inner_text().startswith("recording")
    assert not faults


def test_the_page_works_by_keyboard_alone(browser: Browser, address: str, place: Path) -> None:
    page, faults = open_page(browser, address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "files":
            break
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(songs(place, 2))
    expect(page.locator("#summary")).to_have_text("2 of 2 heard")

    page.locator("[data-sort=genre]").focus()
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort=ascending]").count() == 1
    page.locator("button.open").last.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "detail-name"
    page.locator("#seek").focus()
    page.keyboard.press("End")
    assert float(page.locator("#seek").input_value()) == pytest.approx(3.0, abs=0.11)
    assert not faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_nothing_is_hard_to_read_or_reach(
    browser: Browser, address: str, place: Path, scheme: str, size: ViewportSize
) -> None:
    page, faults = open_page(
        browser, address, color_scheme=scheme, viewport=size, reduced_motion="reduce", bypass_csp=True
    )
    assert accessibility_faults(page) == []
    page.set_input_files("#files", [*songs(place, 2), str(place / "broken.mp3")])
    expect(page.locator("#summary")).to_contain_text("2 of 3 heard")
    assert accessibility_faults(page) == []
    page.click("#about-open")
    assert accessibility_faults(page) == []
    page.keyboard.press("Escape")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
        "the page does not scroll sideways"
    )
    assert not [fault for fault in faults if "Security" not in fault]


def test_a_server_that_goes_is_waited_for(browser: Browser, place: Path) -> None:
    with running_server("--model", place / "toy.onnx") as (first, address):
        page, _ = open_page(browser, address)
        first.kill()
        first.wait()
        page.set_input_files("#files", songs(place, 1))
        expect(page.locator("#notice")).to_contain_text("does not answer")
        port = address.rsplit(":", 1)[1]
        with running_server("--model", place / "toy.onnx", "--port", port):
            expect(page.locator("#summary")).to_have_text("1 of 1 heard")
            expect(page.locator("#notice")).not_to_be_visible()


def test_the_token_is_asked_for_once_and_kept_from_scripts(browser: Browser, place: Path, tmp_path: Path) -> None:
    (tmp_path / "token.txt").write_text(TOKEN.replace(" ", "-"))
    with running_server("--model", place / "toy.onnx", "--token-file", tmp_path / "token.txt") as (_, address):
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(GUARD_MS)
        page.goto(address)
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#ask-wrong")).to_be_visible()
        page.fill("#token", TOKEN.replace(" ", "-"))
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-ready]")
        (cookie,) = context.cookies()
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and TOKEN.replace(" ", "-") not in cookie["value"]
        assert page.evaluate("document.cookie") == ""
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert not page.locator("#ask").is_visible()


def test_a_plan_is_reviewed_by_keys_and_saved(browser: Browser, place: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.jsonl"
    shutil.copy(place / "plan.jsonl", plan)
    before = {path: path.read_bytes() for path in (place / "tracks").iterdir()}
    with running_server("--model", place / "toy.onnx", "--plan", plan) as (_, address):
        page, faults = open_page(browser, address)
        expect(page.locator("#review")).to_be_visible()
        assert page.locator(".album h3").all_inner_texts() == ["Somebody: First", "Somebody: Second"]
        assert "Other → Jazz" in page.locator(".row").first.inner_text()

        page.locator(".row").first.focus()
        page.keyboard.press("r")
        expect(page.locator(".row").first).to_contain_text("Other (stays)")
        page.keyboard.press("j")
        page.keyboard.press("c")
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.type("Folk; Blues")
        page.keyboard.press("Enter")
        expect(page.locator(".row").nth(1)).to_contain_text("Other → Folk; Blues")
        expect(page.locator("#review-status")).to_contain_text("5 of 6 tracks")
        page.keyboard.press("p")
        wait_until(page, "document.querySelector('#review-audio').currentTime > 0.1")
        page.keyboard.press("p")

        page.click("#to-listen")
        expect(page.locator("#drop")).to_be_visible()
        assert not faults
    rows = list(read_plan(plan))
    assert [row.write for row in rows] == [False, True, True, True, True, True]
    assert rows[1].correction == ("Folk", "Blues")
    assert all(path.read_bytes() == content for path, content in before.items()), "music is not written"


def test_the_documents_ask_no_other_host(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport=WIDE)
    page = context.new_page()
    page.set_default_timeout(GUARD_MS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/docs")
    page.wait_for_selector(".opblock")
    assert asked and all(url.startswith((address, "data:", "blob:")) for url in asked)
