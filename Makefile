# Every target sets up .venv first; nothing but Python >= 3.11 (with venv), git and make is needed.
PYTHON ?= $(shell for python in $$(which -a python3 python3.13 python3.12 python3.11); do \
    $$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
    echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: fraud-acceptance demo test conformance simulate simulate-mutations simulate-scale inventory crash-campaign model-test dynamodb kcl-interop peers check lint types bench lock clean

$(STAMP): pyproject.toml requirements.txt
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 with venv on PATH; install one, or run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "installing into $(VENV), which takes some minutes the first time"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: $(STAMP)
	$(BIN)/streamproc demo $(DEMO_ARGS)

# Most tests wait for servers and processes more than they compute: one worker for each core, which
# is handed test by test, the long ones first (tests/conftest.py), so that all end at one time.
test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses auto --maxschedchunk 1 $(TEST_ARGS)

# The conformance suite against the independent emulator too; needs Node and npm.
conformance: $(STAMP)
	npm install --silent --no-save --no-package-lock --prefix .conformance kinesis-local@0.6.2
	STREAMPROC_KINESIS_LOCAL=$(CURDIR)/.conformance $(BIN)/python -m pytest tests/conformance $(TEST_ARGS)

# Fleets in virtual time (docs/simulation.md); a failing seed prints how to replay it.
SEEDS ?= 20000
simulate: $(STAMP)
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

# How many seeds it takes to find each of the bugs that can be put in.
simulate-mutations: $(STAMP)
	$(BIN)/python -m tests.simulation --mutations --seeds 1000

# The lease layer alone: 10,000 shards on 200 workers.
simulate-scale: $(STAMP)
	$(BIN)/python -m tests.simulation.scale

# Kills worker processes at random instants; RUNS=200 takes some 12 minutes on 2 cores.
RUNS ?= 200
DELIVERIES ?= 1000000
crash-campaign: $(STAMP)
	$(BIN)/python -m tests.campaigns --runs $(RUNS) --deliveries $(DELIVERIES) $(CAMPAIGN_ARGS)

# The lease stores' tests against two more DynamoDB servers, on which racing writers are settled as
# in DynamoDB itself; needs Node and npm. Both stay out of this project's own environment.
dynamodb: $(STAMP)
	npm install --silent --no-save --no-package-lock --prefix .dynamodb dynalite@4.0.0
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .dynamodb/venv
	$(BIN)/uv pip install --quiet --python .dynamodb/venv/bin/python ministack==1.5.33
	STREAMPROC_DYNALITE=$(CURDIR)/.dynamodb STREAMPROC_MINISTACK=$(CURDIR)/.dynamodb/venv \
	    $(BIN)/python -m pytest tests/checkpoints $(TEST_ARGS)

# The inventory's invariants over 10,000 random histories, and 10,000 races of commit and expiry.
inventory: $(STAMP)
	INVENTORY_HISTORIES=$(or $(HISTORIES),10000) \
	INVENTORY_RACES=$(or $(HISTORIES),10000) $(BIN)/python -m pytest --timeout 0 \
	    tests/processors/inventory $(TEST_ARGS)

# The model test looks at so many random histories for each store and number of partitions.
EXAMPLES ?= 1000
model-test: $(STAMP)
	STREAMPROC_MODEL_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/model $(TEST_ARGS)

# A stream handed to and fro between the real KCL 3 and streamproc, and shared by both; needs Java
# (a JDK). KCL's jars and the DynamoDB server stay out of this project's own environment.
kcl-interop: $(STAMP)
	for tool in kclpy-ext==3.1.3.post4 ministack==1.5.33; do \
	    $(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .kcl/$${tool%%==*} && \
	    $(BIN)/uv pip install --quiet --python .kcl/$${tool%%==*}/bin/python $$tool || exit 1; done
	STREAMPROC_KCL=$(CURDIR)/.kcl/kclpy-ext STREAMPROC_MINISTACK=$(CURDIR)/.kcl/ministack \
	    $(BIN)/python -m pytest tests/interop -s $(TEST_ARGS)

# The fraud processor at full size: the published week through the stream, and its speed. With
# REFERENCE_DATA naming the directory of the published files, against them too.
fraud-acceptance: $(STAMP)
	$(BIN)/python -m pytest tests/processors/fraud $(TEST_ARGS)
	$(BIN)/python -m tests.processors.fraud.speed
	$(BIN)/streamproc fraud evaluate
	$(BIN)/streamproc fraud evaluate --shards 4
	$(BIN)/streamproc fraud evaluate --bucketed --duplicates 0.1

# The benchmark's real peers, installed into the user's cache; KCL only where there is a JDK.
peers: $(STAMP)
	STREAMPROC_PEERS=1 $(BIN)/python -m pytest tests/benchmarks/test_peers_real.py $(TEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

bench: $(STAMP)
	$(BIN)/streamproc bench $(BENCH_ARGS)

# Resolves pyproject.toml into hash-checked pins that name no index and no file address.
lock: $(STAMP)
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
	    --output-file requirements.txt

clean:
	rm -rf $(VENV) build dist
