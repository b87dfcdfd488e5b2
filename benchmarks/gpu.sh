#!/usr/bin/env bash
# What this project does on one GPU, measured in under ten minutes. Prints Markdown to paste, writes gpu.json.
#
#   bash benchmarks/gpu.sh [--out FOLDER] [--parts card train-xlm-r-large ...] [--minutes 9.5]
#   bash benchmarks/gpu.sh --tiny     # the same in small, on a CPU: does it run?
#
# It needs the environment of `make install` (another one: PY=python bash benchmarks/gpu.sh), 12 GiB of disk and
# no network. All arguments: bash benchmarks/gpu.sh --help
cd "$(dirname "$0")/.." || exit
export HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore
exec "${PY:-.venv/bin/python}" benchmarks/gpu.py "$@"
