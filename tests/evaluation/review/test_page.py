"""The page as a browser finds it: order, texts, links, and that no name is taken for markup."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from cdal.evaluation.review import write_review
from cdal.runtime.files import write_text
from helpers.files import disc, picture
from helpers.page import chromium
from helpers.review import Page, discs, quality, row, write_record, write_results

HOSTILE = (
    "<script>alert(1)<script>.png",
    "\"onload='alert(1)' x=\".png",
    "javascript:alert(1).png",
    "a&amp;b#c?d%20e.png",
    "--><!-- ]]>.png",
    "line\nfeed\ttab.png",
    "back\u202egnp.exe.png",
    "not-utf8-\udcff.png",
    "{{ 7 * 7 }}{% raw %}.png",
    "-- dash ü 雪.png",
)


def page_of(results: Path, page: Path | None = None) -> Page:
    return Page(write_review(results, page).page)


def links_of(page: Page) -> list[str]:
    return [found["href"] for found in page.all("a")] + [found["src"] for found in page.all("img")]


def test_cases_stand_in_their_order_with_what_is_known_of_them(tmp_path: Path):
    estimate = {"disc": quality(0.912, [0.84, 0.97], [1100, 1400])}
    rows = [
        row("good.png", quality=estimate, outside=False, verdict="accept"),
        row(
            "poor.png",
            quality={"disc": quality(0.3)},
            verdict="review",
            outside=True,
            warnings=["the contrast is inverted"],
            unit="mm3",
            volume={"disc": 12345.6},
        ),
        row("old.png", mean_uncertainty=0.25),
    ]
    page = page_of(write_record(tmp_path, rows))
    assert page.names() == ["poor.png", "good.png", "old.png"]
    poor, good, old = (text for _, text in page.bodies)
    for text in ("outside", "the contrast is inverted", "12,346 mm³", "0.30", "review"):
        assert text in poor
    for text in ("1,256 pixels", "1,100 to 1,400", "0.91", "0.84 to 0.97", "accept", "0.100"):
        assert text in good
    assert "not known" in old
    assert "0.250" in old
    assert [found["data-outside"] for found, _ in page.bodies] == ["true", "false", ""]
    assert [found["data-verdict"] for found, _ in page.bodies] == ["review", "accept", ""]


def test_the_head_counts(tmp_path: Path):
    rows = [
        row("a.png", verdict="review", outside=True),
        row("b.png", verdict="accept"),
        row("c.png"),
    ]
    failed = {"x.png": "it is <b>empty</b>", "scan/IM1": "series of SECRET"}
    facts = (page := page_of(write_record(tmp_path, rows, failed=failed))).facts()
    assert facts["Model"] == "discs"
    assert facts["Cases"] == "3"
    assert facts["To review"] == "1 (2 of 3 have a verdict)"
    assert facts["Outside of the training"] == "1 (1 of 3 were compared)"
    assert facts["Failed"] == "2"
    assert facts["cDAL of the results"] == "0.1.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d [+-]\d{4}", facts["Results written"])
    assert len([text for text in page.texts_of("li") if "training" in text]) == 2
    text = (tmp_path / "review.html").read_text(encoding="utf-8")
    assert "it is &lt;b&gt;empty&lt;/b&gt;" in text
    assert "SECRET" not in text


def test_older_results_have_no_verdict(tmp_path: Path):
    facts = page_of(write_record(tmp_path, [row("a.png")])).facts()
    assert facts["To review"] == "not known (none have a verdict)"
    assert page_of(write_record(tmp_path, [])).facts()["Cases"] == "0"


def test_no_name_is_taken_for_markup_and_every_link_leads_to_its_file(tmp_path: Path):
    results, rows = tmp_path / "re#s <i>", []
    results.mkdir()
    (tmp_path / "in").mkdir()
    for name in HOSTILE:
        source = tmp_path / "in" / name
        picture(tmp_path / "x.png", disc(40)).rename(source)
        made = write_results(results, name[:-4], 40, 10)
        rows.append(
            row(
                source,
                **made,
                warnings=[f"</ul></script></style>{name}"],
                volume={name: 3.0},
                quality={name: quality(0.5)},
                model=name,
            )
        )
    elsewhere = tmp_path / "pages" / "pa ge?.html"
    for at in (results / "review.html", elsewhere):
        page = page_of(write_record(results, rows), at)
        assert {tag for tag, _ in page.tags} <= {
            *("html", "head", "meta", "title", "style", "body", "header", "h1", "dl", "div", "dt"),
            *("dd", "ul", "li", "main", "h2", "form", "fieldset", "legend", "label", "input"),
            *("output", "p", "table", "thead", "tr", "th", "tbody", "span", "strong", "a", "td"),
            *("figure", "img", "figcaption", "script"),
        }
        assert not {name for _, found in page.tags for name in found if name.startswith("on")}
        assert len(page.all("script")) == len(page.all("style")) == 1
        found = links_of(page)
        assert len(found) == 4 * len(HOSTILE)
        for link in found:
            assert not re.search(r"[:?#\\<>\"'\s]", link)
            target = at.parent / unquote(link, errors="surrogateescape")
            assert target.is_file(), link
        (most,) = [text for text in page.texts_of("dd") if "and 7 more" in text]
        assert "onload='alert(1)' x=" in most
        shown = " ".join(text for _, text in page.bodies)
        for name in HOSTILE[:5]:
            assert name in shown
        assert "back\\u202egnp" in shown
        assert "{{ 7 * 7 }}{% raw %}" in shown
        assert shown.count("</ul></script></style>") == len(HOSTILE)


def test_the_policy_allows_this_script_and_nothing_else(tmp_path: Path):
    write_review(discs(tmp_path, 1))
    text = (tmp_path / "results/review.html").read_text(encoding="utf-8")
    policy = Page(tmp_path / "results/review.html").all("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    parts = dict(part.strip().split(" ", 1) for part in policy["content"].split(";"))
    assert parts["default-src"] == parts["base-uri"] == parts["form-action"] == "'none'"
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert parts[f"{tag}-src"] == f"'sha256-{digest}'"
        assert text.index("Content-Security-Policy") < text.index(f"<{tag}>")
    assert not re.search(r"https?:|//\w|innerHTML|eval", text)
    assert " style=" not in text


def test_it_can_be_used_without_seeing_it(tmp_path: Path):
    page = page_of(discs(tmp_path, 2, quality={"disc": quality(0.5)}))
    assert page.all("html")[0]["lang"] == "en"
    assert all(found["alt"] and found["width"] and found["height"] for found in page.all("img"))
    assert [found["scope"] for found in page.all("th")] == ["col"] * 7 + ["rowgroup"] * 2
    ids = {found["id"] for _, found in page.tags if "id" in found}
    assert {found["aria-labelledby"] for _, found in page.tags if "aria-labelledby" in found} <= ids
    assert [found.get("aria-sort") for found in page.all("th")[:7]].count("ascending") == 1
    assert page.texts_of("legend") == ["Show"]
    labelled = re.findall(r"<label>.*?</label>", (tmp_path / "results/review.html").read_text())
    assert sum("<input" in label for label in labelled) == len(page.all("input")) == 4
    assert page.all("form")[0].keys() >= {"hidden"}  # shown by the script


NODE = """
const fs = require("fs");
const source = fs.readFileSync(0, "utf8");
class Element {
  constructor(fields = {}) {
    Object.assign(this, {dataset: {}, attributes: {}, on: {}, hidden: false}, fields); }
  addEventListener(kind, act) { this.on[kind] = act; }
  getAttribute(name) { return this.attributes[name] ?? null; }
  setAttribute(name, value) { this.attributes[name] = value; }
  removeAttribute(name) { delete this.attributes[name]; }
  replaceChildren(...parts) { this.parts = parts; }
}
const rows = [["a10", "0.5", "0.1", "review", "true"], ["a9", "0.7", "", "accept", "false"],
  ["B1", "", "0.3", "", ""]];
const bodies = rows.map(([name, dice, uncertainty, verdict, outside]) => new Element({
  dataset: {name, dice, uncertainty, verdict, outside}, textContent: `${name} Lung ${verdict}`}));
const headings = ["name", "dice", "uncertainty"].map((key) => new Element({dataset: {key}}));
headings[1].setAttribute("aria-sort", "ascending");
const sorted = () => headings.filter((each) => each.getAttribute("aria-sort"));
let order = bodies;
const table = {tBodies: bodies, append: (...moved) => { order = moved; }, tHead: {querySelectorAll:
  (what) => (what === "th[data-key]" ? headings : sorted())}};
const form = new Element({elements: {show: {value: "all"}}, hidden: true});
const search = new Element({value: ""}), shown = new Element();
global.document = {getElementById: (id) => ({cases: table, filters: form, search, shown})[id],
  createElement: () => new Element()};
(0, eval)(source);
const said = [];
const tell = () => said.push(order.filter((body) => !body.hidden).map((body) => body.dataset.name)
  .join(" ") + " | " + shown.value + " | " + sorted().map((each) => each.dataset.key + " " +
  each.getAttribute("aria-sort")));
tell();
for (const index of [1, 0, 0, 2]) { headings[index].parts[0].on.click(); tell(); }
const asked = [["review", ""], ["outside", ""], ["all", "  LUNG a1"], ["review", "b"]];
for (const [show, text] of asked) {
  form.elements.show.value = show; search.value = text; form.on.input(); tell();
}
said.push(String(form.hidden));
console.log(said.join("\\n"));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run the page's script")
def test_the_script_sorts_and_filters(tmp_path: Path):
    """In Node.js, with a few lines in place of the elements of a browser."""
    write_review(discs(tmp_path, 1))
    text = (tmp_path / "results/review.html").read_text(encoding="utf-8")
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    write_text(tmp_path / "run.js", NODE)
    done = subprocess.run(
        ["node", str(tmp_path / "run.js")],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "a10 a9 B1 | 3 of 3 cases shown | dice ascending",
        "a9 a10 B1 | 3 of 3 cases shown | dice descending",
        "a9 a10 B1 | 3 of 3 cases shown | name ascending",
        "B1 a10 a9 | 3 of 3 cases shown | name descending",
        "B1 a10 a9 | 3 of 3 cases shown | uncertainty descending",
        "a10 | 1 of 3 cases shown | uncertainty descending",
        "a10 | 1 of 3 cases shown | uncertainty descending",
        "a10 | 1 of 3 cases shown | uncertainty descending",
        " | 0 of 3 cases shown | uncertainty descending",
        "false",
    ], done.stderr


def test_on_a_small_screen_no_word_is_broken_and_no_column_cut(tmp_path: Path):
    fields = {
        "volume": {"lesion": 123456.0},
        "quality": {"lesion": quality(0.91, [0.84, 0.97], [100000, 140000])},
        "warnings": ["texture: far from that of the training images, " + "and so on " * 9],
        "outside": True,
        "verdict": "review",
    }
    page = write_review(discs(tmp_path, 2, **fields)).page
    with chromium() as browser:
        opened = browser.new_page(viewport={"width": 1300, "height": 900})
        opened.goto(page.as_uri())
        wide = opened.evaluate(
            "() => { const d = document.querySelector('.wide'); return d.scrollWidth - "
            "d.clientWidth; }"
        )
        lines = opened.evaluate(
            """() => {
              const cell = [...document.querySelectorAll('tbody td')].find(
                (td) => td.textContent.includes('lesion'));
              const range = document.createRange();
              const text = cell.lastChild, start = text.textContent.indexOf('lesion');
              range.setStart(text, start); range.setEnd(text, start + 6);
              return range.getClientRects().length;
            }"""
        )
    assert (wide, lines) == (0, 1)
