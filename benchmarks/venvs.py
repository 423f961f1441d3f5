"""The alternatives' environments: one for each, made of the packages that a file of `environments` pins."""

import hashlib
import subprocess
import sys
from functools import cache
from pathlib import Path

from benchmarks.programs import ROOT, NotMeasured, say

OWN = "knn-container"
SDK = "sagemaker-sdk"
_FOLDER = ROOT / ".venv-benchmarks"
_PINS = ROOT / "benchmarks" / "environments"
_SDK_PINS = ROOT / "requirements" / "clients" / "sdk-v2.txt"  # which the tests have already
_PACKAGES = {
    "faiss": ("faiss-cpu", "Flask", "gunicorn"),
    "scikit-learn": ("scikit-learn",),
    "scikit-learn-intelex": ("scikit-learn-intelex",),
    "hnswlib": ("hnswlib",),
    "usearch": ("usearch",),
    "mlserver": ("mlserver",),
    "protobuf": ("protobuf",),
    SDK: ("sagemaker",),
    "pandas": ("pandas",),
    "polars": ("polars",),
}  # of each environment, what is worth naming
_VERSION = "from importlib.metadata import version; import sys; print(*map(version, sys.argv[1:]))"


@cache
def python_of(name: str) -> Path:
    """The Python of an environment, which is made if it is not there.

    Raises:
        NotMeasured: its packages cannot be had; the second time at once.
    """
    if name == OWN:
        return Path(sys.executable)
    if reason := _failed.get(name):
        raise NotMeasured(reason)
    pins = _SDK_PINS if name == SDK else _PINS / f"{name}.txt"
    folder = _FOLDER / name
    stamp = folder / "installed"
    wanted = hashlib.sha256(sys.version.encode() + pins.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        say(f"Making the environment of {name}...")
        _FOLDER.mkdir(exist_ok=True)
        (_FOLDER / ".gitignore").write_text("*\n")
        _make(name, folder, pins)
        stamp.write_text(wanted)
    return folder / "bin" / "python"


_failed: dict[str, str] = {}


def _make(name: str, folder: Path, pins: Path) -> None:
    # The lock names everything, so that there is nothing to resolve.
    install = ["pip", "install", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--requirement", pins]
    for command in ([sys.executable, "-m", "venv", "--clear", folder], [folder / "bin" / "python", "-m", *install]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            lines = done.stdout.strip().splitlines() or ["nothing was said"]
            _failed[name] = f"its packages cannot be installed: {lines[-1]}"
            say(done.stdout)
            raise NotMeasured(_failed[name])


def versions() -> list[str]:
    """Names what is in the environments that have been made, with versions."""
    found = []
    for name, packages in _PACKAGES.items():
        if (_FOLDER / name / "installed").exists():
            printed = subprocess.check_output([_FOLDER / name / "bin" / "python", "-c", _VERSION, *packages], text=True)
            found += [f"{package} {it}" for package, it in zip(packages, printed.split(), strict=True)]
    return found
