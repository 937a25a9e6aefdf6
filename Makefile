# Two commands do everything: `make demo` and `make test`. Both make a virtual environment first.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
DEMO_CONFIG = configs/sagan/sagan_32_mnist_b64x1.py
DEMO_DIR ?= work_dirs/demo

.PHONY: demo test test-upstream install clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements/lock.txt requirements/tests.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --disable-pip-version-check --quiet $(PIP_ARGS) -r requirements/lock.txt -r requirements/tests.txt
	$(VENV)/bin/pip install --disable-pip-version-check --quiet $(PIP_ARGS) --no-deps --editable .
	touch $@

demo: install
	$(VENV)/bin/python tools/train.py $(DEMO_CONFIG) --work-dir $(DEMO_DIR)

test: install
	$(VENV)/bin/python -m pytest tests

# The same suite under upstream's MMEngine and mmcv, in an environment of its own.
test-upstream: .venv-upstream/.installed
	.venv-upstream/bin/python -m pytest tests

.venv-upstream/.installed: requirements/lock.txt requirements/tests.txt requirements/upstream.txt setup.py
	$(PYTHON) -m venv .venv-upstream
	grep -v '^onedl-' requirements/lock.txt > .venv-upstream/lock.txt
	.venv-upstream/bin/pip install --disable-pip-version-check --quiet $(PIP_ARGS) \
		-r .venv-upstream/lock.txt -r requirements/tests.txt -r requirements/upstream.txt
	.venv-upstream/bin/pip install --disable-pip-version-check --quiet $(PIP_ARGS) --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) .venv-upstream build *.egg-info
