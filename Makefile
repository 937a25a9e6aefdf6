# `make demo` trains the demo, `make test` runs the tests; both create a virtual environment first. The other targets are for
# contributors, see CONTRIBUTING.md.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
DEMO_CONFIG = configs/sagan/sagan_32_mnist_b32x1.py
DEMO_DIR ?= work_dirs/demo
# Number of processes that run tests, each on one core.
TEST_JOBS ?= 2
PYTEST = -m pytest tests --numprocesses $(TEST_JOBS) --dist worksteal
# Environment of `make test-wheel`. For another Python: make test-wheel PYTHON=python3.13 WHEEL_VENV=.venv-wheel-3.13
WHEEL_VENV ?= .venv-wheel
PIP_INSTALL = pip install --disable-pip-version-check --quiet $(PIP_ARGS)
# By a plain path, so that the package is also found from the parent folder of a clone that is called mmsagan.
EDITABLE = --editable . --config-settings editable_mode=compat
PACKAGING = setup.py pyproject.toml
TEST_LOCKS = $(addprefix requirements/,lock.txt tests.txt demo.txt notebook.txt)

.PHONY: demo web test test-upstream test-wheel lint hooks docs install clean

# $(call install,ENVIRONMENT,LOCKS): torch first, with the dependencies of its wheel on this machine; then the locked set, which is
# complete, without dependencies, so that opencv-python-headless replaces opencv-python and no system libraries are needed.
define install
	$(1)/bin/$(PIP_INSTALL) $(shell grep '^torch==' requirements/lock.txt)
	$(1)/bin/$(PIP_INSTALL) --no-deps $(addprefix -r ,$(2))
endef

install: $(VENV)/.installed

$(VENV)/.installed: requirements/lock.txt $(PACKAGING)
	$(PYTHON) -m venv $(VENV)
	$(call install,$(VENV),requirements/lock.txt)
	$(VENV)/bin/$(PIP_INSTALL) --no-deps $(EDITABLE)
	touch $@

# Sets of packages that some targets add to the environment.
$(VENV)/.%-installed: requirements/%.txt $(VENV)/.installed
	$(VENV)/bin/$(PIP_INSTALL) --no-deps -r $<
	touch $@

demo: install
	$(VENV)/bin/python tools/train.py $(DEMO_CONFIG) --work-dir $(DEMO_DIR)
	@echo "what you see:     docs/tutorials/digits.md"
	@echo "in your browser:  make web"

# Web page for the model that `make demo` has trained.
web: $(VENV)/.demo-installed
	$(VENV)/bin/python tools/web_demo.py $(DEMO_CONFIG) $(DEMO_DIR)

# Ruff and mypy, as before every commit (`make hooks`). Ruff fixes what it can, and fails if it did. Then what would be published.
lint: $(VENV)/.lint-installed
	PATH="$(abspath $(VENV))/bin:$$PATH" pre-commit run --all-files --show-diff-on-failure
	rm -rf build/dist
	$(VENV)/bin/python -m build --no-isolation --outdir build/dist . > /dev/null
	$(VENV)/bin/twine check --strict build/dist/*
	$(VENV)/bin/check-wheel-contents build/dist/*.whl

hooks: $(VENV)/.lint-installed
	$(VENV)/bin/pre-commit install

docs: $(VENV)/.docs-installed $(VENV)/.notebook-installed
	$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build
	@echo "open docs/_build/index.html"

test: $(VENV)/.tests-installed $(VENV)/.demo-installed $(VENV)/.notebook-installed
	OMP_NUM_THREADS=1 $(VENV)/bin/python $(PYTEST)

# The tests with upstream's MMEngine and mmcv, in a separate environment.
test-upstream: .venv-upstream/.installed
	OMP_NUM_THREADS=1 .venv-upstream/bin/python $(PYTEST)

.venv-upstream/.installed: $(TEST_LOCKS) requirements/upstream.txt $(PACKAGING)
	$(PYTHON) -m venv .venv-upstream
	grep -hv '^onedl-' $(TEST_LOCKS) | cat - requirements/upstream.txt > .venv-upstream/lock.txt
	$(call install,.venv-upstream,.venv-upstream/lock.txt)
	.venv-upstream/bin/$(PIP_INSTALL) --no-deps $(EDITABLE)
	touch $@

# The wheel as a user gets it: built, installed into a separate environment, and tested by the tests of the source distribution in a
# folder without the package. Tests that build the package are skipped there.
test-wheel: $(WHEEL_VENV)/.installed
	rm -rf dist build/sdist && mkdir -p build/sdist
	$(WHEEL_VENV)/bin/python -m build --outdir dist .
	$(WHEEL_VENV)/bin/$(PIP_INSTALL) --no-deps --force-reinstall dist/*.whl
	tar -xzf dist/*.tar.gz --strip-components 1 -C build/sdist && rm -r build/sdist/mmsagan
	cd build/sdist && $(abspath $(WHEEL_VENV))/bin/mmsagan --version
	cd build/sdist && OMP_NUM_THREADS=1 $(abspath $(WHEEL_VENV))/bin/python $(PYTEST)

$(WHEEL_VENV)/.installed: $(TEST_LOCKS)
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(call install,$(WHEEL_VENV),$(TEST_LOCKS))
	touch $@

clean:
	rm -rf $(VENV) .venv-upstream $(WHEEL_VENV) build dist docs/_build docs/jupyter_execute *.egg-info mmsagan/.mim
