"""Dockerfile, compose file and Apptainer's recipe: their rules, and their steps as far as they can be run without them."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import yaml
from dockerfile import Room, Step, lineage, stages
from needs import need_module
from processes import until
from runs import write_run
from wheelhouse import wheelhouse

from imitate.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STAGES = stages(ROOT / "Dockerfile")
IMAGES = ("cpu", "cuda")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
TOKEN = "0123456789abcdef"


def last(name: str, instruction: str) -> str:
    """What counts in an image."""
    return [step.value for step in lineage(STAGES, name) if step.instruction == instruction][-1]


def apptainer() -> dict[str, str]:
    text = re.sub(r"^#.*\n", "", (ROOT / "packages/apptainer.def").read_text(encoding="utf-8"), flags=re.MULTILINE)
    head, *sections = re.split(r"^%", text, flags=re.MULTILINE)
    return {"": head, **{name: body for name, _, body in (each.partition("\n") for each in sections)}}


@pytest.mark.parametrize(
    "path, schema",
    [
        ("compose.yaml", "vendor.compose-spec"),
        (".github/workflows/release.yml", "vendor.github-workflows"),
        (".github/workflows/ci.yml", "vendor.github-workflows"),
        ("CITATION.cff", "vendor.citation-file-format"),
    ],
)
def test_a_file_has_the_form_that_its_reader_publishes(path, schema):
    need_module("check_jsonschema", "dev")
    rules = import_module("check_jsonschema.builtin_schemas").get_builtin_schema(schema)
    found = {("on" if key is True else key): value for key, value in yaml.safe_load((ROOT / path).read_text()).items()}
    check = import_module("jsonschema").validators.validator_for(rules)(rules)
    assert [error.message for error in check.iter_errors(found)] == []


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_imitate_as_a_user_without_privileges(name):
    assert last(name, "USER") == "imitate" and "useradd --uid 1000" in STAGES["base"].steps[1].value
    assert lineage(STAGES, name)[-1].instruction == "RUN", "what the image holds is checked as this user"
    assert json.loads(last(name, "ENTRYPOINT")) == ["imitate"]
    assert json.loads(last(name, "CMD"))[0] in COMMANDS and last(name, "EXPOSE") == "8000"
    assert re.match(r"--interval=\S+ --timeout=\S+ --start-period=\S+ --retries=\d CMD \[", last(name, "HEALTHCHECK"))
    assert not any(step.instruction == "ADD" or "curl" in step.value for step in lineage(STAGES, name))


def test_the_default_image_is_the_small_one_and_only_what_is_copied_is_sent():
    assert list(STAGES)[-1] == "cpu"
    extras = {name: next(s.value for s in STAGES[f"build-{name}"].steps if s.instruction == "ARG") for name in IMAGES}
    assert extras == {"cpu": 'EXTRAS=""', "cuda": "EXTRAS=train,lora"}
    assert Step("ENV", "UV_TORCH_BACKEND=cpu") in STAGES["build-cpu"].steps
    assert not any("UV_TORCH_BACKEND" in step.value for step in lineage(STAGES, "build-cuda"))
    copied = {
        word
        for stage in STAGES.values()
        for step in stage.steps
        if step.instruction == "COPY" and "--from" not in step.value
        for word in step.value.split()[:-1]
    }
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in sent and {line[1:] for line in sent if line.startswith("!")} == copied


@pytest.mark.skipif(not shutil.which("apt-get"), reason="apt-get is not installed")
def test_packages_of_the_system_exist_and_install():
    text = (ROOT / "Dockerfile").read_text() + (ROOT / "packages/apptainer.def").read_text()
    wanted = {
        name
        for names in re.findall(r"apt-get install --yes --no-install-recommends ([\w+ -]+?) &&", text)
        for name in names.split()
    }
    assert wanted == {"g++"}
    done = subprocess.run(
        ["apt-get", "--simulate", "--no-install-recommends", "install", *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Unable to locate" in done.stderr and not list(Path("/var/lib/apt/lists").glob("*Packages*")):
        pytest.skip("apt-get update has not been run")
    assert done.returncode == 0, done.stderr


def test_the_viewer_of_compose_is_reached_from_this_machine_alone_and_can_write_nothing():
    for name, service in COMPOSE["services"].items():
        assert (
            service["build"]["target"] == {"viewer": "cpu", "viewer-gpu": "cuda"}[name] and "healthcheck" not in service
        )
        assert [port.rpartition(":")[0] for port in service["ports"]] == ["127.0.0.1:${PORT:-8000}"]
        assert service["ports"][0].endswith(f":{last('cpu', 'EXPOSE')}")
        assert service["read_only"] is True and service["tmpfs"] == ["/tmp"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"] and service["init"] is True
        (model,) = service["volumes"]
        assert (
            model["read_only"] is True and model["target"] == "/model" and model["bind"] == {"create_host_path": False}
        )
        assert service["command"] == json.loads(last("cpu", "CMD"))
        assert re.match(r"\$\{IMITATE_TOKEN:\?", service["environment"]["IMITATE_TOKEN"]), "none without a token"
    gpu = COMPOSE["services"]["viewer-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpu == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


def test_apptainer_takes_the_same_steps_as_docker():
    sections = apptainer()
    copied = [line.split() for line in sections["files"].splitlines() if line.strip()]
    assert all((ROOT / source).exists() and target == f"/src/{source}" for source, target in copied)
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {source for source, _ in copied} == {line[1:] for line in sent if line.startswith("!")}
    (build,) = (step.value for step in STAGES["build-cuda"].steps if step.instruction == "RUN")
    post = sections["post"]
    assert build.replace("$EXTRAS", "{{ extras }}") in post
    assert "extras=train,lora\n" in sections["arguments"] and 'exec imitate "$@"' in sections["runscript"]
    for step in STAGES["build"].steps:
        if step.instruction == "RUN":
            for part in step.value.replace("pip install", "pip install --no-cache-dir").split(" && "):
                assert part in post, part
    assert sections["test"].strip() == lineage(STAGES, "cuda")[-1].value
    for name in ("post", "test", "runscript", "environment"):
        filled = re.sub(r"\{\{ \w+ \}\}", "x", sections[name])
        subprocess.run(["sh", "-n", "-c", filled], check=True, capture_output=True)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """The steps of the CPU image, in a folder, with wheels of what is installed here in place of the index."""
    need_module("hatchling", "dev")
    work = tmp_path_factory.mktemp("image")
    wheels = str(wheelhouse(work / "index", [*PROJECT["dependencies"], "hatchling", "uv"]))
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels}
    room = Room(
        work / "root", ROOT, **settings, UV_NO_INDEX="1", UV_FIND_LINKS=wheels, UV_NO_CONFIG="1", HOME=str(work)
    )
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        room.environment.pop(name, None)
    settings_of_uv = [step for step in lineage(STAGES, "build-cpu") if step.value.startswith("UV_")]
    assert [step.value for step in settings_of_uv] == [
        "UV_COMPILE_BYTECODE=1",
        "UV_TORCH_BACKEND=cpu",
    ]  # slow; an index
    room.carry_out([step for step in lineage(STAGES, "build-cpu") if step not in settings_of_uv])
    shutil.rmtree(wheels)
    room.carry_out(STAGES["run"].steps)
    room.carry_out(STAGES["cpu"].steps)
    yield room
    shutil.rmtree(work, ignore_errors=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("model")
    assert main(["export", "--model", str(write_run(work)), "--format", "onnx", "--to", str(work / "onnx")]) == 0
    return work / "onnx"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the steps are of a Unix shell")
def test_the_image_classifies_compressed_dicom_files_without_pytorch(image, model):
    dicom = [ROOT / "tests/data/golden_dicom" / f"{name}.dcm" for name in ("jpeg2000_12", "jpegls_12", "rle_12")]
    command = [
        "predict",
        "classify",
        "--model",
        model,
        "--prompts",
        "Effusion=effusion",
        "--out",
        "scores.csv",
        "--images",
        *dicom,
    ]
    assert run(image, [image.root / "opt/imitate/bin/imitate", *command]) == 0
    assert len((image.root / "work/scores.csv").read_text().splitlines()) == 1 + len(dicom)
    assert run(image, [image.root / "opt/imitate/bin/python", "-c", "import torch"]) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the steps are of a Unix shell")
def test_the_steps_make_an_image_whose_viewer_is_healthy(image, model):
    assert any(line.startswith("useradd") for line in image.left) and (image.root / "opt/imitate/bin/imitate").is_file()
    assert "decodes JPEG" in (image.root / "tmp/doctor").read_text()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = [*json.loads(last("cpu", "ENTRYPOINT")), *json.loads(last("cpu", "CMD"))]
    words = [str(model) if word == "/model" else word for word in words]
    command = [shutil.which(words[0], path=image.environment["PATH"]), *words[1:], "--port", port]
    _, _, check = last("cpu", "HEALTHCHECK").partition("CMD ")
    health = [word.replace("8000", port) for word in json.loads(check)]
    assert run(image, health) != 0, "nothing listens yet"
    started = subprocess.Popen(
        command,
        cwd=image.root / "work",
        env={**image.environment, "IMITATE_TOKEN": TOKEN},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: run(image, health) == 0, alive=lambda: started.poll() is None, what="a healthy viewer")
        about = Request(f"http://127.0.0.1:{port}/api/about", headers={"Authorization": f"Bearer {TOKEN}"})
        assert json.load(urlopen(about))["model"]
        with pytest.raises(HTTPError, match="401"):
            urlopen(f"http://127.0.0.1:{port}/api/about")
    finally:
        started.terminate()
        _, said = started.communicate()
    assert "#token=$IMITATE_TOKEN" in said and TOKEN not in said
    without = run(image, command[:-2])
    assert without == 2, "0.0.0.0 needs a token or a password"


def run(image: Room, command: list[str | Path]) -> int:
    done = subprocess.run(
        list(map(str, command)), cwd=image.root / "work", env=image.environment, capture_output=True, check=False
    )
    return done.returncode
