"""The built pages in a real browser: whole without a network, readable at any width, light and dark."""

import json
import re
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import pytest
import torch
from audit import CHROMIUM, HTML, SERIOUS, Visit, as_table, browsing, pages, serving

from madcluster.loss import one_directed_adaptive

pytestmark = [
    pytest.mark.skipif(not HTML.is_dir(), reason="build the pages: make book"),
    pytest.mark.skipif(CHROMIUM is None, reason="install chromium: apt-get install chromium"),
]
AUDIT = HTML.parent / "audit.json"
WIDTHS = (1440, 820, 390)
every_page = pytest.mark.parametrize("name", pages(HTML))


@pytest.fixture(scope="module")
def address():
    with serving(HTML) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with browsing() as found:
        yield found


@pytest.fixture
def visit(browser, address, request):
    found = Visit(browser, address, dark=getattr(request, "param", "light") == "dark")
    yield found
    found.page.close()


@every_page
@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
def test_a_page_is_whole_and_fits(visit, name):
    page = visit.open(name)
    assert page.evaluate("() => document.documentElement.dataset.theme") == visit.theme
    assert page.locator("mjx-merror").count() == 0
    unset = page.evaluate(
        "() => [...document.querySelectorAll('.math')]"
        ".filter(e => !e.querySelector('mjx-container')).map(e => e.textContent)"
    )
    assert unset == []
    assert page.locator(".sliders:not(:has(svg))").count() == 0  # each is drawn
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        wide = page.evaluate(
            """() => {
                const found = [];
                (function look(e) {
                    if (e.matches('.bd-sidebar-secondary')) return;  // a drawer, shut
                    const r = e.getBoundingClientRect();
                    if (r.width > 0 && r.right > innerWidth + 1) found.push(e.outerHTML.slice(0, 90));
                    // what scrolls inside a box is fine
                    if (getComputedStyle(e).overflowX === 'visible') [...e.children].forEach(look);
                })(document.querySelector('main'));
                return found;
            }"""
        )
        assert (width, wide) == (width, [])
        squeezed = page.evaluate(
            """() => [...document.querySelectorAll('.bd-content img[width][height]')].filter(e => {
                const r = e.getBoundingClientRect();
                const [w, h] = ['width', 'height'].map(name => e.getAttribute(name));
                return r.height > 0 && Math.abs(r.width / r.height * h / w - 1) > 0.05;
            }).map(e => e.alt)"""
        )
        assert (width, squeezed) == (width, [])
        body = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert body <= 0, f"{body} pixels too wide at {width}"
    visit.weight()  # reads the images that come into sight late
    assert visit.outside == []
    assert visit.faults == []


@pytest.fixture(scope="module")
def measured():
    """What book/audit.py found in these pages."""
    assert AUDIT.exists(), "run `make book`, which measures the pages"
    rows = json.loads(AUDIT.read_text())
    built = max((HTML / name).stat().st_mtime for name in pages(HTML) if "status" not in name)
    assert AUDIT.stat().st_mtime > built, "the pages were built after they were measured"
    return rows


def test_every_page_was_measured(measured):
    assert {(row["page"], row["theme"]) for row in measured} == {
        (name, theme) for name in pages(HTML) for theme in ("light", "dark")
    }


def test_axe_finds_nothing_serious(measured):
    assert [
        (row["page"], row["theme"], finding)
        for row in measured
        for finding in row["violations"]
        if finding[0] in SERIOUS
    ] == []


def test_pages_are_light_quick_and_quiet(measured):
    print(as_table(measured).to_string())
    assert [(r["page"], r["bytes"]) for r in measured if r["bytes"] > 2 * 2**20] == []
    assert [(r["page"], r["first paint ms"]) for r in measured if r["first paint ms"] > 1500] == []
    assert [(r["page"], r["outside"]) for r in measured if r["outside"]] == []
    assert [(r["page"], r["faults"]) for r in measured if r["faults"]] == []


def test_the_status_page_shows_the_measurement(measured):
    text = (HTML / "book" / "status.html").read_text()
    for name, row in as_table(measured).iterrows():
        assert f"<td>{name}</td>" in text
        assert f"<td>{row['KiB']}</td>" in text
    assert re.search(r"Commit <code[^>]*>.*?[0-9a-f]{12}|Commit [0-9a-f]{12}", text, re.DOTALL)
    assert "torch" in text


def test_axe_would_find_a_fault(visit):
    page = visit.open("book/notation.html")
    page.evaluate(
        "() => { const p = document.querySelector('main p');"
        " p.style.color = '#bbb'; p.style.background = '#fff'; }"
    )
    assert [impact for impact, rule, _ in visit.violations() if rule == "color-contrast"]


def test_every_link_and_anchor_leads_somewhere(browser, address):
    """Inside the site; `python -m sphinx -b linkcheck` is for the others."""
    page = browser.new_page(java_script_enabled=False)
    anchors, links = {}, set()
    for name in pages(HTML):
        page.goto(f"{address}/{name}")
        anchors[f"{address}/{name}"] = set(
            page.eval_on_selector_all("[id], [name]", "all => all.map(e => e.id || e.name)")
        )
        hrefs = page.eval_on_selector_all("a[href]", "all => all.map(e => e.getAttribute('href'))")
        links |= {(f"{address}/{name}", href) for href in hrefs}
    page.close()
    broken = []
    for source, href in sorted(links):
        target, anchor = urldefrag(urljoin(source, href))
        if not target.startswith(address):
            continue
        path = HTML / unquote(urlparse(target).path).lstrip("/")
        known = anchors.get(target)
        if not path.exists() or (anchor and known is not None and unquote(anchor) not in known):
            broken.append((source.removeprefix(address), href))
    assert broken == []
    assert len(links) > 500


def test_search_finds_the_loss(visit):
    page = visit.open("search.html?q=one-directed")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    found = page.locator("#search-results li a").all_inner_texts()
    assert any("One-directed Adaptive loss" in title for title in found)
    assert visit.outside == []


def test_the_theme_can_be_switched(visit):
    page = visit.open("book/index.html")
    themes = set()
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").first.click()
        themes.add(page.evaluate("() => document.documentElement.dataset.theme"))
    assert themes == {"light", "dark"}


@pytest.mark.parametrize("visit", ["dark"], indirect=True)
def test_paper_is_light(visit):
    page = visit.open("book/02_deep_svdd.html")
    page.evaluate(
        "() => addEventListener('beforeprint', () => { window.printed = ["
        "document.documentElement.dataset.theme,"
        "getComputedStyle(document.querySelector('img.only-light')).display]; })"
    )
    page.pdf()
    theme, display = page.evaluate("() => window.printed")
    assert theme == "light"
    assert display != "none"
    assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
def test_figures_are_drawn_for_the_theme(visit):
    page = visit.open("book/02_deep_svdd.html")
    other = {"light": "dark", "dark": "light"}[visit.theme]
    shown = page.locator(f"main img.only-{visit.theme}")
    assert shown.count() == page.locator(f"main img.only-{other}").count() >= 3
    assert shown.first.is_visible()
    assert not page.locator(f"main img.only-{other}").first.is_visible()
    shown.first.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete", arg=shown.first.element_handle())
    width, natural = shown.first.evaluate("e => [e.getBoundingClientRect().width, e.naturalWidth]")
    assert natural >= 1.9 * width  # two pixels for one of the page
    # the letters of a figure, its darkest or lightest opaque pixels, stand out from the page
    extreme = shown.first.evaluate(
        """(image) => {
            const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
            let low = 255, high = 0;
            for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 250) {
                const gray = Math.max(data[i], data[i + 1], data[i + 2])
                low = Math.min(low, gray); high = Math.max(high, gray);
            }
            return [low, high];
        }"""
    )
    assert extreme[0] < 60 if visit.theme == "light" else extreme[1] > 200


@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
def test_captions_are_seen(visit):
    page = visit.open("book/02_deep_svdd.html")
    captions = page.locator("main figure figcaption")
    assert captions.count() == page.locator("main figure").count() >= 3
    assert all(caption.is_visible() for caption in captions.all())


def test_a_solution_unfolds(visit):
    page = visit.open("book/05_one_cluster.html")
    solution = page.locator("div.solution").first
    inside = solution.locator("div.cell").first
    assert not inside.is_visible()
    solution.locator("button").first.click()
    inside.wait_for(state="visible", timeout=5_000)


def test_every_picture_says_what_it_shows(browser, address):
    page = browser.new_page(java_script_enabled=False)
    silent = []
    for name in pages(HTML):
        page.goto(f"{address}/{name}")
        alts = page.eval_on_selector_all("main img", "all => all.map(e => [e.src, e.alt])")
        silent += [
            (name, src[-40:]) for src, alt in alts if len(alt.split()) < 3 or "/_images/" in alt
        ]
    page.close()
    assert silent == []


def test_the_figure_of_the_loss_can_be_taken_hold_of(visit):
    page = visit.open("book/06_one_directed_loss.html")
    figure = page.locator(".one-directed")
    said = figure.locator("p")
    before = said.inner_text()
    figure.locator("input").first.focus()
    page.keyboard.press("ArrowRight")
    assert said.inner_text() != before
    figure.locator("rect").scroll_into_view_if_needed()
    square = figure.locator("rect").bounding_box()
    page.mouse.click(square["x"] + 0.8 * square["width"], square["y"] + 0.8 * square["height"])
    assert said.inner_text().startswith("At q = 0.80 and ν = 0.20 the loss is")


def test_the_figure_of_the_loss_computes_what_the_package_does(visit):
    page = visit.open("book/06_one_directed_loss.html")
    grid = torch.cartesian_prod(*[torch.tensor([0.02, 0.3, 0.5, 0.51, 0.98]).double()] * 2)
    found = page.evaluate("grid => grid.map(([q, nu]) => oneDirected(q, nu))", grid.tolist())
    q, nu = (column.clone().requires_grad_() for column in grid.T)
    value = one_directed_adaptive(q, nu)
    value.sum().backward()
    expected = torch.stack([value.detach(), q.grad, nu.grad], 1)
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64), expected, rtol=1e-9, atol=1e-12
    )
