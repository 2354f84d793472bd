"""The report as a page: what it says, that it needs no other file, and how a real browser shows it."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report.runs_on_disk import make_runs

from llmrl.core.overrides import ConfigError
from llmrl.report.html import Figure, Report, write_report
from llmrl.report.result import ResultTable, write_results
from llmrl.reproduce import report_on_runs

BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium") or shutil.which("google-chrome")
TABLE = ResultTable(
    "one",
    "One <table>",
    ["arm", "seeds", "success & more, %"],
    [["a_b", "10", "9.5 (8 to 11)"], ["c", "20", "80.0"]],
    ["c, to 80 %: needs at least 2 times fewer decisions than a_b", "a_b, to 95 %: no claim (too few seeds)"],
    ["success is exact"],
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'


class Links(HTMLParser):
    """Everything that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


def page(tmp_path: Path) -> Path:
    report = Report(
        "A <report>", "About it.", [TABLE], [Figure("Curve", SVG)], {}, "llmrl reproduce one",
        ["It is small."], [("success", "not available", "no source (paper)")],
    )  # fmt: skip
    return write_report(report, tmp_path / "r.html")


def test_a_page_says_everything_and_loads_nothing(tmp_path: Path) -> None:
    text = page(tmp_path).read_text()
    links = Links()
    links.feed(text)
    assert all(link.startswith("data:") for link in links.found)
    assert "http" not in re.sub(r"data:[^\"]*", "", text)
    for said in (
        "A &lt;report&gt;", "One &lt;table&gt;", "success &amp; more", "needs at least 2 times fewer", "not available",
        "It is small.", "success is exact", "llmrl reproduce one", "Comparisons that allow no claim: 1",
    ):  # fmt: skip
        assert said in text
    assert text.index("needs at least 2 times fewer") < text.index("One &lt;table&gt;</h2>")  # claims first


def test_a_report_is_an_html_file(tmp_path: Path) -> None:
    report = Report("a", "", [TABLE], [], {}, "llmrl report a")
    with pytest.raises(ConfigError, match=r"--out .*r\.pdf: a report is an HTML page"):
        write_report(report, tmp_path / "r.pdf")


def test_runs_are_reported_by_group(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, ["learner=dqn"], range(3), lambda seed: lambda step: step / 1000, 1000, 250)
    report = report_on_runs(runs, "llmrl report dqn")
    (table,) = report.tables
    assert table.columns[:2] == ["group", "seeds"]
    assert len(table.rows) == 1
    text = report.html()
    for said in ("Costs", "llmrl train", "Provenance", "seconds"):
        assert said in text


def test_a_table_in_other_forms(tmp_path: Path) -> None:
    tex = write_results([TABLE], tmp_path / "t.tex", "Title").read_text()
    for said in (r"\toprule", r"a\_b & 10 &", r"success \& more, \%", "% success is exact"):
        assert said in tex
    assert "one,a_b,10,9.5 (8 to 11)" in write_results([TABLE], tmp_path / "t.csv").read_text()
    with pytest.raises(ConfigError, match=r"a table is written as \.md, \.csv, \.tex"):
        write_results([TABLE], tmp_path / "t.pdf")


@pytest.mark.skipif(BROWSER is None, reason="needs a headless Chromium: `apt install chromium-headless-shell`")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_complaint(tmp_path: Path, width: int) -> None:
    """Its tables sort, its figures load, nothing is wider than the window, and the console stays empty."""
    assert BROWSER is not None
    looks = """<script>
      const sort = document.querySelector("table.sorted th:nth-child(2) button");
      sort.click(); sort.click();
      const first = document.querySelector("table.sorted tbody td").textContent;
      const loaded = [...document.images].every(image => image.complete && image.naturalWidth > 0);
      const wide = document.documentElement.scrollWidth > window.innerWidth;
      document.body.dataset.seen = [first, loaded, wide].join(" ");
    </script></body>"""
    file = page(tmp_path)
    file.write_text(file.read_text().replace("</body>", looks))
    shown = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
            f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert 'data-seen="c true false"' in shown.stdout
    assert ":CONSOLE" not in shown.stderr
