# make learn    install what a learner needs and run every script in order
# make test     install what the tests need as well and run them on Milvus Lite and a real server
# make server   start a local Milvus server in the background, without Docker
# make stack    start Milvus in Docker and wait until it is ready
# make demo     open the searches of step 3 as a web page at http://127.0.0.1:8501
# make lint     check the code with ruff
# make clean    remove the virtual environment, caches and what the scripts wrote

PYTHON ?= python3
# The index PyTorch is taken from; https://download.pytorch.org/whl/cpu has the small CPU build.
TORCH_INDEX ?=
TOUR_ARGS ?=
DEMO_ARGS ?=
PYTEST_ARGS ?=

BIN := .venv/bin
TOO_OLD := Python 3.11 or newer is needed; name one with: make PYTHON=python3.12
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: learn test lint demo server stack clean help

learn: .venv/installed-learn
	$(BIN)/python -m common.tour $(TOUR_ARGS)

test: .venv/installed-test
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: .venv/installed-test
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

demo: .venv/installed-demo
	$(BIN)/python step03_use_cases/demo/app.py $(DEMO_ARGS)

server: .venv/installed-test
	$(BIN)/python -m common.local_server start

stack:
	docker compose up -d --wait

clean:
	rm -rf .venv .cache out

help:
	@sed -n 's/^# make/make/p' Makefile

# Each stamp is newer than what it was made from, so a second run installs nothing.
.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(TOO_OLD)"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed-learn: requirements.txt constraints.txt pyproject.toml | .venv/python
	$(if $(TORCH_INDEX),$(BIN)/pip install -q "$$(grep -o '^torch==[^ ;]*' requirements.txt)" --index-url $(TORCH_INDEX))
	$(BIN)/pip install -q -r requirements.txt
	@touch $@

.venv/installed-demo: requirements-demo.txt .venv/installed-learn
	$(BIN)/pip install -q -r requirements-demo.txt
	@touch $@

.venv/installed-test: requirements-dev.txt requirements-demo.txt .venv/installed-learn
	$(BIN)/pip install -q -r requirements-dev.txt
	@touch $@
