"""The container files: linted, checked for what makes them safe, and their installations run where that is asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from tests.support import Bundles

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
INSTALL_VARIABLE = "GLASS_RT_DEPLOY"
NEVER = ("torch", "torchvision", "onnxscript", "nncf", "nvidia-cublas")  # of the stages before, and of training


@dataclass
class Stage:
    """One stage: its base, and its instructions in order."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def values(self, instruction: str) -> list[str]:
        return [value for name, value in self.steps if name == instruction]


def stages_of(file: Path) -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    for step in DockerfileParser(fileobj=BytesIO(file.read_bytes())).structure:
        instruction, value = step["instruction"], step["value"]
        if instruction == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", value).groups()  # type: ignore[union-attr]  # each has a name
            found[name] = Stage(name, base)
        elif instruction != "COMMENT":
            list(found.values())[-1].steps.append((instruction, value))
    return found


def shipped(stages: dict[str, Stage]) -> list[Stage]:
    """The stages that the default image is made of, the last one first."""
    line = [list(stages.values())[-1]]
    while line[-1].base in stages:
        line.append(stages[line[-1].base])
    return line


@pytest.fixture(params=FILES, ids=lambda file: file.name)
def file(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def stages(file: Path) -> dict[str, Stage]:
    return stages_of(file)


def test_there_is_one_for_cpus_and_one_for_nvidia() -> None:
    assert [file.name for file in FILES] == ["cpu.Dockerfile", "nvidia.Dockerfile"]


def test_the_linter_finds_nothing(file: Path) -> None:
    done = subprocess.run([Path(sys.executable).parent / "hadolint", file], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_bases_are_pinned_to_a_patch_release(stages: dict[str, Stage]) -> None:
    outside = {stage.base for stage in stages.values()} - set(stages)
    assert outside
    assert all(re.search(r":\d+\.\d+\.\d+-|@sha256:", base) for base in outside), outside


def test_what_is_copied_exists_and_reaches_the_build(stages: dict[str, Stage]) -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = []
    for stage in stages.values():
        for value in stage.values("COPY"):
            if not value.startswith("--from="):
                sources += value.split()[:-1]
            else:
                origin = value.split()[0].removeprefix("--from=")
                assert origin in stages or (stage.name, origin) == ("baked", "bundle")
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in let_through, f"{source} is held back by .dockerignore"


def test_what_is_shipped_is_only_the_installed_runtime(stages: dict[str, Stage]) -> None:
    line = shipped(stages)
    assert [stage.name for stage in line] == ["runtime", "base"]
    assert [value for stage in line for value in stage.values("COPY")] == ["--from=install /opt/glass /opt/glass"]
    assert not [value for stage in line for value in stage.values("RUN")]
    assert not [value for stage in stages.values() for value in stage.values("ADD")]


def test_the_server_runs_as_nobody_in_particular_and_is_watched(stages: dict[str, Stage]) -> None:
    (base,) = [stage for stage in shipped(stages) if stage.name == "base"]
    (user,) = base.values("USER")
    assert all(int(number) >= 10000 for number in user.split(":"))
    (health,) = base.values("HEALTHCHECK")
    assert "127.0.0.1:8000/healthz" in health
    (code,) = re.findall(r'"-c", "(.*?)"\]', health)
    compile(code, "HEALTHCHECK", "exec")
    assert "ProxyHandler({})" in code, "http_proxy is not for the container's own address"
    assert base.values("ENTRYPOINT") == ['["glass-rt"]']
    assert base.values("CMD") == ['["serve", "--engine", "/engine", "--host", "0.0.0.0", "--port", "8000"]']


def test_the_extras_that_are_installed_exist_and_none_trains(stages: dict[str, Stage]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = argument(stages["install"], "EXTRAS").split(",")
    assert set(extras) <= set(project["optional-dependencies"])
    assert not set(extras) & {"export", "bench", "dev", "int8"}
    assert "serve" in extras


def argument(stage: Stage, name: str) -> str:
    (value,) = [value.partition("=")[2] for value in stage.values("ARG") if value.startswith(f"{name}=")]
    return value


def test_the_installation_works_and_brings_nothing_of_training(
    file: Path, stages: dict[str, Stage], bundles: Bundles, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    if not os.environ.get(INSTALL_VARIABLE):
        pytest.skip(f"{INSTALL_VARIABLE}=1 runs the container files' pip commands, which fetch 1 GB")
    install = stages["install"]
    source, prefix = tmp_path / "src", tmp_path / "glass"
    source.mkdir()
    for value in install.values("COPY"):
        *names, target = value.split()
        for name in names:
            place = source / target if len(names) == 1 else source / name
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, place)
    variables = dict(value.split("=", 1) for value in install.values("ARG"))
    for run in install.values("RUN"):
        here = run.replace("python -m venv", f"{sys.executable} -m venv").replace("/opt/glass", str(prefix))
        subprocess.run(["sh", "-ec", here], cwd=source, env={**os.environ, **variables}, check=True, timeout=900)
    listed = subprocess.run(
        [prefix / "bin" / "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout.lower()
    packages = {line.partition("==")[0] for line in listed.splitlines()}
    assert not [name for name in packages if name.startswith(NEVER)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    glass_rt = [str(prefix / "bin" / "glass-rt")]
    for arguments in (["--help"], ["doctor"]):
        done = subprocess.run([*glass_rt, *arguments], capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    needs = {"cpu.Dockerfile": "onnxruntime, openvino", "nvidia.Dockerfile": "tensorrt_rtx, cuda.bindings.driver"}
    code = f"import simplejpeg, uvicorn, {needs[file.name]}"
    subprocess.run([prefix / "bin" / "python", "-c", code], check=True, env=environment, cwd=tmp_path)
    if file.name == "cpu.Dockerfile":
        command = [*glass_rt, "infer", "--engine", str(bundles("resnet18").folder), str(pictures[0])]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
