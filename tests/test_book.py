"""The notebooks as they lie in git, and as papermill runs them; the pages as they were built."""

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import launch
import nbformat
import pandas as pd
import pytest
import yaml
from execute import run
from plant import plant

ROOT = Path(__file__).parents[1]

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.name[:2].isdigit()]
HTML = ROOT / "_build" / "html"
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def chapters():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return {entry["file"] for part in toc["parts"] for entry in part["chapters"]} | {toc["root"]}


@pytest.fixture(scope="module")
def notebooks():
    return {path: nbformat.read(path, as_version=4) for path in NOTEBOOKS}


def test_every_page_is_in_the_table_of_contents_and_exists():
    pages = {
        f"book/{path.stem}"
        for pattern in ("*.ipynb", "*.md", "*.rst")
        for path in (ROOT / "book").glob(pattern)
    }
    assert pages == chapters()


@by_name
def test_stripped(path, notebooks):
    for cell in notebooks[path].cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert set(notebooks[path].metadata) <= {"kernelspec", "language_info"}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_conventions(path, notebooks):
    cells = notebooks[path].cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert len(re.findall(r"^# ", prose, flags=re.MULTILINE)) == 1
    assert cells[0].source.startswith("# ")
    assert "You will" in cells[0].source
    assert "GPU" in cells[0].source
    assert all(
        line.startswith(("import ", "from ", "plots."))
        or not line.strip()
        or line.startswith((" ", ")"))
        for line in code[0].source.splitlines()
    )
    assert code[1].metadata.get("tags") == ["parameters"]
    assert "FAST = False" in code[1].source
    for heading in ("## Summary", "## Exercises", "## Further reading"):
        assert heading in text
    labels = re.findall(r":label: (ex-\d\d-\d)", text)
    assert len(labels) >= 3
    assert labels == re.findall(r"{solution-start} (ex-\d\d-\d)", text)
    for cell in code:
        assert len(cell.source.splitlines()) <= 30
        assert not re.search(r"^[!%]|filterwarnings", cell.source, flags=re.MULTILINE)
    figures = [cell.metadata.get("mystnb", {}).get("figure") for cell in code]
    for figure in filter(None, figures):
        assert figure["caption"]
        assert figure["name"].startswith("fig-")
    assert sum(bool(figure) for figure in figures) >= 3


@by_name
def test_executes_fast_from_any_folder(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MADCLUSTER_PROGRESS", "0")
    output = tmp_path / path.name
    run(path, output, {"FAST": True}, cwd=ROOT)
    for cell in nbformat.read(output, as_version=4).cells:
        for out in cell.get("outputs", []):
            assert out.get("name") != "stderr", out["text"]


def test_the_benchmark_chapter_on_a_real_machine(data_root, tmp_path):
    output = tmp_path / "out.ipynb"
    parameters = {"DATASET": "SMD", "ENTITY": "machine-1-6", "FAST": True}
    run(ROOT / "book" / "12_benchmarks.ipynb", output, parameters, cwd=ROOT)
    text = output.read_text()
    assert "SMD/machine-1-6" in text
    assert "image/png" in text


def examples_of_the_readme():
    text = (ROOT / "README.md").read_text()
    return re.findall(r"```python\n(.*?)```\s*```\n(.*?)```", text, re.DOTALL)


def test_the_alarms_of_the_readme_are_those_it_prints(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    code, output = examples_of_the_readme()[1]
    exec(compile(code, "README.md", "exec"), {})
    printed, expected = (
        [line.split() for line in text.splitlines()[1:]]
        for text in (capsys.readouterr().out, output)
    )
    # another processor may round otherwise, and so begin an alarm a few rows earlier
    for line, wanted in zip(printed, expected, strict=True):
        assert line[-1] == wanted[-1]
        assert float(line[-2]) == pytest.approx(float(wanted[-2]), abs=0.02)
        times = [pd.Timestamp(" ".join(text[1:3])) for text in (line, wanted)]
        assert abs(times[0] - times[1]) <= pd.Timedelta(minutes=5)


def test_buttons_lead_to_the_public_repository_where_there_is_one(monkeypatch):
    config = SimpleNamespace(html_theme_options={"path_to_docs": ""})
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    launch.add_buttons(None, config)
    assert config.html_theme_options == {"path_to_docs": ""}
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/book")
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    launch.add_buttons(None, config)
    options = config.html_theme_options
    assert options["repository_url"] == "https://github.com/someone/book"
    # the theme puts repository, branch and the page's path in a row: each must be a file in git
    listed = subprocess.run(
        ["git", "ls-files", "book"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert options["path_to_docs"] == ""
    assert {f"book/{path.name}" for path in NOTEBOOKS} <= set(listed)


def test_the_sample_file_is_what_its_script_writes():
    pd.testing.assert_frame_equal(
        pd.read_csv(ROOT / "book" / "_static" / "plant.csv"), plant(), check_dtype=False, atol=2e-3
    )


def test_chapter_15_reports_on_a_file(tmp_path):
    parameters = {
        "CSV": str(ROOT / "book" / "_static" / "plant.csv"),
        "TIME": "minute",
        "LABELS": "fault",
        "FAST": True,
    }
    run(ROOT / "book" / "15_your_own_data.ipynb", tmp_path / "report.ipynb", parameters, cwd=ROOT)
    text = (tmp_path / "report.ipynb").read_text()
    assert "Series('plant', train (1100, 8)" in text
    assert text.count("image/png") >= 5


def test_chapter_15_reports_on_a_file_from_an_office_program(tmp_path):
    """Decimal commas, semicolons, days first, a word among the numbers, a gap, and no rows per day."""
    frame = pd.read_csv(ROOT / "book" / "_static" / "plant.csv").drop(columns="fault")
    stamps = pd.date_range("2026-03-28 22:00", periods=len(frame), freq="30s")
    frame.insert(0, "Zeit", stamps.strftime("%d.%m.%Y %H:%M:%S"))
    frame = frame.drop(columns="minute").astype(object)
    frame.iloc[200:203, 1] = "BAD"
    frame.drop(index=range(500, 520)).to_csv(
        tmp_path / "werk.csv", sep=";", decimal=",", encoding="cp1252", index=False
    )
    reading = {
        "decimal": ",",
        "encoding": "cp1252",
        "time_format": "%d.%m.%Y %H:%M:%S",
        "na_values": ["BAD"],
    }
    parameters = {"CSV": str(tmp_path / "werk.csv"), "TIME": "Zeit", "FILL": "ffill", "FAST": True}
    report = tmp_path / "report.ipynb"
    run(
        ROOT / "book" / "15_your_own_data.ipynb",
        report,
        {**parameters, "READING": reading},
        cwd=ROOT,
    )
    cells = {cell.id: cell for cell in nbformat.read(report, as_version=4).cells}
    assert "3 missing values filled" in cells["c05"].outputs[0].text
    assert "2880 rows a day" in cells["c06a"].outputs[0].text
    assert "0 days 00:10:30" in cells["c06a"].outputs[1].data["text/plain"]


def test_the_example_of_the_readme_prints_what_it_says(capsys):
    code, output = examples_of_the_readme()[0]
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    for line, expected in zip(printed.splitlines(), output.splitlines(), strict=True):
        assert line.split()[:-1] == expected.split()[:-1]
        # another processor may round otherwise
        assert float(line.split()[-1]) == pytest.approx(float(expected.split()[-1]), abs=0.02)


class Outside(HTMLParser):
    """Collect what a browser would fetch from another host."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        wanted = dict(attributes)
        fetched = wanted.get("src") or (wanted.get("href") if tag == "link" else None) or ""
        if re.match(r"(https?:)?//", fetched) and wanted.get("rel") != "canonical":
            self.found.append((tag, fetched))


@pytest.mark.skipif(not HTML.is_dir(), reason="run `make book` first to test the pages")
def test_no_page_names_a_file_of_another_host():
    pages = sorted(HTML.rglob("*.html"))
    assert len(pages) > len(NOTEBOOKS)
    for page in pages:
        parser = Outside()
        parser.feed(page.read_text())
        assert parser.found == [], page.name


@pytest.mark.skipif(not HTML.is_dir(), reason="run `make book` first to test the pages")
def test_every_chapter_was_built_with_its_figures():
    for path in CHAPTERS:
        page = (HTML / "book" / f"{path.stem}.html").read_text()
        assert page.count("<img") >= 3
        assert "Traceback" not in page
