#!/usr/bin/env bash
# The GPU kit on a machine without a network.
#
# On a machine with one, in this repository:       benchmarks/gpu_check_offline.sh fetch WHEELS
# Then carry this repository and WHEELS over, and: benchmarks/gpu_check_offline.sh run WHEELS REPORT
#
# `run` needs an NVIDIA driver, and python3 of the version that fetched. It installs into a folder of its own, and ends
# inside ten minutes on one GPU: `timeout` ends it there, and REPORT holds the steps up to then (the comparison with
# PyTorch comes last). It has not run on a GPU yet.
set -euo pipefail
usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
[ $# -ge 2 ] || usage
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$2"
wheels=$(cd "$2" && pwd)
case $1 in
  fetch)
    python3 -m pip wheel --quiet --no-deps --wheel-dir "$wheels" "$here"
    python3 -m pip download --quiet --dest "$wheels" --find-links "$wheels" 'glass-rt[tensorrt-rtx,cuda,export]'
    echo "$(find "$wheels" -name '*.whl' | wc -l) wheels, $(du -sh "$wheels" | cut -f1)" ;;
  run)
    [ $# -eq 3 ] || usage
    venv=$(mktemp -d)
    trap 'rm -rf "$venv"' EXIT
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --no-index --find-links "$wheels" 'glass-rt[tensorrt-rtx,cuda,export]'
    timeout 600 "$venv/bin/python" -m glass_bench.gpu.check --output "$3" --soak 10000 ;;
  *) usage ;;
esac
