"""Take the pictures of the page that docs/page.md shows, with a chromium of the system.

Run: python scripts/page_pictures.py        serves the default model on examples/, writes docs/pictures/*.png
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from musicgenre.library.plan import PlanRow, write_plan

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted(path for path in (ROOT / "examples").rglob("*") if path.suffix in {".flac", ".mp3", ".ogg", ".wav"})
PICTURES = ROOT / "docs" / "pictures"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDE, NARROW = {"width": 1100, "height": 900}, {"width": 360, "height": 780}
LIMIT_MS = 600_000


def main() -> int:
    """Serve, look, and write."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.jsonl"
        write_plan(_rows(), plan)
        command = [sys.executable, "-m", "musicgenre", "serve", "--port", "0", "--plan", str(plan)]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            told = (re.search(r"listening at (http://\S+)", line) for line in server.stderr)
            address = next(found[1] for found in told if found)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                _listen(browser, address, WIDE, "light", "page-answers")
                _listen(browser, address, NARROW, "dark", "page-narrow-dark")
                page = _page(browser, address, WIDE, "light")
                page.locator(".row").first.focus()
                page.screenshot(path=PICTURES / "page-review.png")
                browser.close()
        finally:
            server.terminate()
            server.wait()
    return 0


def _rows() -> list[PlanRow]:
    """What a plan might say of the examples, to be looked at."""
    rows = []
    for path in EXAMPLES:
        rows.append(
            PlanRow(
                str(path),
                write=True,
                now=("Other",),
                set={"genre": (path.stem.split("-")[0].capitalize(),)},
                confidence=0.8,
                title=path.stem,
                artist="Examples",
                album="Rendered sounds",
                container=path.suffix[1:],
            )
        )
    return rows


def _page(browser: Browser, address: str, viewport: dict[str, int], scheme: str) -> Page:
    page = browser.new_context(viewport=viewport, color_scheme=scheme).new_page()
    page.set_default_timeout(LIMIT_MS)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page


def _listen(browser: Browser, address: str, viewport: dict[str, int], scheme: str, name: str) -> None:
    """Let all examples be heard, and take the whole page."""
    page = _page(browser, address, viewport, scheme)
    page.click("#to-listen")
    page.set_input_files("#files", [str(path) for path in EXAMPLES])
    page.get_by_text(f"{len(EXAMPLES)} of {len(EXAMPLES)} heard").wait_for()
    page.wait_for_timeout(2000)  # the waveform is drawn once the sound is decoded
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


if __name__ == "__main__":
    sys.exit(main())
