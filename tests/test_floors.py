"""The runtime imports nothing heavy, and stages not each other; floors and circles are import-linter's (pyproject.toml).

Folders stay small enough to be read: a drawer that overflows becomes rooms.
"""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import glass_rt

ROOT = Path(__file__).parent.parent
STAGES = {
    "glass_rt": ROOT / "glass_rt",
    "glass_export": ROOT / "export" / "glass_export",
    "glass_engines": ROOT / "engines" / "glass_engines",
    "glass_calibrate": ROOT / "calibration" / "glass_calibrate",
    "glass_train": ROOT / "training" / "glass_train",
    "glass_bench": ROOT / "benchmarks" / "glass_bench",
}
MOST_MODULES = 20  # of a folder, its __init__.py among them


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


@pytest.mark.parametrize(
    ("stage", "never"),
    [
        (
            "glass_rt",
            {
                "glass_export",
                "glass_engines",
                "glass_calibrate",
                "glass_train",
                "glass_bench",
                "torch",
                "torchvision",
                "timm",
                "onnx",
                "sklearn",
                "scipy",
            },
        ),
        (
            "glass_engines",
            {"glass_export", "glass_calibrate", "glass_train", "glass_bench", "torch", "torchvision", "timm"},
        ),
        ("glass_export", {"glass_engines", "glass_calibrate", "glass_train", "glass_bench"}),
        (
            "glass_calibrate",
            {"glass_export", "glass_engines", "glass_train", "glass_bench", "torch", "torchvision", "timm", "onnx"},
        ),
        ("glass_train", {"glass_bench"}),
    ],
)
def test_stages_do_not_import_what_they_must_not_need(stage: str, never: set[str]) -> None:
    for path in STAGES[stage].rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & never, path


def test_importing_the_runtime_loads_no_heavy_library() -> None:
    code = (
        "import sys, glass_rt, glass_rt.cli, glass_rt.cli.infer, glass_rt.cli.bulk, glass_engines.command, glass_export.command, glass_calibrate.command\n"
        "heavy = ('torch', 'torchvision', 'timm', 'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'PIL', 'ray', 'pyarrow', 'scipy', 'sklearn', 'matplotlib', 'nvidia', 'cuda')\n"
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


@pytest.mark.parametrize("top", [*STAGES, "tests", "examples"])
def test_no_folder_is_a_drawer(top: str) -> None:
    root = STAGES.get(top, ROOT / top)
    modules = Counter(str(path.parent.relative_to(root)) for path in root.rglob("*.py"))
    assert {folder: count for folder, count in modules.items() if count > MOST_MODULES} == {}


def test_the_runtimes_face_is_seven_modules_and_its_rooms() -> None:
    face = {path.stem for path in STAGES["glass_rt"].glob("*.py")}
    assert face == {"__init__", "__main__", "detector", "errors", "options", "progress", "version"}
    assert {path.name for path in STAGES["glass_rt"].iterdir() if path.is_file()} == {f"{name}.py" for name in face} | {
        "py.typed"
    }
