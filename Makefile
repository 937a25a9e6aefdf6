# Two commands do everything: `make demo` and `make test`. Both make a virtual environment first.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
DEMO_CONFIG = configs/sagan/sagan_32_mnist_b64x1.py
DEMO_DIR ?= work_dirs/demo
# Tests run in as many processes, each on one core.
TEST_JOBS ?= 2
PYTEST = -m pytest tests --numprocesses $(TEST_JOBS) --dist worksteal

.PHONY: demo web test test-upstream docs install clean

# $(call install,ENVIRONMENT,LOCK): torch first, with whatever its wheel needs on this machine; then the locked set, which is complete,
# without dependencies, so that opencv-python-headless stays in the place of opencv-python and no system libraries are needed.
define install
	$(1)/bin/pip install --disable-pip-version-check --quiet $(PIP_ARGS) $(shell grep '^torch==' requirements/lock.txt)
	$(1)/bin/pip install --disable-pip-version-check --quiet $(PIP_ARGS) --no-deps -r $(2)
	$(1)/bin/pip install --disable-pip-version-check --quiet $(PIP_ARGS) --editable . --no-deps
endef

install: $(VENV)/.installed

$(VENV)/.installed: requirements/lock.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(call install,$(VENV),requirements/lock.txt)
	touch $@

# Sets of packages that are added to the environment where they are needed.
$(VENV)/.%-installed: requirements/%.txt $(VENV)/.installed
	$(VENV)/bin/pip install --disable-pip-version-check --quiet $(PIP_ARGS) --no-deps -r $<
	touch $@

demo: install
	$(VENV)/bin/python tools/train.py $(DEMO_CONFIG) --work-dir $(DEMO_DIR)

# The web page of what `make demo` has trained.
web: $(VENV)/.demo-installed
	$(VENV)/bin/python tools/web_demo.py $(DEMO_CONFIG) $(DEMO_DIR)/last_checkpoint

docs: $(VENV)/.docs-installed
	$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build

test: $(VENV)/.tests-installed $(VENV)/.demo-installed
	OMP_NUM_THREADS=1 $(VENV)/bin/python $(PYTEST)

# The same suite under upstream's MMEngine and mmcv, in an environment of its own.
test-upstream: .venv-upstream/.installed
	OMP_NUM_THREADS=1 .venv-upstream/bin/python $(PYTEST)

.venv-upstream/.installed: requirements/lock.txt requirements/tests.txt requirements/demo.txt requirements/upstream.txt setup.py
	$(PYTHON) -m venv .venv-upstream
	grep -hv '^onedl-' requirements/lock.txt requirements/tests.txt requirements/demo.txt | cat - requirements/upstream.txt > .venv-upstream/lock.txt
	$(call install,.venv-upstream,.venv-upstream/lock.txt)
	touch $@

clean:
	rm -rf $(VENV) .venv-upstream build docs/_build *.egg-info mmsagan/.mim
