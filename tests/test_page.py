"""The report's page in a real browser: nothing overflows, and what one clicks works. Skipped without Chromium."""

import re

import pytest

from tests.browser import Browser, program
from tests.test_plots import save
from tests.test_spoilt import BASE
from xstilts.report import matrix as mx
from xstilts.report import page

pytestmark = pytest.mark.skipif(program() is None, reason="no Chromium on PATH (Debian: apt-get install chromium)")

LANGUAGES = (
    "en de es fr ru bg ar fa ur hi mr bn ta te ml th ko ja zh el he ka am sw tr vi id fi et hu eu af nl it pt my"
).split()
ARMS = ["none", *(f"arm_with_a_long_name+modifier{i}" for i in range(24))]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page of 25 arms, 12 tasks, 3 seeds and 36 languages, still running; a picture of what people have."""
    root = tmp_path_factory.mktemp("runs")
    for a, arm in enumerate(ARMS):
        for seed in range(3 if a < 20 else 2):
            place = BASE | {"arm": arm, "seed": seed, "settings": {}, "form": "x", "dev": {}}
            for t in range(12):
                level = (
                    40
                    + 2 * t
                    + (0.8 * a if t % 3 else -0.6 * a)
                    + ((7 * a + 5 * seed * seed + a * seed + 3 * t) % 13) / 6
                )
                scores = {lang: {"accuracy": level - 0.4 * i} for i, lang in enumerate(LANGUAGES)}
                record = place | {"phase": "target", "task": f"task{t:02d}", "scores": scores}
                if t > 9:
                    layers = {
                        str(k): {lang: {"accuracy": x["accuracy"] * k / 12} for lang, x in scores.items()}
                        for k in range(13)
                    }
                    more = {"phase": "retrieval", "layer": 12, "pooling": "mean", "layers": layers}
                    record |= more | {"scores": layers["12"]}
                save(root, record)
    grid = {"arms": [*ARMS, "squad_dual+multilingual+codeswitched"], "seeds": [0, 1, 2]}
    matrix = mx.collect(root, **grid)
    path = root / "index.html"
    files = {"matrix.csv": "a,b\n", "matrix.md": "a\n", "matrix.tex": "a\n"}
    path.write_text(page.html_page(matrix, "A report", files), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with Browser() as one:
        yield one


# what is wider than the window, though it does not lie in something that scrolls
TOO_WIDE = """[...document.querySelectorAll('body *')].filter(one => {
  if (one.closest('.scroll') && !one.classList.contains('scroll')) return false;
  const box = one.getBoundingClientRect();
  return box.width > 0 && (box.right > document.documentElement.clientWidth + 1 || box.left < -1);
}).map(one => one.tagName + '.' + one.className + ' ' + one.textContent.slice(0, 40)).slice(0, 5)"""
# text that is wider than the box that shows it, where the box hides the rest
PARTS = ".forest .name, .forest .text, .answers *, figcaption, .first, summary, h1, h2, h3"
CUT = f"""[...document.querySelectorAll('{PARTS}')]
  .filter(one => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display != 'inline')
  .map(one => one.className + ' ' + one.textContent.slice(0, 40)).slice(0, 5)"""


def broken(selector):
    """JavaScript: the texts in these elements that stand on two lines though no blank or `<wbr>` is in them."""
    return f"""[...document.querySelectorAll('{selector}')].flatMap(one => {{
      const texts = document.createTreeWalker(one, NodeFilter.SHOW_TEXT), found = [];
      while (texts.nextNode()) {{
        const range = document.createRange();
        range.selectNodeContents(texts.currentNode);
        if (new Set([...range.getClientRects()].map(box => box.top)).size > 1) found.push(texts.currentNode.data);
      }}
      return found;
    }}).slice(0, 5)"""


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_overflows(report, browser, width, dark):
    browser.look(width, dark)
    browser.open(report)
    browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.run("innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(TOO_WIDE) == [] and browser.run(CUT) == []
    assert browser.run(broken("table.data tbody th, table.states tbody th")) == []
    ground, ink = browser.run(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (brightness(ground) < brightness(ink)) == dark


def brightness(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


@pytest.mark.parametrize("width", [1400, 400])
def test_text_has_contrast_in_light_and_dark(report, browser, width):
    """WCAG's ratio of at least 4.5 for the texts of charts, notes and marks."""
    for dark in (False, True):
        browser.look(width, dark)
        browser.open(report)
        ground = browser.run("getComputedStyle(document.body).backgroundColor")
        for part in (".note", ".forest .text", ".badge", ".done", ".waiting", "summary", "thead th", "nav a"):
            ink = browser.run(f"getComputedStyle(document.querySelector('{part}')).color")
            assert contrast(ink, ground) >= 4.5, (part, dark)


def contrast(one, other):
    def light(colour):
        parts = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
        linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return sum(share * x for share, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_head_and_arm_stay_in_view(report, browser):
    browser.look(1400)
    browser.open(report)
    top, left, head, arm, first = browser.run("""(() => {
      const box = document.querySelector('#matrix .scroll');
      box.style.maxHeight = '200px';
      box.scrollTo(300, 150);
      const at = (one) => one.getBoundingClientRect();
      const [arm, first] = box.querySelector('tbody').rows[9].cells;
      return [box.scrollTop, box.scrollLeft, at(box.querySelector('thead')).top - at(box).top,
              at(arm).left - at(box).left, at(first).left - at(box).left];
    })()""")
    assert top > 100 and left > 100 and abs(head) < 3 and abs(arm) < 3 and first < 0


def test_a_column_is_sorted_by_its_numbers_and_blanks_stay_last(report, browser):
    browser.look(1400)
    browser.open(report)
    column = "[...document.querySelector('#matrix tbody').rows].map(row => row.cells[3].textContent)"
    click = "document.querySelector('#matrix thead').rows[1].cells[3].querySelector('button').click()"
    before = browser.run(column)
    browser.run(click)
    down = browser.run(column)
    browser.run(click)
    up = browser.run(column)
    numbers = [[float(text.split()[0]) for text in texts if text] for texts in (down, up)]
    assert sorted(down) == sorted(before) and numbers == [sorted(numbers[0], reverse=True), sorted(numbers[1])]
    assert down[-1] == up[-1] == ""


def test_arms_are_filtered_and_a_language_is_found_by_name(report, browser):
    browser.look(400)
    browser.open(report)
    typed = """((box, word) => { box.value = word; box.dispatchEvent(new Event('input')); })"""
    browser.run(f"{typed}(document.querySelector('#matrix input'), 'modifier23')")
    shown = "[...document.querySelectorAll('#matrix table')[0].tBodies[0].rows].filter(row => !row.hidden).length"
    assert browser.run(shown) == 1
    browser.run("document.querySelector('details.by-language').open = true")
    browser.run(f"{typed}(document.querySelector('.by-language input[placeholder=\"Find a language\"]'), 'swahili')")
    heads = "[...document.querySelector('.by-language table').tHead.rows[1].cells].filter(one => !one.hidden)"
    assert browser.run(f"{heads}.map(one => one.innerText.trim().split('\\n')[0])") == ["arm", "sw"]
    browser.run(f"{typed}(document.querySelector('.by-language input[placeholder=\"Find a language\"]'), '')")
    assert browser.run(f"{heads}.length") == 1 + len(LANGUAGES)


def test_print_opens_everything_and_cuts_nothing(report, browser, tmp_path):
    browser.look(1060, media="print")  # the width of a landscape A4 page within its margins, in CSS pixels
    browser.open(report)
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.run("document.querySelectorAll('details:not([open])').length") == 0
    assert browser.run("document.documentElement.scrollWidth") <= 1060
    wide = "[...document.querySelectorAll('table')].filter(one => one.scrollWidth > 1060).length"
    inside = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth + 1).length"
    assert browser.run(wide) == browser.run(inside) == 0
    assert browser.run(broken("#matrix td")) == []  # no number has its spread on a line of its own
    for part in ("figure", "#matrix table", "#task-task00 ~ .scroll table"):
        assert browser.run(f"getComputedStyle(document.querySelector('{part}')).breakInside") == "avoid"
    tall = "Math.max(...[...document.querySelectorAll('figure')].map(one => one.getBoundingClientRect().height))"
    assert browser.run(tall) < 700  # no chart is taller than a page, so none is split
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    assert browser.run("document.querySelectorAll('details[open]').length") == 0


def test_the_tables_of_an_ordinary_matrix_fit_without_scrolling(browser, tmp_path):
    """11 arms, 10 tasks, 3 seeds."""
    arms = ["none", *"mnli squad hellaswag ccg qqp mnli+cross+lora squad+mlm squad_dual all mnli+multilingual".split()]
    for i, (arm, t, seed) in enumerate((arm, t, seed) for arm in arms for t in range(10) for seed in range(3)):
        record = BASE | {"arm": arm, "seed": seed, "settings": {}, "form": "x", "dev": {}, "phase": "target"}
        save(tmp_path, record | {"task": f"task{t:02d}", "scores": {"en": {"accuracy": 40 + 7 * i % 23 / 3}}})
    path = tmp_path / "index.html"
    path.write_text(page.html_page(mx.collect(tmp_path), "A report"), encoding="utf-8")
    browser.look(1400)
    browser.open(path)
    boxes = "[...document.querySelectorAll('#matrix .scroll')].map(one => one.scrollWidth - one.clientWidth)"
    assert browser.run(boxes) == [0, 0]


def test_a_page_of_this_size_stays_small(report):
    assert report.stat().st_size < 6e6
