# Everything works from a fresh clone, with Python 3.11 or newer and make.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Arguments for pytest, as in: make test ARGS="-k cron -x"
ARGS :=

# The first of these that is new enough, unless PYTHON names one.
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help install run demo demo-sick bench screenshots check inner test test-slow test-lowest test-newest lint format lock wheel clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv with all that running and developing need

run: $(INSTALLED) ## Run the daemon with its embedded database, until Ctrl-C
	@$(BIN)/ayb-jobs --config config.example.toml run

demo: $(INSTALLED) ## Take the tour, on a database that is thrown away
	@$(BIN)/ayb-jobs demo

demo-sick: $(INSTALLED) ## Look at a database in which much is wrong
	@$(BIN)/ayb-jobs demo --sick

bench: $(INSTALLED) ## Measure this machine, on a database that is thrown away
	@$(BIN)/ayb-jobs bench

# With FOLDER=shots, every page at every width, light and dark, into that folder.
FOLDER :=
screenshots: $(INSTALLED) ## Take the pictures of the dashboard anew
	@$(BIN)/python docs/pictures/dashboard.py $(FOLDER)

check: $(INSTALLED) ## The inner loop, under a minute: format, lint, types, and the tests that need no database
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint inner

inner: $(INSTALLED)
	$(BIN)/pytest -q -m "not slow" --without-database $(ARGS)

test: $(INSTALLED) ## Run the whole test suite
ifdef ARGS
	$(BIN)/pytest -m "not slow" $(ARGS)
else
	@$(BIN)/python tests/side_by_side.py
endif

test-slow: $(INSTALLED) ## Run the long tests
	$(BIN)/pytest -m slow $(ARGS)

# What the two below run: for each library the tests of what we use of it.
SMALL := tests/config/test_config.py tests/model/test_values.py tests/model/schedules/test_cron.py tests/logs/test_logs.py \
	tests/storage/test_database.py tests/runtime/test_notifier.py tests/http/routes/test_graphql.py \
	"tests/storage/queue/test_leasing.py::test_settling_writes_the_job_and_its_execution" \
	"tests/storage/queue/test_leasing.py::test_many_leasers_never_share_a_job" \
	"tests/http/routes/test_metrics.py::test_run_times_and_waits_are_histograms_in_seconds" \
	"tests/http/routes/test_metrics.py::test_openmetrics_is_served_to_whoever_prefers_it" \
	"tests/http/routes/test_health.py::test_a_probe_tells_what_is_wrong_what_it_means_and_what_to_do" \
	"tests/cli/test_program.py::test_every_command_has_its_line_of_help" \
	"tests/cli/test_program.py::test_common_options_may_stand_anywhere" \
	"tests/cli/test_jobs_commands.py::test_an_empty_list_says_what_to_do_next" \
	"tests/daemon/test_daemon.py::test_a_handlers_ending_decides" \
	"tests/daemon/test_daemon.py::test_a_notification_wakes_an_idle_daemon"
LOWEST := .venv-lowest
NEWEST := .venv-newest

test-lowest: $(INSTALLED) ## Run a part of the tests with the oldest versions that pyproject.toml allows
	@$(BIN)/python -m venv --without-pip $(LOWEST)
	@$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --extra all --resolution lowest-direct --output-file $(LOWEST)/lowest.txt
	@$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --constraint $(LOWEST)/lowest.txt --group test --editable .
	$(LOWEST)/bin/python -m pytest -q -m "not slow" $(or $(ARGS),$(SMALL))

# Nothing is run where no newer Python is found, and that is said.
test-newest: $(INSTALLED) ## Run a part of the tests on the newest Python that this machine has
	@newest=$$($(BIN)/python tests/newest_python.py) || exit 0; \
	$$newest -m venv --without-pip $(NEWEST) && \
	$(BIN)/uv pip install --quiet --python $(NEWEST)/bin/python --constraint requirements.lock --group test --editable . && \
	$(NEWEST)/bin/python -m pytest -q -m "not slow" $(or $(ARGS),$(SMALL) \
	tests/acceptance/test_life_and_death.py::test_sigterm_under_load_uses_up_no_attempt)

lint: $(INSTALLED) ## Check style, types, and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@command -v node >/dev/null || echo "left out: pyright, which checks that no SQL is put together at run time, needs Node"
	@! command -v node >/dev/null || $(BIN)/pyright
	$(BIN)/lint-imports

format: $(INSTALLED) ## Put the code into its one format
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

lock: $(INSTALLED) ## Write requirements.lock anew: the versions that make install takes
	@echo "-e .[all]" | $(BIN)/uv pip compile - --quiet --upgrade --universal --python-version 3.11 \
		--group dev --group postgres --no-emit-package ayb-jobs --no-annotate \
		--custom-compile-command "make lock" --output-file requirements.lock

wheel: $(INSTALLED) ## Build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## Remove what was made, except the embedded database in .ayb-jobs/
	rm -rf $(VENV) $(LOWEST) $(NEWEST) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that a stopped run left unfinished, or that was moved, is made anew.
# Installing groups needs pip 25.1; one that is new enough stays as it is.
$(INSTALLED): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "ayb-jobs needs Python 3.11 or newer; name one with: make install PYTHON=…" >&2; exit 1; }
	@echo "Installing into $(VENV) (the first time takes about a minute) …"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock \
		--group dev --editable .
	@touch $@
