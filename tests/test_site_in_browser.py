"""The rendered site in a real browser: `make check-site`, after `make book`. Needs playwright and Chromium."""

import os
import re
from pathlib import Path

import pytest

from book._tools.layout import BOOK
from book._tools.npm import axe_script
from book._tools.shots import OPTIONS, find_browser, find_pages, remember_theme

pytestmark = pytest.mark.browser
SITE = Path(os.environ.get("SPLINELIB_SITE") or BOOK.site)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as api:
        found = api.chromium.launch(executable_path=find_browser(), args=OPTIONS)
        yield found
        found.close()


@pytest.fixture(params=["light", "dark"])
def visit(request, browser):
    """Open a page of the site at a width; what it says on the console, or asks of others, is an error at the end."""
    said = []
    context = browser.new_context()
    context.add_init_script(remember_theme(request.param))
    page = context.new_page()
    # The theme logs what it did.
    page.on("console", lambda m: said.append(m.text) if m.type in ("warning", "error") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request", lambda r: said.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None
    )

    def open_page(name, width=1280):
        page.set_viewport_size({"width": width, "height": 900})
        path, _, anchor = name.partition("#")
        page.goto(f"{(SITE / path).as_uri()}#{anchor}")
        return page

    yield open_page
    context.close()
    assert said == []


@pytest.mark.parametrize("name", find_pages(SITE))
def test_page_fits_a_phone_and_says_nothing_on_the_console(visit, name):
    page = visit(name, width=390)
    wide = "[document.documentElement.scrollWidth, innerWidth]"
    inner, outer = page.evaluate(wide)
    assert inner <= outer
    assert page.get_by_role("heading", level=1).first.is_visible()


@pytest.mark.parametrize("name", ["results/04_layerwise_pruning.html", "results/10_verdicts.html"])
def test_figures_keep_their_letters_on_a_phone_and_scroll_with_the_keyboard(visit, name):
    page = visit(name, width=390)
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    page.evaluate("document.querySelectorAll('img').forEach(img => { img.loading = 'eager' })")
    page.wait_for_function(
        "[...document.querySelectorAll('figure img, .case img')].every(img => img.naturalWidth)"
    )
    page.wait_for_timeout(300)
    scales, frames = page.evaluate(
        """[
          [...document.querySelectorAll("figure img, .case img")].map(
            img => img.getBoundingClientRect().width / img.naturalWidth),
          [...document.querySelectorAll(".bd-content figure, .case > div")].map(
            frame => [frame.scrollWidth, frame.clientWidth, frame.tabIndex])
        ]"""
    )
    assert min(scales) > 0.5
    assert any(inner > outer for inner, outer, _ in frames)
    assert all(index == 0 for inner, outer, index in frames if inner > outer)


def test_a_first_visit_says_nothing_on_the_console_either(browser):
    """Without a theme from an earlier visit."""
    page, said = browser.new_page(), []
    page.on("console", lambda message: said.append(message.text) if message.type != "log" else None)
    page.goto((SITE / "index.html").as_uri())
    page.close()
    assert said == []


def numbers(page):
    """What the playground's table says of the network now: units, regions, length, accuracy."""
    cells = page.locator("#playground tbody tr td:last-child").all_inner_texts()
    return [float(text.removesuffix(" %")) for text in cells]


def test_unit_is_removed_by_mouse_and_put_back(visit):
    page = visit("playground.html")
    whole = numbers(page)
    # Some boundary is near to the middle of the picture, which is clicked once it stands still.
    page.locator("#playground canvas").click()
    button = page.locator("#playground .flip")
    assert button.inner_text().startswith("Remove unit")
    button.click()
    page.wait_for_timeout(100)
    assert numbers(page)[0] == whole[0] - 1
    assert numbers(page)[1] < whole[1]
    assert button.inner_text().startswith("Put back unit")
    button.click()
    page.wait_for_timeout(100)
    assert numbers(page) == whole


def test_playground_by_keyboard_and_what_is_read_out(visit):
    page = visit("playground.html")
    whole = numbers(page)
    page.locator("#playground .units button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Delete")
    page.wait_for_timeout(700)
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused == "unit 2 of layer 1, removed"
    assert numbers(page)[0] == whole[0] - 1
    said = page.locator("#playground [role=status]").inner_text()
    assert f"{numbers(page)[1]:.0f} regions" in said
    assert "Unit 2 of layer 1 is removed" in said
    page.locator("#playground-count").focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    assert numbers(page)[0] in (15, 17)  # half of each layer, and unit 2 the other way round
    assert page.locator("#playground-count").get_attribute("aria-valuetext") == "50 %"
    page.get_by_role("button", name="Put all back").click()
    page.wait_for_timeout(100)
    assert numbers(page) == whole


def test_epochs_and_criteria_change_the_partition(visit):
    page = visit("playground.html")
    page.locator("#playground-count").fill("8")
    seen = []
    for name in ("spline", "l1", "random"):
        page.locator("#playground-criterion").select_option(name)
        page.wait_for_timeout(100)
        seen.append(numbers(page)[1])
    assert len(set(seen)) == 3
    page.locator("#playground-epoch").fill("0")
    page.wait_for_timeout(100)
    assert numbers(page)[3] < 90


def test_frames_are_drawn_sixty_times_a_second(visit):
    """The time from a change to picture and table; the least of many, since other processes take time away."""
    page = visit("playground.html")
    spent = page.evaluate("""() => new Promise((done) => {
        const slider = document.querySelector("#playground-count");
        const times = [];
        const turn = (i) => {
            slider.value = i % 16;
            slider.dispatchEvent(new Event("input"));
            requestAnimationFrame(() => {
                const start = performance.now();
                setTimeout(() => {
                    times.push(performance.now() - start);
                    i < 40 ? turn(i + 1) : done(Math.min(...times));
                });
            });
        };
        turn(0);
    })""")
    assert spent < 1000 / 60


def test_on_paper_a_picture_stands_in_the_playground_s_place(visit):
    page = visit("playground.html")
    still = page.locator(".playground-still")
    assert not still.is_visible()
    page.emulate_media(media="print")
    assert still.is_visible()
    assert not page.locator("#playground").is_visible()


def test_mark_opens_what_is_behind_it(visit):
    page = visit("results/10_verdicts.html")
    mark = page.locator("table.marks a.mark").last
    fold = page.locator(mark.get_attribute("href"))
    assert not fold.is_visible()
    mark.click()
    assert fold.is_visible()
    assert "Records (" in fold.inner_text()
    assert "python -m splinestudy sweep" in fold.inner_text()


def test_fold_opens_by_its_heading_or_by_a_link_to_what_is_in_it(visit):
    page = visit("results/04_layerwise_pruning.html")
    figure = page.locator("details.fold figure").first
    assert not figure.is_visible()
    page.locator("details.fold > summary").first.click()
    assert figure.is_visible()
    name = figure.get_attribute("id")
    visit("index.html")
    assert visit(f"results/04_layerwise_pruning.html#{name}").locator(f"#{name}").is_visible()


def test_every_claim_has_a_mark_at_a_glance(visit):
    page = visit("index.html")
    rows = page.locator("table.glance tbody tr")
    assert rows.count() == 8
    assert rows.locator(".mark").count() == 8


@pytest.fixture(scope="module")
def axe():
    return axe_script()


@pytest.mark.parametrize("name", find_pages(SITE))
def test_page_has_no_serious_fault_for_those_who_do_not_see_it(visit, axe, name):
    page = visit(name)
    page.evaluate(axe)
    # Without preload, since a page of a file may not ask for its own style sheets.
    found = page.evaluate("axe.run(document, {preload: false}).then((report) => report.violations)")
    serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], [node["html"][:120] for node in fault["nodes"][:3]]) for fault in serious] == []


def test_threshold_moves_the_drawn_epoch(visit):
    page = visit("early_bird_explorer.html")
    said = page.locator("#early-bird .drawn")
    released = said.inner_text()
    assert re.match(r"Drawn after \d+ of \d+ epochs", released)
    page.locator("#early-bird-threshold").fill("0.01")
    assert said.inner_text() != released
    page.get_by_role("button", name="As released").click()
    assert said.inner_text() == released
    for choice in range(page.locator("#early-bird-network option").count()):
        page.locator("#early-bird-network").select_option(str(choice))
        assert "Over the seeds" in said.inner_text()
    page.locator("#early-bird canvas").focus()
    page.keyboard.press("ArrowUp")
    assert "distance" in page.locator("#early-bird .said").inner_text()


def test_every_comparison_can_be_seen(visit):
    page = visit("comparison_explorer.html")
    seen = set()
    for network in range(page.locator("#comparison-network option").count()):
        page.locator("#comparison-network").select_option(str(network))
        for chosen in range(page.locator("#comparison-set option").count()):
            page.locator("#comparison-set").select_option(str(chosen))
            said = page.locator("#comparison .said").inner_text()
            rows = page.locator("#comparison tbody tr").count()
            compared = page.locator("#comparison svg circle").count() - rows
            assert compared == max(rows - 1, 0)
            assert re.match(
                rf"Spline(, least squares)? against {compared} method"
                if compared
                else "No method of this set",
                said,
            )
            seen.add(said)
    assert len(seen) > 5


def test_method_is_lit_wherever_it_stands(visit):
    page = visit("comparison_explorer.html")
    page.locator("#comparison tbody tr").first.hover()
    name = page.locator("#comparison tbody tr").first.get_attribute("data-method")
    lit = page.locator("#comparison .lit")
    assert lit.count() >= 2
    assert {lit.nth(place).get_attribute("data-method") for place in range(lit.count())} == {name}


@pytest.mark.parametrize("name", ["early_bird", "comparison"])
def test_on_paper_a_picture_stands_in_the_explorer_s_place(visit, name):
    page = visit(f"{name}_explorer.html")
    still = page.locator(".explorer-still")
    assert not still.is_visible()
    page.emulate_media(media="print")
    assert still.is_visible()
    assert not page.locator(".explorer").is_visible()


def test_every_figure_of_the_index_leads_to_its_fold(visit):
    page = visit("figures.html")
    links = page.locator(".figure-index a")
    assert links.count() > 50
    links.first.click()
    anchor = page.evaluate("location.hash.slice(1)")
    fold = page.locator(f"#{anchor} details.figure-links")
    fold.locator("summary").click()
    text = fold.inner_text()
    assert "make book" in text
    assert "@misc{splinelib-fig-" in text
    assert [a.inner_text() for a in fold.locator("a").all()][:3] == ["SVG", "PNG", "PDF"]
