"""Everything that a machine without a network needs, in one folder and one archive: ``make bundle EXTRAS=train``.

    python packages/bundle.py --extras train --out dist/bundle

The wheels are those of this system and this version of Python, in the versions of constraints.txt. pip's own settings
(index, proxy, folders of wheels) apply.
"""

import argparse
import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parents[1]
NAME = "imitate-cxr"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
INSTALL = """\
#!/bin/sh
# sh install.sh [FOLDER]: a virtual environment with imitate, by default in ./imitate-env. It contacts no index.
set -eu
unset CDPATH PYTHONPATH PYTHONHOME # what they name would be taken for a part of the environment
here=$(cd "$(dirname "$0")" && pwd)
target=${{1:-imitate-env}}
python=${{PYTHON:-python{python}}}
if ! "$python" -c 'import sys; raise SystemExit(sys.version_info[:2] != ({major}, {minor}))' 2>/dev/null; then
    echo "install.sh: these wheels are for Python {python}: install it, or set PYTHON to its path" >&2
    exit 2
fi
"$python" -m venv "$target"
target=$(cd "$target" && pwd)
cd "$here" # requirements.txt names files from here
PIP_CONFIG_FILE=/dev/null "$target/bin/python" -m pip --isolated --disable-pip-version-check install --quiet \\
    --no-deps --require-hashes --requirement requirements.txt
"$target/bin/python" -m pip --isolated --disable-pip-version-check check --quiet
"$target/bin/imitate" --version
"""
README = """\
# {title} for a machine without a network

For {system} with Python {python}. Copy this folder, or unpack the archive, and run

    sh install.sh

It makes a virtual environment in ./imitate-env (another folder: `sh install.sh FOLDER`; another interpreter:
`PYTHON=/path/to/python sh install.sh`), checks the digest of every wheel and contacts no package index. On Windows:

    py -{python} -m venv imitate-env
    imitate-env\\Scripts\\pip install --no-deps --require-hashes -r requirements.txt

- `wheels/` and `requirements.txt`: imitate and all its dependencies, with the SHA-256 of each file.
- `recipes/`: the pre-training recipes, to copy and adapt; the installed package contains them, too.

Models and text encoders are not part of it: copy a run folder or an exported folder as a whole.
Research software, not a medical device.
"""


def bundle(extras: str, out: Path) -> Path:
    """Write the folder ``out`` anew and an archive beside it; returns the archive."""
    if out.exists() and any(out.iterdir()) and not (out / "requirements.txt").is_file():
        raise SystemExit(f"{out} holds something else: name another folder with --out")
    shutil.rmtree(out, ignore_errors=True)
    wheels = out / "wheels"
    with tempfile.TemporaryDirectory() as built:
        subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built], cwd=ROOT, check=True)
        own = next(Path(built).glob("*.whl"))
        named = f"{own}[{extras}]" if extras else str(own)
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        subprocess.run([*PIP, "wheel", "--quiet", "--wheel-dir", str(wheels), *constraints, named], check=True)
    shutil.copytree(ROOT / "recipes", out / "recipes")
    (out / "requirements.txt").write_text("".join(map(requirement, sorted(wheels.iterdir()))), encoding="utf-8")
    major, minor = sys.version_info[:2]
    python = f"{major}.{minor}"
    script = INSTALL.format(python=python, major=major, minor=minor)
    (out / "install.sh").write_text(script, encoding="utf-8", newline="\n")
    title = f"{NAME} {parse_wheel_filename(own.name)[1]}" + (f" with {extras}" if extras else "")
    system = f"{platform.system()} on {platform.machine()}"
    (out / "README.md").write_text(README.format(title=title, system=system, python=python), encoding="utf-8")
    return archived(out, "-".join([NAME, str(parse_wheel_filename(own.name)[1]), *filter(None, extras.split(","))]))


def requirement(wheel: Path) -> str:
    """A line of requirements.txt: pip installs this file, or nothing, and looks nowhere else."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"./{wheel.parent.name}/{wheel.name} --hash=sha256:{digest}\n"


def archived(folder: Path, name: str) -> Path:
    """A tar without compression, since wheels have theirs, and without the user of this machine."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member

    python = "py" + "".join(map(str, sys.version_info[:2]))
    path = folder.parent / f"{name}-{python}-{platform.system().lower()}-{platform.machine().lower()}.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(folder, arcname=name, filter=anonymous)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="extras, such as train,lora; by default none: no PyTorch")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "bundle", help="folder to write")
    arguments = parser.parse_args()
    path = bundle(arguments.extras, arguments.out)
    sys.stdout.write(f"{path}: {path.stat().st_size >> 20} MiB\n")


if __name__ == "__main__":
    main()
