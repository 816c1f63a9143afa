# The first one that works; ensurepip, because Debian's Python has no venv without its package.
USABLE := import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
FOUND = $(shell for name in $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python); do \
	$$name -c '$(USABLE)' > /dev/null 2>&1 && echo $$name && break; done)
BIN := .venv/bin
PINS := .venv/constraints.txt
EVERYTHING := dev,docs,joblib
CLUSTER_EXTRAS := ray,slurm,postgres
CLUSTER_PACKAGES := slurmctld slurmd slurm-client slurmdbd munge mariadb-server iproute2 postgresql
EACH_CORE := --numprocesses auto --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-all test-cluster bench-cluster cluster-packages fuzz kills mutants browser lint docs ui bench gpu

help: ## list these targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

demo: .venv/installed ## train and score a small ensemble on the SYNTHETIC demo database; TORCH=cpu installs torch for CPUs
	$(BIN)/python train.py experiment=demo

test: .venv/installed ## the tests, 4 minutes on two quiet cores (on real recordings too, where LUNGSOUND_REAL_DATA has them)
	$(BIN)/pytest $(EACH_CORE) -m "not slow and not long and not browser and not gpu and not cluster"

test-slow: .venv/installed ## those that take seconds each, as whole studies do: 5 minutes more
	$(BIN)/pytest $(EACH_CORE) -m "slow and not long and not browser and not gpu and not cluster"

test-all: .venv/installed ## both and the long ones, an hour at most; writes the figures of docs/reliability.md
	$(BIN)/pytest $(EACH_CORE) -m "not browser and not gpu and not cluster" --junitxml=.venv/test-all.xml; code=$$?; \
	PYTHONPATH=tests $(BIN)/python tests/robustness/reliability.py .venv/test-all.xml && exit $$code

cluster-packages:
	dpkg -s $(CLUSTER_PACKAGES) > /dev/null 2>&1 || { apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(CLUSTER_PACKAGES); } > /dev/null

# Root's, as Slurm is, and where there is only the loopback, so that nothing of it can be reached from outside.
ON_LOOPBACK = PATH="$(CURDIR)/.venv/cluster/bin:$$PATH" OMP_NUM_THREADS=1 unshare --net sh -c 'ip link set lo up && \
    ip address add 10.0.0.1/32 dev lo && exec "$$0" "$$@"'

test-cluster: .venv/cluster/installed cluster-packages ## a real Slurm, Ray and PostgreSQL on this machine, as root on Debian; 10 minutes
	$(ON_LOOPBACK) python -m pytest -m cluster tests/cluster

bench-cluster: .venv/cluster/installed cluster-packages ## what launchers and MLflow's stores cost, in docs/clusters.md; 20 minutes on a quiet machine
	PYTHONPATH=$(CURDIR):tests $(ON_LOOPBACK) python benchmarks/clusters.py

fuzz: .venv/installed ## N generated bad inputs (20000 by default, within an hour), from SEED
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/robustness/fuzz.py --inputs $(or $(N),20000) --seed $(or $(SEED),0) --write

kills: .venv/installed ## kill commands at N random moments (100 by default; -9), start them again, compare every bit
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/robustness/kill_commands.py moments --number $(or $(N),100) --write \
	    --commands run,sweep,redo-run,redo-sweep

mutants: .venv/installed ## change constants and wires one by one: the tests must notice each
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/robustness/mutants.py --write

browser: .venv/installed ## MLflow's pages in Debian's chromium, and the docs' pictures of them
	LUNGSOUND_PICTURES=$(CURDIR)/docs/images $(BIN)/pytest -m browser

lint: .venv/installed ## ruff, formatting, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/installed ## the documentation as a site: site/index.html
	$(BIN)/mkdocs build --strict

ui: .venv/installed ## browse the runs at http://127.0.0.1:5000; of MLFLOW_TRACKING_URI, if it is a database
	@case "$$MLFLOW_TRACKING_URI" in http*|databricks*) echo "MLFLOW_TRACKING_URI is a server: its page is there"; exit 1;; esac
	MLFLOW_BACKEND_STORE_URI="$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" $(BIN)/mlflow ui --host 127.0.0.1

bench: .venv/installed ## ratios with their goals, in benchmarks/results.md; 20 minutes on a quiet machine
	$(BIN)/python benchmarks/bench.py
	cat benchmarks/results.md

gpu: ## on a GPU: its tests and what training costs there; GPU_PYTHON has torch, WHEELS what else is missing
	$(or $(GPU_PYTHON),$(BIN)/python) benchmarks/gpu.py --output benchmarks/gpu.md $(if $(WHEELS),--wheels $(WHEELS))

# torch comes first and by itself: pip then keeps what it finds, also where it comes from a disk.
# TORCH=cpu: the newest of the index's wheels for CPUs, such as 2.13.0+cpu, in place of the pinned version; without the
# tests' packages, of which torchaudio and timm's torchvision need the CUDA build.
.venv/installed: pyproject.toml constraints.txt
	@test -n "$(FOUND)" || { echo "$(or $(PYTHON),The PATH) has no Python 3.11 to 3.13 with venv." \
	    "Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(FOUND) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
ifeq ($(TORCH),cpu)
	@cpu=$$($(BIN)/pip index versions torch | grep -oE '2\.1[1-4]\.[0-9]+\+cpu' | head -n 1); \
	test -n "$$cpu" || { echo "TORCH=cpu: expected torch 2.11 to 2.14 for CPUs in pip's index, but it has none." \
	    "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu names one that has" >&2; exit 1; }; \
	sed "s/^torch==.*/torch==$$cpu/" constraints.txt > $(PINS)
else
	cp constraints.txt $(PINS)
endif
	$(BIN)/pip install --quiet --constraint $(PINS) torch
	$(BIN)/pip install --quiet --constraint $(PINS) --editable '.[$(if $(filter cpu,$(TORCH)),joblib,$(EVERYTHING))]'
	touch $@

# Ray's plugin needs an older cloudpickle than joblib: an environment above the other one, with all of its packages.
.venv/cluster/installed: .venv/installed
	$(BIN)/python -m venv .venv/cluster
	echo "import site; site.addsitedir('$$(ls -d $(CURDIR)/.venv/lib/python*/site-packages)')" \
	    > $$(ls -d .venv/cluster/lib/python*/site-packages)/above.pth
	.venv/cluster/bin/pip install --quiet --editable '.[$(CLUSTER_EXTRAS)]'
	touch $@
