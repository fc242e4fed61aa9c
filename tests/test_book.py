"""The notebooks as they lie in git, and as papermill runs them; the pages as they were built."""

import importlib
import inspect
import pkgutil
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
from cells import run_cells
from plant import plant
from sphinx_book_theme.header_buttons.launch import add_launch_buttons

import madcluster
from madcluster.notebooks import run_notebook as run

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


# `make book` runs every notebook from book/, with its defaults; here all run from the root, the quick
# ones from book/ too, so that these tests do not rest on a build
@by_name
def test_what_checks_the_text_is_not_on_the_page(notebooks, path):
    for cell in notebooks[path].cells:
        checks = re.search(r"^\s*(claim|glue)\(", cell.source, re.MULTILINE)
        if cell.cell_type == "code" and checks:
            assert "remove-cell" in cell.metadata.get("tags", []), cell.id


@by_name
def test_a_wrong_parameter_is_named_before_anything_else(notebooks, path):
    if path.stem == "report":
        return  # it is run on files with parameters of any kind: test_report.py
    code = [cell for cell in notebooks[path].cells if cell.cell_type == "code"]
    tags = [cell.metadata.get("tags", []) for cell in code]
    first = tags.index(["parameters"])
    given, check = {}, code[first + 1].source
    exec(code[first].source, given)
    exec(check, dict(given))  # as it stands
    named = re.findall(r"(\w+)=\1\b", check)
    numbers = [
        name
        for name, value in given.items()
        if name.isupper() and isinstance(value, int) and name != "ROWS_PER_DAY"
    ]
    assert set(named) >= set(numbers)
    for name in named:
        with pytest.raises(ValueError, match=rf"{name}|seed must"):
            exec(check, given | {name: -1 if name != "FAST" else "no"})


CASES = [(path, ROOT) for path in NOTEBOOKS]
CASES += [(path, path.parent) for path in NOTEBOOKS if path.name[:2] in ("01", "05", "10", "11")]


@pytest.mark.parametrize(
    ("path", "cwd"),
    CASES,
    ids=[f"{p.stem}-from-{'root' if f == ROOT else 'book'}" for p, f in CASES],
)
def test_executes_fast_from_any_folder(path, cwd, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MADCLUSTER_PROGRESS", "0")
    output = tmp_path / path.name
    run(path, output, {"FAST": True}, cwd=cwd)
    for cell in nbformat.read(output, as_version=4).cells:
        for out in cell.get("outputs", []):
            assert out.get("name") != "stderr", out["text"]


@pytest.mark.skipif(not HTML.is_dir(), reason="build the pages: make book")
@by_name
def test_the_book_was_executed_whole_and_without_a_remark(path):
    """By `make book`, from the folder of the notebooks."""
    cells = nbformat.read(HTML.parent / "stage" / "book" / path.name, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code if cell.source.strip())
    outputs = [output for cell in code for output in cell.outputs]
    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"EMBEDDERS": ["deepsvd"]}, "embedder must be one of .*'deepsvdd'"),
        ({"DATASETS": ["MSM"]}, "dataset must be one of .*'MSL'"),
        (
            {"ENTITIES": {"synthetic": ["plant-9"]}},
            "entity of synthetic must be one of .*'plant-0'",
        ),
        ({"PROTOCOL": "paper"}, "protocol must be one of .*'honest'"),
        ({"OBJECTIVE": "two-class"}, "objective must be one of .*'soft-boundary'"),
        ({"HEADS": ["yes"]}, "head must be one of .*'contrastive'"),
        ({"SEEDS": []}, "the grid is empty"),
    ],
)
def test_a_wrong_parameter_ends_the_benchmark_before_any_run(
    parameters, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)
    results = tmp_path / "runs"
    with pytest.raises(ValueError, match=message):
        run_cells(ROOT / "book" / "13_benchmark.ipynb", {"RESULTS": str(results), **parameters})
    assert not results.exists()


def test_the_benchmark_goes_on_where_it_was(tmp_path):
    parameters = {
        "EMBEDDERS": ["usad", "random"],
        "ENTITIES": {"synthetic": ["plant-2"]},
        "RESULTS": str(tmp_path / "runs"),
        "FAST": True,
    }
    source = ROOT / "book" / "13_benchmark.ipynb"
    run(source, tmp_path / "out.ipynb", parameters, cwd=ROOT)
    files = sorted((tmp_path / "runs").iterdir())
    assert len(files) == 3
    before = [file.stat().st_mtime_ns for file in files[1:]]
    files[0].unlink()
    run(source, tmp_path / "out.ipynb", parameters, cwd=ROOT)
    assert files[0].exists()
    assert [file.stat().st_mtime_ns for file in files[1:]] == before
    assert "1 of 1 runs" in (tmp_path / "out.ipynb").read_text()


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


def test_the_alarms_of_the_readme_are_those_it_prints(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # the checkout is not needed
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


def launched(path, theme_options):
    """Addresses of the buttons that the theme puts on a notebook's page."""
    name = f"book/{path.stem}"
    host, owner, repository = theme_options.get("repository_url", "//").rsplit("/", 2)
    context = {
        "pagename": name,
        "sourcename": f"{name}.ipynb",
        "header_buttons": [],
        "github_url": host,
        "github_user": owner,
        "github_repo": repository,
    }
    env = SimpleNamespace(
        doc2path=lambda name: f"{name}.ipynb", metadata={name: {"kernelspec": {}}}
    )
    app = SimpleNamespace(config={"html_theme_options": theme_options}, env=env)
    add_launch_buttons(app, name, "page.html", context, None)
    groups = context["header_buttons"]
    return {button["text"]: button["url"] for group in groups for button in group["buttons"]}


def test_buttons_lead_to_notebooks_of_the_public_repository(monkeypatch):
    config = SimpleNamespace(html_theme_options={"path_to_docs": ""})
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/book")
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    launch.add_buttons(None, config)
    listed = subprocess.run(
        ["git", "ls-files", "book", "environment.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "environment.yml" in listed  # Binder installs it
    for path in NOTEBOOKS:
        urls = launched(path, config.html_theme_options)
        assert urls.keys() == {"Colab", "Binder"}
        colab = "https://colab.research.google.com/github/someone/book/blob/main/"
        binder = "https://mybinder.org/v2/gh/someone/book/main?urlpath=lab/tree/"
        assert urls["Colab"].removeprefix(colab) in listed
        assert urls["Binder"].removeprefix(binder) in listed


def test_there_are_no_buttons_without_a_public_repository(monkeypatch):
    config = SimpleNamespace(html_theme_options={"path_to_docs": ""})
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    launch.add_buttons(None, config)
    assert launched(NOTEBOOKS[0], config.html_theme_options) == {}


@pytest.mark.skipif(not HTML.is_dir(), reason="build the pages: make book")
@by_name
def test_every_chapter_can_be_downloaded_as_a_notebook(path):
    page = (HTML / "book" / f"{path.stem}.html").read_text()
    (link,) = set(re.findall(r'href="([^"]+\.ipynb)"', page)) & {f"../_sources/book/{path.name}"}
    notebook = nbformat.read((HTML / "book" / link).resolve(), as_version=4)
    nbformat.validate(notebook)
    # what a reader gets is what lies in git, and its outputs
    source = nbformat.read(path, as_version=4)
    theirs = [cell.source for cell in notebook.cells]
    assert [cell.source for cell in source.cells if cell.source not in theirs] == []


def test_the_sample_file_is_what_its_script_writes():
    pd.testing.assert_frame_equal(
        pd.read_csv(ROOT / "book" / "_static" / "plant.csv"), plant(), check_dtype=False, atol=2e-3
    )


OF_THE_SAMPLE = {
    "CSV": str(ROOT / "book" / "_static" / "plant.csv"),
    "TIME": "minute",
    "LABELS": "fault",
    "FAST": True,
}


def test_chapter_15_reports_on_a_file(tmp_path):
    run(
        ROOT / "book" / "15_your_own_data.ipynb", tmp_path / "report.ipynb", OF_THE_SAMPLE, cwd=ROOT
    )
    text = (tmp_path / "report.ipynb").read_text()
    assert "Series('plant', train (1100, 8)" in text
    assert text.count("image/png") >= 4


def test_the_page_on_service_takes_a_file(tmp_path):
    run(ROOT / "book" / "in_service.ipynb", tmp_path / "service.ipynb", OF_THE_SAMPLE, cwd=ROOT)
    cells = {
        cell.id: cell for cell in nbformat.read(tmp_path / "service.ipynb", as_version=4).cells
    }
    assert "1 gap" in cells["cse-009"].outputs[0].text


def test_chapter_15_reports_on_a_file_from_an_office_program(tmp_path):
    """Decimal commas, semicolons, days first, a word among the numbers, a gap, and no rows per day."""
    frame = pd.read_csv(ROOT / "book" / "_static" / "plant.csv").drop(columns="fault")
    stamps = pd.date_range("2026-03-28 22:00", periods=len(frame), freq="30s")
    frame.insert(0, "Zeit", stamps.strftime("%d.%m.%Y %H:%M:%S"))
    frame = frame.drop(columns="minute")
    frame.iloc[200:203, 1] = float("nan")
    frame.drop(index=range(500, 520)).to_csv(
        tmp_path / "werk.csv", sep=";", decimal=",", encoding="cp1252", index=False, na_rep="BAD"
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


def public_objects():
    """Classes and functions that a public module names in `__all__`, by their names."""
    found = {}
    for info in pkgutil.walk_packages(madcluster.__path__, "madcluster."):
        if "._" in info.name:
            continue
        module = importlib.import_module(info.name)
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found[f"{info.name}.{name}"] = thing
    return found


def test_every_public_name_has_a_docstring():
    silent = []
    for name, thing in public_objects().items():
        silent += [name] if not inspect.getdoc(thing) else []
        if inspect.isclass(thing):
            silent += [
                f"{name}.{member}"
                for member, value in vars(thing).items()
                if not member.startswith("_")
                and (inspect.isroutine(value) or isinstance(value, property))
                and not inspect.getdoc(getattr(thing, member))
            ]
    assert silent == []


def named_in_the_reference():
    """What book/api.rst documents, as objects."""
    module, found = None, []
    for line in (ROOT / "book" / "api.rst").read_text().splitlines():
        if match := re.match(r"\.\. auto(\w+):: ([\w.]+)", line):
            path, _, name = match[2].rpartition(".")
            module = importlib.import_module(match[2]) if match[1] == "module" else None
            found += [] if module else [getattr(importlib.import_module(path), name)]
        elif (match := re.match(r"   :members:(.*)", line)) and module:
            names = [name.strip() for name in match[1].split(",") if name.strip()]
            found += [getattr(module, name) for name in names or module.__all__]
    return found


def test_every_public_name_is_in_the_reference():
    documented = {id(thing) for thing in named_in_the_reference()}
    assert [n for n, thing in public_objects().items() if id(thing) not in documented] == []


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


@pytest.mark.skipif(not HTML.is_dir(), reason="build the pages: make book")
def test_no_page_names_a_file_of_another_host():
    pages = sorted(HTML.rglob("*.html"))
    assert len(pages) > len(NOTEBOOKS)
    for page in pages:
        parser = Outside()
        parser.feed(page.read_text())
        assert parser.found == [], page.name


@pytest.mark.skipif(not HTML.is_dir(), reason="build the pages: make book")
def test_every_chapter_was_built_with_its_figures():
    for path in CHAPTERS:
        page = (HTML / "book" / f"{path.stem}.html").read_text()
        assert page.count("<img") >= 3
        assert "Traceback" not in page
