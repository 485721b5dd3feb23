# SPDX-License-Identifier: MIT
# A thin front: Meson does the work. `make help` lists what there is.

BUILD  ?= build
PREFIX ?= /usr/local
DESTDIR ?=

.DEFAULT_GOAL := all
# What it builds is up to ninja.
.PHONY: build-compare
.PHONY: all setup demo test test-deep sanitize sanitize-address sanitize-thread valgrind bench compare figures install clean help

all: ## build everything into ./build
	@command -v meson >/dev/null && command -v ninja >/dev/null || \
		{ echo "make: meson and ninja are missing; scripts/setup installs them" >&2; exit 1; }
	@test -f $(BUILD)/build.ninja || { echo "make: configuring $(BUILD)"; meson setup $(BUILD) --prefix='$(PREFIX)'; }
	@echo "make: building in $(BUILD)"
	@ninja -C $(BUILD)

setup: ## install the Debian packages that are missing
	@scripts/setup

# Packages before the build, also under make -j.
demo: setup ## install what is missing, build, and run the tour
	@$(MAKE) --no-print-directory all
	@echo "make: running the tour"
	@$(BUILD)/cli/naru tour

test: setup ## install what is missing, build, and run the tests
	@$(MAKE) --no-print-directory all
	@echo "make: running the tests"
	@scripts/test $(BUILD)

test-deep: setup ## the long searches: NARU_BUDGET_S seconds in all (600), from NARU_SEED
	@$(MAKE) --no-print-directory all
	@echo "make: running the deep tests"
	@scripts/test-deep $(BUILD)

sanitize: ## the tests under the address, undefined-behaviour and thread sanitizers
	@status=0; for kind in address thread; do \
		$(MAKE) --no-print-directory sanitize-$$kind || status=1; done; exit $$status

sanitize-address: setup
	@scripts/test-sanitized address

sanitize-thread: setup
	@scripts/test-sanitized thread

valgrind: ## the tests under valgrind
	@scripts/setup --with-checks
	@$(MAKE) --no-print-directory all
	@echo "make: running the tests under valgrind"
	@scripts/test $(BUILD) --setup valgrind

bench: setup ## build and run the benchmarks, one after another
	@$(MAKE) --no-print-directory all
	@echo "make: running the benchmarks"
	@meson test -C $(BUILD) --benchmark --verbose

# Apart from the build directory of the tests, which know nothing of other libraries.
build-compare:
	@scripts/setup --with-peers
	@test -f build-compare/build.ninja || meson setup build-compare -Dpeers=enabled -Dtests=false -Dexamples=false -Dmanual=disabled
	@echo "make: building in build-compare"
	@ninja -C build-compare

compare: setup ## naru bench beside ZeroMQ, nng, iceoryx, libqb, Concurrency Kit and Boost, and naru httpd beside nginx, lighttpd and Apache; installs them
	@$(MAKE) --no-print-directory build-compare
	@echo "make: running the comparison"
	@scripts/compare build-compare
	@scripts/compare-web build-compare

figures: setup ## the table of goals for shared memory: measured, wanted, met or not
	@$(MAKE) --no-print-directory build-compare
	@echo "make: measuring"
	@scripts/compare build-compare --figures

install: all ## install under PREFIX (/usr/local), below DESTDIR
	@echo "make: installing under $(DESTDIR)$(PREFIX)"
	@meson configure $(BUILD) -Dprefix='$(PREFIX)'
	@meson install -C $(BUILD) $(if $(DESTDIR),--destdir '$(abspath $(DESTDIR))')
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

clean: ## remove the build directories
	@echo "make: removing $(BUILD), build-asan, build-tsan and build-compare"
	@rm -rf $(BUILD) build-asan build-tsan build-compare

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
