#!/usr/bin/env bash
# `make container-check`: builds deploy/cpu.Dockerfile with buildah, without a container engine, and runs what was built:
# `infer` and `serve` as the image's user, with a bundle that can only be read; health, a verdict over HTTP, draining.
# Needs root, buildah and, where no registry is reached, debootstrap for a base in place of python:slim.
#   deploy/check_container.sh [BUNDLE [IMAGE]]
# BUNDLE: a folder that `glass-rt build` wrote (default: the first under bundles/). IMAGE: what is judged.
# PORT (8000): the port of `serve`. MIRROR: of Debian, for debootstrap. KEEP=1 leaves the image glass-rt:cpu there, and
# BUILT=1 runs that one.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { echo "container-check: skipped: $*"; exit 0; }
say() { echo "== $*"; }

[ "$(id -u)" = 0 ] || skip "it needs root, for a chroot"
command -v buildah >/dev/null || skip "buildah is not installed (apt-get install buildah)"
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
base=$(sed -n 's/^FROM \(\S*\) AS install$/\1/p' deploy/cpu.Dockerfile)
bundle=$(realpath "${1:-$(find bundles -mindepth 2 -maxdepth 2 -name manifest.json -printf '%h\n' 2>/dev/null | sort | head -n 1)}")
[ -f "$bundle/manifest.json" ] || skip "no bundle to judge with: glass-rt build, or name one"
port=${PORT:-8000}
work=$(mktemp -d)
container= stand_in=
clean() {
  [ -z "$container" ] || buildah rm "$container" >/dev/null || true
  [ -n "${KEEP:-}" ] || buildah rmi glass-rt:cpu $stand_in >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean EXIT

say "base: $base"
if ! buildah inspect --type image "docker.io/library/$base" >/dev/null 2>&1 \
  && ! timeout 60 buildah pull "docker.io/library/$base" >"$work/pull" 2>&1; then
  command -v debootstrap >/dev/null || skip "no registry is reached, and debootstrap is not installed"
  echo "no registry is reached: Debian's own Python stands in for it"
  debootstrap --variant=minbase --include=python3,python3-venv,python-is-python3,ca-certificates \
    bookworm "$work/base" ${MIRROR:+"$MIRROR"} >"$work/debootstrap" || { tail -n 3 "$work/debootstrap"; exit 1; }
  stand_in=docker.io/library/$base
  scratch=$(buildah from scratch)
  buildah copy -q "$scratch" "$work/base" / >/dev/null
  buildah commit -q --rm "$scratch" "$stand_in" >/dev/null
  rm -rf "$work/base"
fi

say "deploy/cpu.Dockerfile"
# How this machine's pip reaches its packages holds inside too.
mounts=()
for path in /etc/pip.conf /etc/ssl/certs ${PIP_FIND_LINKS:-} $(pip config get global.find-links 2>/dev/null || true) ${MOUNT:-}; do
  [ ! -e "$path" ] || mounts+=(--volume "$path:$path:ro")
done
start=$SECONDS
[ -n "${BUILT:-}" ] || buildah build -q --network host "${mounts[@]}" --format docker -f deploy/cpu.Dockerfile -t glass-rt:cpu . >"$work/build" 2>&1 \
  || { tail -n 20 "$work/build"; exit 1; }
container=$(buildah from glass-rt:cpu)
root=$(buildah mount "$container")
echo "built in $((SECONDS - start)) s: $(du -sm "$root/opt/glass" | cut -f1) MB over the base"
[ ! -e "$root/opt/glass/bin/pip" ] || { echo "pip was left in"; exit 1; }
buildah umount "$container" >/dev/null

image=${2:-}
if [ -z "$image" ]; then # 640 x 480 pixels of one colour, as a BMP
  image=$work/image.bmp
  python3 - "$image" <<'PYTHON'
import struct, sys
width, height = 640, 480
size = 3 * width * height
head = struct.pack("<2sIHHI", b"BM", 54 + size, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, size, 0, 0, 0, 0)
open(sys.argv[1], "wb").write(head + bytes((30, 120, 90)) * (width * height))
PYTHON
fi
chmod 755 "$work"
run=(buildah run --volume "$bundle:/engine:ro" --volume "$(realpath "$image"):/image:ro" "$container" --)

say "who runs there, and may it write into the bundle"
"${run[@]}" python -c "
import os
assert os.getuid() >= 10000, os.getuid()
assert not os.access('/engine', os.W_OK)
print('user', os.getuid())"

say "infer"
"${run[@]}" glass-rt infer --engine /engine /image

say "serve"
"${run[@]}" glass-rt serve --engine /engine --host 127.0.0.1 --port "$port" 2>"$work/log" &
server=$!
ask() { python3 - "$@" <<'PYTHON'
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
url, *file = sys.argv[1:]
request = urllib.request.Request(url, data=open(file[0], "rb").read() if file else None)
request.add_header("Content-Type", "application/octet-stream")
print(opener.open(request, timeout=60).read().decode()[:300])
PYTHON
}
for _ in $(seq 120); do
  ask "http://127.0.0.1:$port/healthz" >"$work/health" 2>/dev/null && break
  kill -0 "$server" 2>/dev/null || { cat "$work/log"; exit 1; }
  sleep 0.5
done
echo "health: $(cat "$work/health")"
ask "http://127.0.0.1:$port/v1/verdict" "$image"

say "drain: SIGTERM while an image is judged"
python3 - "$port" "$image" <<'PYTHON'
import http.client, os, pathlib, signal, sys

def server(port):
    """The process of the image's user that serves on the port."""
    wanted = f"\0--port\0{port}\0".encode()
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            uid = int((folder / "status").read_text().split("Uid:")[1].split()[0])
        except (OSError, IndexError):
            continue
        if wanted in words and b"python" in words.split(b"\0")[0] and uid >= 10000:
            return int(folder.name)
    sys.exit("the server's process is not found")

process = server(sys.argv[1])
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
connection.request("POST", "/v1/verdict", open(sys.argv[2], "rb").read())
os.kill(process, signal.SIGTERM)
response = connection.getresponse()
print("the image under way:", response.status, response.read().decode()[:100])
sys.exit(0 if response.status == 200 else 1)
PYTHON
code=0
wait "$server" || code=$?
echo "serve ended with $code"
[ "$code" = 0 ] || { tail -n 5 "$work/log"; exit 1; }
say "container-check: passed"
