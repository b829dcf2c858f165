"""Records the names of NVIDIA's Python bindings, version by version, into vendor_names.json.

    python tests/glass_rt/backends/record_vendor_names.py

The bindings of TensorRT are wheels of a few megabytes without the library itself. They load against empty stand-ins
for its shared objects, which is enough to list their names; nothing can be called. TensorRT for RTX is recorded from
the installed package. Needs pip, gcc and nm, and a Python version that the wheels are made for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

RECORD = Path(__file__).with_name("vendor_names.json")
WHEELS = {
    "tensorrt 10.3.0": "tensorrt_cu12_bindings==10.3.0",
    "tensorrt 10.16.1": "tensorrt_cu13_bindings==10.16.1.11",
    "tensorrt 11.4.0": "tensorrt_cu13_bindings==11.4.0.106",
}
LISTING = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
public = lambda value: sorted(name for name in dir(value) if not name.startswith("_"))
names = {name: public(getattr(module, name)) for name in public(module) if isinstance(getattr(module, name), type)}
print(json.dumps({"": public(module), **names}))
"""


def listing(module: str, **environment: str) -> dict[str, list[str]]:
    command = [sys.executable, "-c", LISTING, module]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    names: dict[str, list[str]] = json.loads(done.stdout)
    return names


def bindings(requirement: str, folder: Path) -> dict[str, list[str]]:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
    subprocess.run(pip, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    library = next(folder.glob("tensorrt_bindings/tensorrt*.so"))
    stubs = folder / "stubs"
    stubs.mkdir()
    dynamic = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    needed = [line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "(NEEDED)" in line and "libnv" in line]
    undefined = subprocess.run(["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True)
    symbols = [line.split()[-1] for line in undefined.stdout.splitlines()]
    wanted = [name for name in symbols if "@" not in name and name.startswith(("create", "get", "init"))]
    source = stubs / "stubs.c"
    source.write_text("".join(f"void {name}(void) {{}}\n" for name in wanted))
    for name in needed:
        flags = ["-w", "-shared", "-fPIC", f"-Wl,-soname,{name}"]
        subprocess.run(["gcc", *flags, "-o", stubs / name, source], check=True)
    return listing("tensorrt_bindings", LD_LIBRARY_PATH=str(stubs), PYTHONPATH=str(folder))


def main() -> None:
    record = {}
    for name, requirement in WHEELS.items():
        with tempfile.TemporaryDirectory() as folder:
            record[name] = bindings(requirement, Path(folder))
    import tensorrt_rtx

    record[f"tensorrt_rtx {'.'.join(tensorrt_rtx.__version__.split('.')[:3])}"] = listing("tensorrt_rtx")
    lines = ",\n".join(
        f'"{version}": {{\n' + ",\n".join(f' "{owner}": {json.dumps(found)}' for owner, found in names.items()) + "}"
        for version, names in record.items()
    )
    RECORD.write_text(f"{{{lines}}}\n")


if __name__ == "__main__":
    main()
