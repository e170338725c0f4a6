# Two commands: `make demo` and `make test`. Both install what is missing first; a second call is quick.
PYTHON ?= python3
BIN := .venv/bin
export FEDCELL_CACHE ?= $(CURDIR)/.cache

DEBIAN := mininet iproute2 bridge-utils iputils-ping iperf3 ethtool util-linux kmod user-mode-linux \
          gcc libc6-dev python3-dev python3-venv
# Where no NVIDIA driver answers, torch's CPU build: the default one brings gigabytes of CUDA.
TORCH := $(shell nvidia-smi >/dev/null 2>&1 && echo 2.13.0 || echo 2.13.0+cpu)
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: demo test check setup debian browser peers clean

demo: setup
	@# A run whose timing cannot be trusted (exit 1) still has a training to look at.
	$(BIN)/fedcell run experiments/configs/cell.yaml; status=$$?; test $$status -le 1 || exit $$status; \
	$(BIN)/fedcell evaluate runs/latest && exit $$status

# What measures links needs the machine for itself; the rest takes two processes.
test: setup browser check
	$(BIN)/python -m pytest -n 2 -m "not alone"
	$(BIN)/python -m pytest -m alone --durations=20

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: debian .venv/.installed
	@$(BIN)/python -m client.diffusion.data
	@$(BIN)/python -m experiments.report.libraries

debian:
	@missing=$$(for p in $(DEBIAN); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	command -v npm >/dev/null || missing="$$missing npm"; \
	test -z "$$missing" && exit 0; \
	echo "installing Debian packages:" $$missing; \
	sudo=$$(test $$(id -u) = 0 || echo sudo); \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing

# What looks at reports. Where it is no package (Ubuntu has it as a snap), Chrome will do.
browser:
	@for name in chromium google-chrome chromium-browser; do command -v $$name >/dev/null && exit; done; \
	$(MAKE) --no-print-directory debian DEBIAN=chromium

.venv/.installed: pyproject.toml constraints.txt $(wildcard emulation/*.c emulation/*.h)
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt setuptools wheel
	$(BIN)/pip install --quiet --constraint constraints.txt "torch==$(TORCH)" 2>/dev/null \
	  || $(BIN)/pip install --quiet --constraint constraints.txt "torch==$(TORCH)" --extra-index-url $(TORCH_CPU_INDEX)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,ray]'
	@touch $@

# Flower, for `fedcell bench transport --peers` and nothing else.
PEERS := experiments/bench/peers/constraints.txt
peers: .peers/.installed

.peers/.installed: $(PEERS)
	$(PYTHON) -m venv .peers
	.peers/bin/pip install --quiet --constraint $(PEERS) flwr
	@touch $@

proto/federation_pb2.py: proto/federation.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. $<

clean:
	rm -rf .venv .peers build *.egg-info emulation/*.so
