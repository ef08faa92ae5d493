# Each target works alone on a machine with Python 3.11+, git and make: it makes .venv first. `gpu` needs none.

PYTHON ?= python3
ACTIVATE := . .venv/bin/activate
PART ?= check
OUT ?= results/gpu
# the tests of `make test` and `make test-slow`
BOTH := not workflow and not interruption and not cluster and not report and not bench and not tutorial
GLUE_DIR ?= data/glue

# Snakemake does not start without a cache folder; if the home directory cannot be written, it lies beside the environment
CACHE := $(shell cache="$${XDG_CACHE_HOME:-$$HOME/.cache}"; mkdir -p "$$cache" 2>/dev/null; [ -w "$$cache" ] || echo "$(CURDIR)/.venv/cache")
ifneq ($(CACHE),)
export XDG_CACHE_HOME := $(CACHE)
endif

.PHONY: run pdf test test-slow test-workflow test-interruption test-cluster test-report test-bench test-install \
	test-tutorial coverage record sync repair lint docs tiny schema bench gpu-bundle gpu

run: .venv/installed
	$(ACTIVATE) && snakemake --cores all

# the report of the embedded study as a PDF; needs latexmk, pdflatex or tectonic
pdf: .venv/installed
	$(ACTIVATE) && snakemake --cores all render_pdf

# two processes, each of one thread
test: .venv/serve-installed
	$(ACTIVATE) && python -m pytest --numprocesses 2 --dist worksteal

# the tests that `make test` leaves out, since each takes more than five seconds: whole commands in processes of their own
test-slow: .venv/serve-installed
	$(ACTIVATE) && python -m pytest --numprocesses 2 --dist worksteal -m "slow and $(BOTH)"

# what reruns after which change, on copies of the workflow under git and DVC
test-workflow: .venv/installed
	$(ACTIVATE) && python -m pytest -m workflow tests/test_versioning.py tests/test_paper.py tests/test_adding.py \
		tests/test_workflow_plan.py tests/test_stale_results.py tests/test_sources_graph.py

# real runs of a small study, killed at every point and recovered (some six minutes)
test-interruption: .venv/installed
	$(ACTIVATE) && python -m pytest -m interruption tests/test_interruption.py

# the report in a headless Chromium and through TeX, where they are installed (under two minutes)
test-report: .venv/installed
	$(ACTIVATE) && python -m pytest -m "report or not report" tests/test_report.py tests/test_page.py

# whole measurements of the bench, with tiny models
test-bench: .venv/installed
	$(ACTIVATE) && python -m pytest -m bench tests/test_bench.py

# jobs through a real Slurm, which is started here for the tests and stopped again (Linux, as root; about twelve minutes)
test-cluster: .venv/installed
	$(ACTIVATE) && pip install --quiet --constraint constraints.txt --editable ".[study,cluster]"
	$(ACTIVATE) && python -m pytest -m cluster tests/test_cluster.py

# the wheel in new environments, with and without the extra `study`, and without this checkout (some minutes)
test-install:
	PYTHON=$(PYTHON) .ci/test_install

# the commands of docs/tutorial.md as they stand, from a CSV file to a service (some ten minutes)
test-tutorial: .venv/serve-installed
	$(ACTIVATE) && python -m pytest --capture=no -m tutorial tests/test_tutorial.py

# which lines `make test` and `make test-slow` run: a table, and pages in .coverage-html
coverage: .venv/serve-installed
	$(ACTIVATE) && python -m pytest --numprocesses 2 -m "$(BOTH)" --cov --cov-report=term --cov-report=html:.coverage-html

# after a run; after a checkout or dvc pull; where Snakemake's records were lost
record sync repair: .venv/installed
	$(ACTIVATE) && python -m workflow_scripts.versioning $@

lint: .venv/serve-installed
	$(ACTIVATE) && ruff check . && ruff format --check .
	$(ACTIVATE) && snakefmt --check Snakefile rules
	$(ACTIVATE) && snakemake --lint
	$(ACTIVATE) && mypy
	$(ACTIVATE) && lint-imports

# the site of the documentation, into docs/_site; a warning is an error
docs: .venv/docs-installed
	$(ACTIVATE) && sphinx-build --builder html --fail-on-warning --keep-going docs docs/_site

# the embedded study made tiny: the whole workflow on real text and weights, in a few minutes
tiny: .venv/installed
	$(ACTIVATE) && snakemake --cores all --configfile config/tiny.yaml

# the engine at full size, into results/bench: half an hour; leave the machine alone meanwhile
bench: .venv/installed
	$(ACTIVATE) && eat bench engine --mixed-lengths
	$(ACTIVATE) && eat bench growth
	$(ACTIVATE) && eat bench training

# what an offline CUDA image lacks, into .gpu-bundle, which travels with the checkout: docs/gpu.md
gpu-bundle: .venv/installed
	$(ACTIVATE) && python -m workflow_scripts.gpu_bundle --glue-dir $(GLUE_DIR)

# on such an image, with its own Python: make gpu PART=check OUT=folder in three minutes, PART=train in five
gpu:
	$(PYTHON) -m eat.cli gpu $(PART) --out $(OUT)

schema: .venv/installed
	$(ACTIVATE) && python -m eat.study.schema > config/schema.json
	$(ACTIVATE) && python -m eat.study.schema tagging > config/tagging_schema.json

# pip compiles all modules in one process, also the thousands that nothing here imports: 140 of 260 seconds
RARELY_IMPORTED := '/tests?/|/transformers/models/(?!auto/|bert/|distilbert/|roberta/|xlm_roberta/|electra/)'

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(ACTIVATE) && pip install --quiet --no-compile --constraint constraints.txt --editable ".[study,embedded,dev]"
	$(ACTIVATE) && python -m compileall -q -j 0 -x $(RARELY_IMPORTED) .venv/lib || true
	touch .venv/installed

# the server and the search, which a run does not need
.venv/serve-installed: .venv/installed
	$(ACTIVATE) && pip install --quiet --no-compile --constraint constraints.txt --editable ".[serve,tune]"
	touch .venv/serve-installed

.venv/docs-installed: .venv/installed
	$(ACTIVATE) && pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch .venv/docs-installed
