"""Pages of reports in a real browser: nothing behind a scroll bar, no word of a drawing cut."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.html import render_html, render_ranking
from musicgenre.evaluation.metrics import Estimate
from musicgenre.evaluation.ranking import rank
from musicgenre.judging.leak_report import LeakReport, LeakRow
from musicgenre.search.report import render_search
from tests.make_run import make_group, make_run, random_answers
from tests.small_search import make_search
from tests.tag_run import make_tag_run

pytest.importorskip("playwright", reason="the extra browser is not installed")

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")

WIDTHS = (400, 800, 1200)
GENRES = (
    "blues", "classical", "country", "electronic dance", "hiphop", "jazz", "metal", "pop", "reggae",
    "singer-songwriter",
)  # fmt: skip
N_EPOCHS = 60

# Words of drawings that reach out of them, a pixel for the rounding of fonts.
_CUT = """() => {
    const cut = [];
    for (const drawing of document.querySelectorAll('svg')) {
        const frame = drawing.getBoundingClientRect();
        for (const text of drawing.querySelectorAll('text')) {
            const box = text.getBoundingClientRect();
            const isIn = box.left >= frame.left - 1 && box.right <= frame.right + 1
                && box.top >= frame.top - 1 && box.bottom <= frame.bottom + 1;
            if (!isIn) cut.push(drawing.getAttribute('aria-label') + ': ' + text.textContent);
        }
    }
    return cut;
}"""
# Everything that scrolls by itself, the page included.
_SCROLLS = """() => [...document.querySelectorAll('*')]
    .filter(element => !element.closest('svg') && element.scrollWidth > element.clientWidth
        && (element === document.documentElement || ['auto', 'scroll'].includes(getComputedStyle(element).overflowX)))
    .map(element => element.tagName + ' ' + element.scrollWidth + ' > ' + element.clientWidth)"""


_IS_DRAWN = "[...document.querySelectorAll('.plotly-graph-div')].every(plot => plot.querySelector('text'))"


def _with_curves(run: Path) -> Path:
    """Give a run learning curves of many epochs, the best of them in the middle."""
    random = np.random.default_rng(5)
    lines = ["epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,validation_macro_f1"]
    for epoch in range(N_EPOCHS):
        falling = 2.3 * np.exp(-epoch / 15)
        lines.append(
            f"{epoch},{falling},{1 - falling / 2.3},{falling + 0.4 + 0.02 * random.random()},"
            f"{0.7 - falling / 5},{0.65 - falling / 5}"
        )
    (run / "logs" / "metrics.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of every kind that `evaluate`, `compare`, `search` and `leak-report` write, with long names."""
    folder = tmp_path_factory.mktemp("pages")
    runs = []
    for number, name in enumerate(("fusion-cnn2d-msd-segments-augmented", "mel-cnn1d-baseline", "mfcc-gru", "c")):
        answers = random_answers(number, right=0.6, labels=GENRES)
        run = make_run(
            folder / name, answers, labels=GENRES, recipe=name, best_epoch=40, epochs=60, parameters=12_345_678
        )
        runs.append(_with_curves(run))
    seeds = make_group(
        folder / "seeds",
        {f"seed-{s}": {"test": random_answers(s, labels=GENRES), "labels": GENRES, "seed": s} for s in range(3)},
    )
    two = ("a", "b")
    pair = {f"seed-{s}": {"test": random_answers(s, labels=two), "labels": two, "seed": s} for s in range(3)}
    accuracy = Estimate(0.731, 0.702, 0.769, "bootstrap over tracks", 200)
    rows = [LeakRow(name, accuracy, accuracy, 200) for name in ("segment-leaky", "track", "artist")]
    rows.append(
        LeakRow("fault-filtered", None, None, 0, "the manifest's tracks are not those of GTZAN, whose list it is")
    )
    written = {
        "labels": render_html(evaluate(runs[0])),
        "seeds": render_html(evaluate(seeds)),
        "two labels": render_html(evaluate(make_group(folder / "pair", pair))),
        "tags": render_html(evaluate(make_tag_run(folder / "tags"))),
        "compare": render_ranking(rank(runs)),
        "leak-report": LeakReport("fusion-cnn2d-msd-segments-augmented", "gtzan.csv", tuple(rows)).to_html(),
        "search": render_search(make_search(folder / "search")),
    }
    places = {}
    for kind, page in written.items():
        places[kind] = folder / f"{kind}.html"
        places[kind].write_text(page, encoding="utf-8")
    return places


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("kind", ["labels", "seeds", "two labels", "tags", "compare", "leak-report", "search"])
def test_nothing_is_cut_or_behind_a_scroll_bar(browser: Browser, pages: dict[str, Path], kind: str) -> None:
    page = browser.new_page()
    page.goto(pages[kind].as_uri())
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        if kind == "search":  # which its script draws
            page.reload()
            page.wait_for_function(_IS_DRAWN)
        assert page.evaluate(_CUT) == [], f"cut at {width} px"
        if width == 1200:
            assert page.evaluate(_SCROLLS) == []
        # on a small screen a table may scroll by itself, the page must not
        root = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert root[0] <= root[1], f"the page scrolls at {width} px"
    page.close()


def test_the_best_epoch_is_marked_and_named(pages: dict[str, Path]) -> None:
    for kind in ("labels", "compare"):
        text = pages[kind].read_text(encoding="utf-8")
        assert "best epoch 41" in text
