# make book   the whole book: every notebook executed, strict HTML in _build/html, pages measured;
#             a notebook that was executed before is kept where nothing that it reads has changed;
#             and, where there is chromium, the same as EPUB and PDF, which the first page links to
# make epub   the pages of the last `make book` as EPUB; make pdf: that, and its pages as PDF
# make test   lint, types, tests
# make machines   notebooks and tests as on other processors: a table, chapter x machine
# make mutants   do the tests notice small changes of the method and the metrics? writes book/results
# make links  ask every other host that the built book links to; needs the network
# make lab    JupyterLab on the notebooks
# make benchmark   timings of the package against its peers; writes book/results
# make runs   the runs of chapters 13 and 14, hours of two cores; goes on where it was stopped
# make clean  remove what was built (not the environment; `make distclean` does)

# PYTHON ?= the first of python3, python3.13, python3.12, python3.11 that will do: see .ci/python
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2

# one thread a process: two busy OpenMP pools on two cores mislead each other tenfold
export OMP_NUM_THREADS ?= 1
export MADCLUSTER_PROGRESS ?= 0

.PHONY: book epub pdf test machines mutants links lab benchmark runs clean distclean

book: $(VENV)/.installed
	rm -rf _build/html
	$(BIN)/python book/execute.py _build/stage --jobs $(JOBS)
	$(BIN)/jupyter-book build _build/stage --path-output . -W -n --keep-going -q
	if command -v chromium; then $(MAKE) pdf; else echo "no EPUB and no PDF: install chromium"; fi
	$(BIN)/python book/audit.py _build/html
	@echo "open _build/html/index.html"

epub:
	rm -rf _build/epub
	$(BIN)/jupyter-book build _build/stage --path-output . -W --keep-going -q \
		--builder custom --custom-builder epub
	mkdir -p _build/html && cp _build/epub/madcluster.epub _build/html/

pdf: epub
	$(BIN)/python book/pdf.py _build
	cp _build/madcluster.pdf _build/html/

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m pytest -n $(JOBS)

machines: $(VENV)/.installed
	$(BIN)/python book/machines.py --jobs $(JOBS) $(MACHINES)

mutants: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --target _build/mutants cosmic-ray==8.7.0
	$(BIN)/python benchmarks/mutants.py

links: _build/stage
	$(BIN)/jupyter-book build _build/stage --path-output . --builder linkcheck

lab: $(VENV)/.installed
	MADCLUSTER_PROGRESS=1 $(BIN)/jupyter lab book

benchmark: $(VENV)/.installed
	for name in fit metrics embedders heads runner functions_speed; do $(BIN)/python benchmarks/$$name.py || exit 1; done

runs: $(VENV)/.installed
	$(BIN)/python benchmarks/grid.py --jobs $(JOBS)

$(VENV)/.installed: requirements.txt requirements-no-deps.txt pyproject.toml
	python=$$(.ci/python $(PYTHON)) && "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-no-deps.txt -e .
	touch $@

clean:
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis

distclean: clean
	rm -rf $(VENV) *.egg-info
