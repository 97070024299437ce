# evmig: repair and migrate the data of live tables
EXTENSION = evmig
MODULE_big = evmig
DATA = evmig--1.0.sql
SCRIPTS = $(sort $(wildcard bin/*))
PGFILEDESC = "evmig - repair and migrate the data of live tables"

SRCS = $(sort $(wildcard src/*.c src/*/*.c))
OBJS = $(SRCS:.c=.o)
HDRS = $(wildcard src/*.h src/*/*.h)

# what users see; each file makes and drops its own tables
REGRESS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS_OPTS = --load-extension=evmig

# two sessions and more: test/specs, test/expected
ISOLATION = $(sort $(patsubst test/specs/%.spec,%,$(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --load-extension=evmig

# crashes, restarts, several servers
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

# what the server is to find is marked, all else stays inside and is called
# straight; so are the server's functions
PG_CPPFLAGS = -I$(srcdir)/src '-DPGDLLEXPORT=__attribute__((visibility("default")))'
PG_CFLAGS = -fvisibility=hidden -fno-plt

# make WERROR=1: warnings are errors, as in CI
ifdef WERROR
PG_CFLAGS += -Werror
endif

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# against a private cluster; see the scripts for what they take
.PHONY: bench
bench:
	bench/fill
	bench/converge
	bench/guard
	bench/kpi
	bench/governor

# a changed header rebuilds everything; the tree is small
$(OBJS): $(HDRS)
