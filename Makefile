# DefectNet from a fresh clone: `make demo` or `make test`, nothing else to install but Python 3.11 or later.
# Every target works from any folder through `make -C`. Another interpreter: `make demo PYTHON=python3.12`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Ray starts its workers, and Ray Serve its proxy, through command lines that do not survive a space in a path.
ifneq ($(words $(CURDIR)),1)
$(error DefectNet cannot run in a folder whose path has a space ($(CURDIR)); move it)
endif

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Newer than the environment's two sources when the environment is complete; an interrupted installation has none.
STAMP := $(VENV)/.complete

# The wheel that carries the weights of NEP89 (GPL-3.0). Its file is read where it lies and never imported, so that the
# wheel comes without its own dependencies, a desktop program's.
NEP89_WHEEL := neptrainkit==2.5.4

# Many small processes: a second thread in each only makes them wait for one another (several times slower).
export OMP_NUM_THREADS ?= 1

.PHONY: help demo pipeline test test-cluster lint lock audit formats docs wheel-test screenshots house bench-potentials \
	bench-sampling bench-physics bench-responses bench-simulate ordered-pairs bench-dataset bench-model bench-comparison bench-comparison-curves bench-asking bench-predictor bench-curves bench-search \
	bench-training \
	bench-limit springs strain bench-hosts bench-check bench-transfer bench-finetune bench-sige bench-alloys-read bench-mgb2 bench-readers bench-score bench-beside \
	bench-page bench-hosts-service \
	bench-serve bench-serve-fuzz bench-faults soak bench-cluster capacity capacity-fleet install clean

help:  ## show this list
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

##@ To begin with

demo: $(STAMP)  ## register, promote and serve the released model, and score the example spectra
	$(RUN) examples/demo.py

pipeline: $(STAMP)  ## the whole chain, small: simulate, train, evaluate, register, promote, serve, score
	$(RUN) examples/pipeline.py

##@ To work on it

test: $(STAMP)  ## run the tests, but those of several nodes
	$(RUN) -m pytest -m "not cluster"

test-cluster: $(STAMP)  ## the tests of several nodes and killed processes (needs root for network namespaces; 20 minutes)
	$(RUN) -m pytest -m cluster tests/cluster

lint: $(STAMP)  ## style, formatting, types and the import rules
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

formats: $(STAMP)  ## docs/formats.md, written from the readers
	$(RUN) benchmarks/formats.py

docs: $(STAMP)  ## the documentation as a site, in runs/site/
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet --config-file configs/docs.yaml

wheel-test: $(STAMP)  ## a wheel in an empty environment: predicting needs neither Ray nor MLflow nor phonopy (minutes)
	$(RUN) benchmarks/predict_only.py

screenshots: $(STAMP)  ## pictures of the page in runs/screenshots/, the main one in docs/ (needs chromium: apt install chromium)
	DEFECTNET_SCREENSHOTS=$(CURDIR)/runs/screenshots $(RUN) -m pytest -q tests/serving/page/test_screenshots.py
	cp runs/screenshots/answer-wide-light.png docs/page.png

house: $(STAMP)  ## modules, imports, circles, sizes, what --help costs, a wheel in an empty environment (minutes)
	$(RUN) benchmarks/house.py

lock: $(STAMP)  ## write deploy/*.lock again, with the sum of every package, after constraints.txt was changed
	$(RUN) deploy/supply_chain.py lock

audit: $(STAMP)  ## check the locks and the image's file, list parts and licences, ask for known vulnerabilities
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[audit]'
	$(RUN) deploy/supply_chain.py audit

##@ Benchmarks of the simulation

# Where the DFT parents lie; the README says where to get them.
PARENTS ?= ../shared/data/phonondb_parents.parquet

bench-potentials: $(STAMP)  ## potentials against DFT force constants (PARENTS=FILE; pip install chgnet sevenn to add them)
	$(RUN) -W ignore benchmarks/potentials.py $(PARENTS)

bench-sampling: $(STAMP)  ## density of states of cubic and of low-symmetry supercells beside the converged one
	$(RUN) benchmarks/sampling.py

bench-physics: $(STAMP)  ## simulated spectra beside DFT alloys, between engines, cells and configurations (an hour)
	$(RUN) -W ignore benchmarks/physics.py $(PARENTS)

# The response library that is looked at.
LIBRARY ?= data/responses

bench-responses: $(STAMP)  ## sources of responses beside end members, cells, concentrations, cost (PARENTS=FILE; an hour)
	$(RUN) -W ignore benchmarks/responses.py $(PARENTS) --library $(LIBRARY)

bench-simulate: $(STAMP)  ## cost of a doped spectrum beside the plain way, and of one and two workers
	$(RUN) -W ignore benchmarks/simulate.py

ordered-pairs: $(STAMP)  ## find the ordered alloys among the parents again (minutes)
	$(RUN) -W ignore benchmarks/ordered_pairs.py $(PARENTS)

springs: $(STAMP)  ## fit the model of a dopant's bonds again and judge it on left-out formulas (PARENTS=FILE; an hour)
	$(RUN) -W ignore benchmarks/springs.py $(PARENTS)

strain: $(STAMP)  ## fit the volumes of atoms again and judge what strain adds to springs on unseen hosts (a minute)
	$(RUN) -W ignore benchmarks/strain.py

bench-dataset: $(STAMP)  ## what data/ holds
	$(RUN) benchmarks/dataset.py data

##@ Benchmarks of the model

bench-model: $(STAMP)  ## the released model, baselines and the precursor on unseen hosts, one table
	$(RUN) -W ignore benchmarks/model.py

bench-comparison: $(STAMP)  ## answers by comparison on unseen hosts, by regime, beside their control and unlearned unmixing
	$(RUN) -W ignore benchmarks/comparison.py

bench-comparison-curves: $(STAMP)  ## answers by comparison against the number of hosts, and without parts of the training (half an hour)
	$(RUN) -W ignore benchmarks/comparison_curves.py

bench-asking: $(STAMP)  ## the released model asked as users ask: spoilt spectra, computed references, pristine crystals
	$(RUN) -W ignore benchmarks/asking.py

bench-predictor: $(STAMP)  ## speed of the predictor on one core: one spectrum at a time, and many without a list
	$(RUN) -W ignore benchmarks/predictor.py

bench-curves: $(STAMP)  ## error on unseen hosts against the number of training hosts and spectra
	$(RUN) -W ignore benchmarks/model_curves.py

bench-search: $(STAMP)  ## the small search behind configs/model.yaml, on validation hosts
	$(RUN) -W ignore benchmarks/model_search.py

bench-training: $(STAMP)  ## training throughput with one worker and two; a killed run resumes to the same weights
	$(RUN) -W ignore benchmarks/model_training.py

bench-limit: $(STAMP)  ## spectra of two dopants of near-equal mass beside the scatter, by the simulator
	$(RUN) -W ignore benchmarks/model_limit.py

bench-hosts: $(STAMP)  ## pristine crystals from elsewhere (NCrystal): is nothing found?
	$(RUN) -W ignore benchmarks/hosts.py

bench-check: $(STAMP)  ## the check by simulation on right and wrong answers (PARENTS=FILE)
	$(RUN) -W ignore benchmarks/check.py $(PARENTS)

bench-transfer: $(STAMP)  ## samples that another potential made, read by the released model (PARENTS=FILE; pip install chgnet sevenn; hours, gone on with)
	$(RUN) -W ignore benchmarks/transfer.py $(PARENTS)

bench-finetune: $(STAMP)  ## what 5, 10 and 20 labelled samples bring their hosts, and others
	$(RUN) -W ignore benchmarks/finetune.py

bench-sige: $(STAMP)  ## a simulated composition series of SiGe as a spectrometer sees it (PARENTS=FILE)
	$(RUN) -W ignore benchmarks/sige.py $(PARENTS)

bench-alloys-read: $(STAMP)  ## ordered alloys of DFT read by the released model (PARENTS=FILE; ten minutes)
	$(RUN) -W ignore benchmarks/alloys_read.py $(PARENTS)

bench-mgb2: $(STAMP)  ## the same of MgB2 with Al and with C
	$(RUN) -W ignore benchmarks/mgb2.py

##@ Benchmarks of reading, scoring and serving

bench-readers: $(STAMP)  ## files as users have them: cases, damaged files, small files read a second
	$(RUN) benchmarks/readers.py

# Rows of each run of bench-score.
ROWS ?= 10000 100000 1000000

bench-score: $(STAMP)  ## batch scoring: rows/s, memory and share of the predictor's own speed (ROWS="10000" for a short one)
	$(RUN) benchmarks/score.py --rows $(ROWS)

bench-page: $(STAMP)  ## the page in a headless browser: flows, console, foreign requests, accessibility (minutes; needs chromium)
	$(RUN) benchmarks/page.py

bench-hosts-service: $(STAMP)  ## a crystal given as a CIF to a first answer; memory of one and of four replicas
	$(RUN) -W ignore benchmarks/hosts_service.py

bench-beside: $(STAMP)  ## latency of the service with and without two large batches beside it
	$(RUN) benchmarks/beside_serving.py

bench-serve: $(STAMP)  ## the service beside MLflow's server, BentoML and plain FastAPI (needs wrk: apt install wrk)
	@command -v wrk >/dev/null || { echo "bench-serve needs the load generator wrk: apt install wrk" >&2; exit 1; }
	$(RUN) benchmarks/serve.py

bench-serve-fuzz: $(STAMP)  ## ten thousand malformed requests: no 5xx, no hang, no leak
	$(RUN) benchmarks/serve_fuzz.py

bench-faults: $(STAMP)  ## processes killed, models promoted and broken, replicas added and removed, under load
	$(RUN) benchmarks/faults.py

# Minutes of the soak.
MINUTES ?= 30

soak: $(STAMP)  ## load, promotions, killed replicas and batches at once: wrong, failed, memory (MINUTES=10 for a short one)
	$(RUN) benchmarks/soak.py --minutes $(MINUTES)

bench-cluster: $(STAMP)  ## what survives which fault, on three nodes (as test-cluster, with the figures written down)
	$(RUN) -m pytest -s -m cluster tests/cluster --cluster-results benchmarks/results/cluster_faults.json

capacity: $(STAMP)  ## nodes, hours and storage of large campaigns, from the measured figures
	$(RUN) benchmarks/capacity.py

capacity-fleet: $(STAMP)  ## how up to a thousand replicas follow a tenfold load, by Serve's own autoscaling decision
	$(RUN) benchmarks/fleet.py

##@ The environment

install: $(STAMP)  ## make .venv with the pinned dependencies (the other targets do it when it is missing)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "DefectNet needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo missing)." \
	       "Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,trace,nep,docs,dev]'
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps $(NEP89_WHEEL)
	@touch $(STAMP)

clean:  ## remove the environment, the caches and what demo and pipeline wrote
	rm -rf $(VENV) runs/demo runs/pipeline .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
