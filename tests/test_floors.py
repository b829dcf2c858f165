"""Imports go in one direction, and the runtime imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import glass_rt

ROOT = Path(__file__).parent.parent
# A module may import from lower floors; within a package (`image`, `backends`, `serve`, `cli`) siblings may see each other.
FLOORS = (
    {
        "errors",
        "version",
        "progress",
        "environment",
        "budget",
        "blas",
        "gpu_advice",
        "precision_report",
        "kept",
        "malloc",
    },
    {"image", "records", "requirements", "file_names"},
    {"manifest", "backends"},
    {"folder", "aggregator", "options"},
    {"bundle", "verdict", "verdict_rows", "pack"},
    {"judge", "overlay", "sources", "fitness", "protocol"},
    {"parity", "subject"},
    {"pipeline", "settlement"},
    {"detector"},
    {"serve", "bulk", "triton_server"},
    {"cli"},
)
STAGES = {
    "glass_rt": ROOT / "glass_rt",
    "glass_export": ROOT / "export" / "glass_export",
    "glass_engines": ROOT / "engines" / "glass_engines",
    "glass_bench": ROOT / "benchmarks" / "glass_bench",
}


def imports(path: Path) -> set[str]:
    """Modules that a file imports when it runs, those for annotations alone left out."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def floor(module: str) -> int | None:
    part = module.split(".")[1] if "." in module else ""
    return next((number for number, names in enumerate(FLOORS) if part in names), None)


@pytest.mark.parametrize("path", sorted(STAGES["glass_rt"].rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_runtime_imports_downwards(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    own = floor(name)
    if own is None:
        assert path.name in ("__init__.py", "__main__.py"), f"{name} stands on no floor"
        return
    for imported in imports(path):
        below = floor(imported) if imported.startswith("glass_rt.") else None
        if below is not None:
            siblings = name.split(".")[1] == imported.split(".")[1]
            assert below <= own or siblings, f"{name} imports {imported} from above"


@pytest.mark.parametrize(
    ("stage", "never"),
    [
        ("glass_rt", {"glass_export", "glass_engines", "glass_bench", "torch", "torchvision", "onnx"}),
        ("glass_engines", {"glass_export", "glass_bench", "torch", "torchvision"}),
        ("glass_export", {"glass_engines", "glass_bench"}),
    ],
)
def test_stages_do_not_import_what_they_must_not_need(stage: str, never: set[str]) -> None:
    for path in STAGES[stage].rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & never, path


def test_importing_the_runtime_loads_no_heavy_library() -> None:
    code = (
        "import sys, glass_rt, glass_rt.cli, glass_rt.cli.infer, glass_rt.cli.bulk, glass_engines.command, glass_export.command\n"
        "heavy = ('torch', 'torchvision', 'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'PIL', 'ray', 'pyarrow')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_face_is_what_is_exported() -> None:
    for name in glass_rt.__all__:
        assert getattr(glass_rt, name) is not None
    public = {name for name in vars(glass_rt) if not name.startswith("_")}
    modules = {name for name in public if isinstance(getattr(glass_rt, name), type(sys))}
    assert public - modules == set(glass_rt.__all__) - {"__version__"}
