# The two doors:
#   make conformance   does this machine's NPU stack train? (an emulated card where there is no NPU)
#                      MARK chooses by markers (pytest.ini has them): make conformance MARK="multi_npu and fp16"
#                      MODEL is a model's directory or config.json: tests its architecture, shrunk, and nothing else
#   make test          the project's own tests, then lint
# and, for the suite itself:
#   make trial         which faults of a card does it catch? FAULTS chooses by ids or families: make trial FAULTS="optimizers,all-*"
#   make mutants       which small changes of its judges do their tests notice? MUTANTS chooses: make mutants MUTANTS="reports.verdict*"
# PYTHON chooses the interpreter (>= 3.10); NPU_EMULATOR_* the emulated cards (emulator/README.md).

PYTHON ?= python3
MARK ?= single_npu
FAULTS ?= *
MUTANTS ?=
VENV := .venv
BIN := $(VENV)/bin

NPU := $(wildcard /dev/davinci[0-9]*)
ifeq ($(NPU),)
# No NPU: the pinned stack in an environment of its own, on the emulator.
REQUIREMENTS := requirements-emulated.txt
VENV_OPTIONS :=
RUN := $(BIN)/python -m emulator
ifneq ($(MARK),single_npu)
# As many emulated cards as any requirement needs, yet no more workers than two cores can feed.
RUN := NPU_EMULATOR_CARDS=$${NPU_EMULATOR_CARDS:-4} $(RUN)
WORKERS := -n 2
endif
else
# An Ascend machine: the user's own torch and torch_npu stay in charge.
REQUIREMENTS := requirements.txt
VENV_OPTIONS := --system-site-packages
RUN :=
endif

.PHONY: conformance test trial mutants lint clean older-stacks
.DELETE_ON_ERROR:

conformance: $(VENV)/installed
	$(RUN) $(BIN)/python -m pytest -m "$(MARK)" --require-npu $(WORKERS) $(if $(MODEL),"--model=$(MODEL)")

test: $(VENV)/installed-for-tests
	$(BIN)/python -m emulator --build
	$(BIN)/python -m pytest meta_tests -n 2
	$(MAKE) --no-print-directory lint

trial: $(VENV)/installed-for-tests
	$(BIN)/python -m meta_tests.trial --faults "$(FAULTS)"

# Each mutant runs in a fork of a process that has imported everything: OpenMP's threads are not forked with it, and without
# plugins pytest starts in a tenth of a second.
mutants: $(VENV)/installed-for-tests
	OMP_NUM_THREADS=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/mutmut run $(foreach name,$(MUTANTS),"$(name)")
	$(BIN)/mutmut results

lint: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'emulator/csrc/*.cpp' 'emulator/csrc/*.h')
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/hadolint docker/*.Dockerfile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "Python >= 3.10 is needed, $$($(PYTHON) --version) found. Choose another: make conformance PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV_OPTIONS) $(VENV) > $(VENV).log 2>&1 || \
	    { cat $(VENV).log; rm -rf $(VENV) $(VENV).log; echo "Could not create $(VENV). On Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	@rm -f $(VENV).log

$(VENV)/installed: $(REQUIREMENTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(REQUIREMENTS)
	@touch $@

# The project's own tests always run on the emulated stack.
$(VENV)/installed-for-tests: requirements-dev.txt requirements-emulated.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/installed

# Each older stack in an environment of its own, on emulated cards; each downloads its own torch (older-stacks/README.md).
# torch_npu itself comes last: some releases ask for a build of torch ("2.9.0+cpu") that not every index has.
STACKS ?= $(basename $(notdir $(wildcard older-stacks/*.txt)))

# A chip on which no release of torch_npu chooses private formats, which the emulator does not have, for convolutions.
OLDER_SOC := Ascend910_9391

older-stacks: $(addprefix older-stack-,$(STACKS))

older-stack-%: .venv-older/%/installed
	NPU_EMULATOR_SOC=$${NPU_EMULATOR_SOC:-$(OLDER_SOC)} .venv-older/$*/bin/python -m emulator pytest -n 1 -m "$(MARK)" --require-npu --run-dir=runs/$*-$$(date -u +%Y%m%dT%H%M%SZ)

.PRECIOUS: .venv-older/%/installed
.venv-older/%/installed: older-stacks/%.txt requirements.txt
	@test -x .venv-older/$*/bin/python || $(PYTHON) -m venv .venv-older/$*
	.venv-older/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	.venv-older/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(subst -,==,$*)
	.venv-older/$*/bin/python -m emulator --build
	@touch $@

clean:
	rm -rf $(VENV) .venv-older runs mutants
