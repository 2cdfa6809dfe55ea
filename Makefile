# Everything a developer does here. `make help` lists the targets.
SHELL := /bin/bash
export CGO_ENABLED ?= 0

GOLANGCI_LINT_VERSION := v2.15.0
FUZZTIME ?= 5s

.PHONY: help build test unit system lint tools fuzz bench bench-log bench-log-short bench-plugins bench-short docs cross clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

build: ## build ./bin/millrace, a static binary
	go build -trimpath -o bin/millrace ./cmd/millrace

test: tools unit system fuzz ## install what the tests need, then run them all

unit: ## unit, model, conformance and simulation tests, with the race detector
	CGO_ENABLED=1 go test -race -timeout 12m ./...

system: build ## the real binary against real clients
	cd test && BROKER_UNDER_TEST=$(CURDIR)/bin/millrace go test -timeout 14m ./...

tools: ## install the clients that the system tests drive, where possible
	@test/install.sh

lint: ## golangci-lint, with the module's own settings
	@command -v golangci-lint >/dev/null || test -x "$$(go env GOPATH)/bin/golangci-lint" || \
		go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	PATH="$$PATH:$$(go env GOPATH)/bin" golangci-lint run ./...
	cd test && PATH="$$PATH:$$(go env GOPATH)/bin" golangci-lint run -c ../.golangci.yml ./...

fuzz: ## run each fuzz target for FUZZTIME (default 5s)
	@test/fuzz.sh $(FUZZTIME)

bench: ## benchmarks beside their ceilings; see docs/performance.md
	cd test && go run ./bench

bench-log: ## what concerns large logs, many partitions, compaction; needs 20 GB of disk and 15 minutes
	MILLRACE_BENCH_GB=50 go test -run '^$$' -bench 'AppendRatio|GroupCommit|LookUpScale|Recovery' -timeout 30m ./storage/mmap
	go test -run '^$$' -bench Clean -benchtime 3x ./core/compact
	cd test && go run ./bench -scale

bench-log-short: ## the same, small: to see that they run
	MILLRACE_BENCH_GB=2 go test -run '^$$' -bench 'AppendRatio|GroupCommit|LookUpScale|Recovery' -benchtime 1x ./storage/mmap
	cd test && go run ./bench -scale -rounds 1 -partitions 500 -volume 268435456 -produces 200

bench-plugins: ## plugins beside what runs in the process, and a bare round trip; see docs/performance.md
	go test -run '^$$' -bench . -count 3 ./plugins/host

bench-short: ## each Go benchmark once, to see that they run
	go test -run '^$$' -bench . -benchtime 1x ./...
	cd test && go run ./bench -scale -rounds 1 -partitions 100 -volume 67108864 -produces 50

docs: ## write the generated pages of docs/ again
	go test ./core/config ./core/telemetry -update
	cd test && go test ./clients -run TestClients -update

cross: ## see that it builds where it does not live
	GOOS=linux GOARCH=arm64 go build ./... 
	GOOS=darwin GOARCH=arm64 go build ./...

clean:
	rm -rf bin millrace-data
