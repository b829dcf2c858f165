#!/usr/bin/env bash
# `make arm-check`: the same bundle and images on 64-bit ARM, emulated, and here: `glass-rt verify` there, and verdicts within
# 1e-5 of this machine's. Needs root, debootstrap and qemu-user-static; takes about an hour, most of it emulated.
#   deploy/check_arm.sh BUNDLE [IMAGE...]
# BUNDLE: for a CPU, such as one of mobilenet_v3_small. IMAGE: what is judged; small ones take seconds.
# FOLDER keeps the Debian for a second run. MIRROR: of Debian, for debootstrap. PYTHON: the one that glass-rt runs on here.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { echo "arm-check: skipped: $*"; exit 0; }
say() { echo "== $* ($((SECONDS / 60)) min)"; }

[ "$(id -u)" = 0 ] || skip "it needs root, for a chroot"
command -v debootstrap >/dev/null || skip "debootstrap is not installed (apt-get install debootstrap)"
qemu=$(command -v qemu-aarch64-static) || skip "qemu-aarch64-static is not installed (apt-get install qemu-user-static)"
[ -n "${1:-}" ] || skip "no bundle is named: deploy/check_arm.sh BUNDLE [IMAGE...]"
[ -f "$1/manifest.json" ] || skip "$1 is no bundle"
bundle=$(realpath "$1"); shift
python=${PYTHON:-python3}
root=${FOLDER:-$(mktemp -d)}
formats=/proc/sys/fs/binfmt_misc
mounted=() registered=
clean() {
  for place in "${mounted[@]}"; do umount "$place" || true; done
  [ -z "$registered" ] || echo -1 >"$formats/glass-rt-arm" || true
  [ -n "${FOLDER:-}" ] || rm -rf --one-file-system "$root"
}
trap clean EXIT

if [ ! -e "$formats/qemu-aarch64" ] && [ "$(uname -m)" != aarch64 ]; then
  [ -e "$formats/register" ] || mount -t binfmt_misc binfmt_misc "$formats" || skip "the kernel runs no foreign programs (binfmt_misc)"
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  echo ":glass-rt-arm:M::$magic:$mask:$qemu:F" >"$formats/register" # F: open it now, so that it need not lie in the chroot
  registered=yes
fi

say "Debian for arm64 in $root"
if [ ! -x "$root/usr/bin/python3" ]; then
  debootstrap --arch arm64 --variant=minbase --include=python3,python3-venv bookworm "$root" ${MIRROR:+"$MIRROR"} \
    >"$root.log" || { tail -n 3 "$root.log"; exit 1; }
  rm -f "$root.log"
fi
mount --bind /proc "$root/proc"; mounted+=("$root/proc")
mkdir -p "$root/src" "$root/bundle"
for path in /etc/resolv.conf /etc/pip.conf; do [ ! -e "$path" ] || cp -L "$path" "$root$path"; done
mkdir -p "$root/etc/ssl/certs" # of which the package would make every link by itself, emulated
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || true
cp -r pyproject.toml README.md LICENSE glass_rt export engines benchmarks "$root/src/"
rm -rf "$root/bundle"; cp -r "$bundle" "$root/bundle"
inside() { env -u PIP_FIND_LINKS PATH=/glass/bin:/usr/sbin:/usr/bin:/bin HOME=/root chroot "$root" "$@"; }

say "glass-rt there: wheels for aarch64"
[ -x "$root/glass/bin/glass-rt" ] || { inside python3 -m venv /glass; }
inside pip install --quiet "/src[cpu,openvino,jpeg]"
inside glass-rt doctor

say "the parity gate there"
inside glass-rt verify /bundle

say "verdicts"
mkdir -p "$root/images"
if [ $# = 0 ]; then
  "$python" -m glass_bench.sample --megapixels 1 --seed 606 --output "$root/images/sample.jpg" >/dev/null
else
  cp "$@" "$root/images/"
fi
code=0
inside glass-rt infer --engine /bundle --jsonl /images >"$root/there.jsonl" || code=$?
"$python" -m glass_rt infer --engine "$bundle" --jsonl "$root/images" >"$root/here.jsonl" || code=$?
[ "$code" = 0 ] || { echo "images could not be judged"; exit 1; }
"$python" - "$root/here.jsonl" "$root/there.jsonl" <<'PYTHON'
import json, sys
here, there = ([json.loads(line) for line in open(name)] for name in sys.argv[1:])
by_content = {row["sha256"]: row["probability_fake"] for row in here}
assert len(there) == len(here) > 0
largest = max(abs(by_content[row["sha256"]] - row["probability_fake"]) for row in there)
print(f"{len(there)} images, largest difference in probability {largest:.1e}")
sys.exit(0 if largest <= 1e-5 else 1)
PYTHON
say "arm-check: passed"
