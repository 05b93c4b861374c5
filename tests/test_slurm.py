"""The job scripts of examples/slurm/, with programs in place of SLURM's: SIGUSR1 at the time limit, and what follows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from folders import write_folder
from processes import HANG
from recipes import tiny_recipe

from imitate.errors import Stopped

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "examples" / "slurm"
# As SLURM does: all processes of a step get the signal that srun gets, whatever their session.
SRUN = """#!/bin/bash
pass_on() {
    local each
    for each in $(pgrep -P "$1"); do pass_on "$each"; done
    kill -USR1 "$1"
}
"$@" &
step=$!
trap 'pass_on "$step" && asked=yes' USR1
wait "$step"; code=$?
if [ -n "$asked" ]; then wait "$step"; code=$?; fi
exit "$code"
"""
AT_FIRST_ROW = """{
    until [ -s "$METRICS" ]; do kill -0 "$step" || exit; sleep 0.05; done
    kill -USR1 "$SLURM_JOB_ID"
} &"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo localhost; else echo "$@" >> "$REQUEUED"; fi
"""
# The step at which the time limit is near: the job script gets SIGUSR1, and the run waits until it is passed on.
IMITATE = f"""#!{sys.executable}
import os, signal, sys, time
from contextlib import contextmanager
from imitate.cli import main
from imitate.training import loop

@contextmanager
def signals():
    with taken() as received:
        arrived.append(received)
        yield received

def step(job, *rest):
    if str(job.step) == os.environ["LIMIT"]:
        os.kill(int(os.environ["SLURM_JOB_ID"]), signal.SIGUSR1)
        while not arrived[0]:
            time.sleep(0.01)
    return trained(job, *rest)

arrived, taken, trained = [], loop.signals, loop._step
loop.signals, loop._step = signals, step
sys.exit(main())
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Path:
    """A PATH with SLURM's programs; ``requeued`` holds what scontrol was asked to do."""
    place(tmp_path, srun=SRUN, scontrol=SCONTROL)
    for name in ("SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    python = Path(sys.executable).parent  # torchrun and what the first line of a script names
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), str(python), os.environ["PATH"]]))
    monkeypatch.setenv("REQUEUED", str(tmp_path / "requeued"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def place(folder: Path, **programs: str) -> None:
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def submit(script: str, *arguments: object) -> tuple[int, str]:
    """The exit code of a job, and what it wrote; the number of the job is that of its process."""
    start = 'export SLURM_JOB_ID=$$; exec bash "$0" "$@"'
    words = ["bash", "-c", start, SCRIPTS / script, *arguments]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=HANG, check=False)
    return done.returncode, done.stdout + done.stderr


def asked(code: int, signals: int = 1) -> str:
    """A step that ends with ``code`` when the signal of the time limit has come, for the last time."""
    more = f"[ $((count += 1)) = {signals} ] && exit {code}; kill -USR1 $SLURM_JOB_ID"
    first = "sleep 0.2; echo asked $SLURM_JOB_ID; kill -USR1 $SLURM_JOB_ID"
    return f"#!/bin/bash\ntrap '{more}' USR1\n{first}\nwhile :; do sleep 0.01; done\n"


def requeued(cluster: Path) -> list[str]:
    path = cluster / "requeued"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("signals", [1, 2])
@pytest.mark.parametrize("code", [0, 1, 2, Stopped.CODE, 130, 137, 143])
def test_a_job_is_requeued_after_that_exit_code_alone(cluster, code, signals):
    """With 0 it finishes in the time that is left; SLURM may repeat the signal."""
    place(cluster, srun=asked(code, signals))
    found, said = submit("pretrain.sbatch", "recipe.yaml", "data", "run")
    job = said.split("asked ")[1].split()[0]
    assert found == code and requeued(cluster) == ([f"requeue {job}"] if code == Stopped.CODE else [])


@pytest.mark.parametrize(("script", "code"), [("pretrain.sbatch", Stopped.CODE), ("torchrun.sbatch", 1)])
def test_a_stop_for_another_reason_than_the_time_limit_ends_the_job(cluster, script, code):
    """scancel of the step gives 75; below torchrun, the mark may be that of an earlier start."""
    place(cluster, srun=f"#!/bin/bash\nexit {code}\n")
    (cluster / "run").mkdir()
    (cluster / "run/stopped.json").write_text("{}")
    assert submit(script, "r", "d", cluster / "run")[0] == code and not requeued(cluster)


def test_a_queue_that_takes_nothing_back_is_reported(cluster):
    place(cluster, srun=asked(Stopped.CODE), scontrol="#!/bin/bash\nexit 1\n")
    code, said = submit("pretrain.sbatch", "r", "d", "o")
    assert code == Stopped.CODE and "not requeued: submit the same command again" in said


def test_a_job_that_never_ends_its_run_is_not_requeued_for_ever(cluster, monkeypatch):
    place(cluster, srun=asked(Stopped.CODE))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "100")
    assert submit("pretrain.sbatch", "r", "d", "o")[0] == Stopped.CODE and not requeued(cluster)


@pytest.mark.parametrize("script", ["pretrain.sbatch", "torchrun.sbatch"])
def test_a_task_of_an_array_has_a_seed_and_a_run_of_its_own(cluster, monkeypatch, script):
    place(cluster, srun='#!/bin/bash\necho "$@"\n')
    for name, value in {
        "ARRAY_TASK_ID": "2",
        "JOB_NUM_NODES": "3",
        "GPUS_ON_NODE": "4",
        "JOB_NODELIST": "n[1-3]",
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    code, said = submit(script, "r.yaml", "data", "runs/a", "--threads", "1")
    assert code == 0 and said.strip().endswith(
        "imitate pretrain r.yaml --data data --out runs/a-seed2 --training.seed 2 --threads 1"
    )
    if script == "torchrun.sbatch":
        assert "--nnodes 3 --nproc-per-node 4 " in said and "--rdzv-endpoint localhost:29500 " in said


@pytest.mark.parametrize("marked", [True, False])
def test_below_torchrun_the_run_folder_says_whether_it_was_stopped(cluster, marked):
    """torchrun ends with 1 in both cases."""
    place(cluster, srun=asked(1))
    (cluster / "run").mkdir()
    if marked:
        (cluster / "run/stopped.json").write_text("{}")
    code, _ = submit("torchrun.sbatch", "r", "d", cluster / "run")
    assert (code, len(requeued(cluster))) == ((Stopped.CODE, 1) if marked else (1, 0))


@pytest.mark.slow
def test_at_the_time_limit_a_run_is_saved_and_requeued_and_ends_as_if_it_had_run_through(cluster, monkeypatch):
    data = write_folder(cluster / "data", n=60)
    recipe = cluster / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe().model_dump(mode="json")))
    place(cluster, imitate=IMITATE)
    monkeypatch.setenv("LIMIT", "never")
    assert submit("pretrain.sbatch", recipe, data, cluster / "whole")[0] == 0 and not requeued(cluster)
    monkeypatch.setenv("LIMIT", "3")
    code, said = submit("pretrain.sbatch", recipe, data, cluster / "run")
    assert code == Stopped.CODE and len(requeued(cluster)) == 1, said
    assert "stopped by SIGUSR1; the same command continues" in said and (cluster / "run/stopped.json").is_file()
    code, said = submit("pretrain.sbatch", recipe, data, cluster / "run")  # step 3 is behind it
    assert code == 0 and len(requeued(cluster)) == 1 and "continuing from step 4 of" in said, said
    assert not (cluster / "run/stopped.json").exists()
    for name in ("model/model.safetensors", "metrics.jsonl"):
        assert (cluster / "run" / name).read_bytes() == (cluster / "whole" / name).read_bytes()


@pytest.mark.slow
def test_two_processes_of_torchrun_stop_together(cluster, monkeypatch):
    data = write_folder(cluster / "data", n=60)
    recipe = cluster / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(epochs=1, steps=300).model_dump(mode="json")))
    for name, value in {"JOB_NUM_NODES": "1", "GPUS_ON_NODE": "2", "JOB_NODELIST": "localhost"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PORT", "0")
    monkeypatch.setenv("METRICS", str(cluster / "run/metrics.jsonl"))
    place(cluster, srun=SRUN.replace("trap", f"{AT_FIRST_ROW}\ntrap"))
    code, said = submit("torchrun.sbatch", recipe, data, cluster / "run")
    assert code == Stopped.CODE and len(requeued(cluster)) == 1, said
    assert (cluster / "run/last.ckpt").is_file()


def test_the_scripts_ask_for_the_signal_in_the_script_alone_and_need_nothing_but_bash():
    for script in sorted(SCRIPTS.glob("*.sbatch")):
        text = script.read_text(encoding="utf-8")
        assert "#SBATCH --signal=B:USR1@120 --requeue --open-mode=append\n" in text
        assert os.access(script, os.X_OK)
        subprocess.run([shutil.which("bash") or "bash", "-n", script], check=True)
