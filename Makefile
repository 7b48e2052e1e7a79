# For everyone who works on the code; `make` alone lists what there is.

PYTHON ?= python3
# Further words for pytest: make test PYTEST="-k hotplug"
PYTEST ?=
# What runs files of tests beside one another. Not all of the system tests bear that: some see the devices of all.
SIDE_BY_SIDE := --numprocesses=logical --maxprocesses=4 --dist=loadfile
PIP_CONSTRAINTS ?= --constraint packaging/constraints.txt

BIN := .venv/bin
MANUAL := $(patsubst packaging/man/%.scd,build/man/%,$(wildcard packaging/man/*.scd))

# What somebody set for himself, such as PYTHONUNBUFFERED, must not hide what everybody else meets. The tests go through
# other languages by themselves.
$(foreach name,$(filter PYTHON% LANG LANGUAGE LC_%,$(.VARIABLES)),$(eval unexport $(name)))

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick test-fresh test-vm crash fuzz scale soak venv lint format man deb clean

help: ## list these words
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand --tabs=19

demo: venv ## show the main job on real files and real block devices (as root; else with folders)
	@packaging/prepare.sh demo
	@$(BIN)/python packaging/demo/demo.py

test: venv build/distbackup/complete ## run everything: linters, import contracts, unit, contract and system tests
	@packaging/prepare.sh test
	$(BIN)/pytest --durations=10 $(PYTEST)

test-quick: venv ## run the unit tests and a day of dsb, for which little has to be installed
	@packaging/prepare.sh unit
	$(BIN)/pytest $(SIDE_BY_SIDE) tests/unit tests/system/test_surroundings.py $(PYTEST)

# What to make there: make test-fresh FRESH=demo
FRESH ?= test
test-fresh: ## run everything on a Debian with nothing but git, make and python3 in it: what is committed (as root)
	@packaging/prepare.sh fresh
	@tests/bed/fresh-machine make --no-print-directory $(FRESH) PYTEST='$(PYTEST)'

# So many disks pulled out and so many power cuts, at other moments with another seed: make test-vm ROUNDS=60 SEED=2
ROUNDS ?= 20
SEED ?= 1
test-vm: venv ## run what needs real USB disks, in a virtual machine (as root; an hour where there is no KVM)
	@packaging/prepare.sh test vm
	@$(BIN)/python -m tests.vm.image
	DISTBACKUPD_ROUNDS=$(ROUNDS) DISTBACKUPD_SEED=$(SEED) $(BIN)/pytest --verbose --capture=no --timeout=900 -o tmp_path_retention_policy=failed tests/vm $(PYTEST)

# So many cuts; other ones with another SEED; one that lost something alone: make crash CUT=build/crash/failed/...
CUTS ?= 10000
SEED ?= 1
CUT ?=
crash: venv ## cut power, kill and fail at all moments of a whole life, on five file systems (as root; ten minutes)
	@packaging/prepare.sh crash
	@$(BIN)/python -m tests.crash $(if $(CUT),--cut='$(CUT)',--cuts=$(CUTS) --seed=$(SEED))

# So many times as many cases as a run of the tests has: make fuzz FUZZ=500
FUZZ ?= 50
fuzz: venv ## let the fuzzers try far more cases than the tests do (ten minutes)
	@packaging/prepare.sh test
	nice $(BIN)/pytest --fuzz=$(FUZZ) --hypothesis-show-statistics -k fuzz $(PYTEST)

# For so long: make soak SOAK=60m
SOAK ?= 5m
soak: venv ## run the daemon under load and every trouble: nothing is missed, nothing grows (as root; SOAK=60m)
	@packaging/prepare.sh test
	@nice $(BIN)/python -m tests.soak $(SOAK)

# So many small files, once or more often: make scale FILES="100000 1000000"
FILES ?= 100000 200000
scale: venv ## measure what many files cost, and how that grows (a quarter of an hour)
	@packaging/prepare.sh test
	@nice $(BIN)/python -m tests.benchmarks.scale $(FILES)

venv: .venv/complete ## build .venv with dsb and distbackupd in it

# A virtual environment that was moved or half built has no pip that runs; such a one is begun anew.
# The build tools come first and are pinned too, so nothing is built with whatever is newest that day.
.venv/complete: pyproject.toml packaging/constraints.txt
	@packaging/prepare.sh build
	@echo "Building .venv with dsb and distbackupd in it"
	@rm -f $@
	@$(BIN)/pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install -qq $(PIP_CONSTRAINTS) --upgrade hatchling editables setuptools
	@$(BIN)/pip install -qq $(PIP_CONSTRAINTS) --no-build-isolation --editable '.[development]'
	@touch $@

# The program whose place we take, for tests of taking over what it wrote.
build/distbackup/complete: tests/bed/distbackup.txt
	@packaging/prepare.sh build
	@rm -rf build/distbackup
	@$(PYTHON) -m venv build/distbackup
	@build/distbackup/bin/pip install -qq --no-deps --only-binary :all: --requirement tests/bed/distbackup.txt
	@touch $@

lint: venv ## only the linters, the types and the import contracts
	@packaging/prepare.sh test
	$(BIN)/pytest tests/test_linters.py

format: venv ## lay the code out as ruff does, and mend what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

man: $(MANUAL) ## build the manual pages into build/man (see them: man -l build/man/dsb.1)

build/man/%: packaging/man/%.scd
	@packaging/prepare.sh manual
	@mkdir -p build/man
	scdoc < $< > $@ || { rm -f $@; exit 1; }

deb: ## build the Debian package into build/, for the Debian this runs on
	@packaging/build-deb.sh

clean: ## remove what was built: .venv, build/ and caches
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find distbackupd tests packaging -name __pycache__ -type d -prune -exec rm -rf {} +
