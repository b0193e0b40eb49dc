# Thin faces over meson: `make`, `make demo`, `make test` are all a newcomer needs.
BUILD := build
RELEASE := $(BUILD)/release
EVERYDAY := $(BUILD)/everyday
FUZZ := $(BUILD)/fuzz
PREFIX ?= /usr
FUZZ_SECONDS ?= 60
WERROR := $(if $(CI),-Dwerror=true,)

.PHONY: all demo test test-cluster bench fuzz lint image coverage install clean packages

all: $(RELEASE)/build.ninja
	@ninja -C $(RELEASE)

demo: all
	@tools/demo $(RELEASE)/tranche

# The everyday build has sanitizers; the optimised one runs the tests that load foreign libraries
# once more, and clang has a look at everything and lends its fuzzers for a moment.
test: $(EVERYDAY)/build.ninja
	@tools/run-tests $(BUILD)

# A real Kubernetes on this machine, in namespaces of its own: tests/cluster/README.md.
test-cluster: image
	@tools/install-packages cluster
	@tests/cluster/run

bench: all
	@tools/install-packages build test
	@tools/bench $(RELEASE)

fuzz: $(FUZZ)/build.ninja
	@ninja -C $(FUZZ)
	@tools/fuzz $(FUZZ) $(FUZZ_SECONDS)

lint:
	@tools/install-packages lint
	@tests/lint/all.sh

# Container images, in build/image, without Docker: tools/image --help says more.
image: all
	@tools/install-packages build image
	@tools/image $(RELEASE) $(BUILD)/image

coverage:
	@tools/install-packages build test coverage
	@meson setup $(BUILD)/coverage -Db_coverage=true -Dtests=true --buildtype=debug >/dev/null 2>&1 || true
	@ninja -C $(BUILD)/coverage
	@meson test -C $(BUILD)/coverage --print-errorlogs --no-rebuild
	@gcovr --root . --filter src/ --object-directory $(BUILD)/coverage --print-summary --html-details $(BUILD)/coverage/report.html

install: all
	@DESTDIR="$(DESTDIR)" meson install -C $(RELEASE) --no-rebuild --quiet

clean:
	rm -rf $(BUILD)

$(RELEASE)/build.ninja: tools/packages.txt
	@tools/install-packages build
	@test -f $@ || tools/configure $(RELEASE) --buildtype=release -Doptimization=2 -Dtests=false --prefix=$(PREFIX) $(WERROR)
	@touch $@

$(EVERYDAY)/build.ninja: tools/packages.txt
	@tools/install-packages build test
	@test -f $@ || tools/configure $(EVERYDAY) -Db_sanitize=address,undefined $(WERROR)
	@touch $@

$(FUZZ)/build.ninja: tools/packages.txt
	@tools/install-packages build test
	@test -f $@ || CC=clang-14 tools/configure $(FUZZ) -Dfuzz=true -Dtests=false -Db_sanitize=address,undefined -Db_lundef=false $(WERROR)
	@touch $@
