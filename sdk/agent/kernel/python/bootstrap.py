"""Makes the runtime's own virtual environment and becomes the kernel in it.

Run by the base interpreter as: python -I bootstrap.py SETTINGS, a JSON object with
    venv      the folder of the environment; made if it is not there, else brought up to date in place
    launcher  the program that the environment's interpreter then runs, with `arguments`
    ready     a descriptor that gets one line of JSON: here, {"error": ..., "missing": ...} if it cannot be done

The environment is made without pip or a copy of anything: a link to the interpreter, and a .pth file that adds the packages of the
base. What is installed in it stays in it and comes before the base's.
"""

import importlib.util
import json
import os
import sys

PIP = """#!{python}
import re
import sys
from pip._internal.cli.main import main
sys.argv[0] = re.sub(r"(-script\\.pyw|\\.exe)?$", "", sys.argv[0])
sys.exit(main())
"""


def fail(ready, error, missing=""):
    os.write(ready, json.dumps({"error": error, "missing": missing}).encode() + b"\n")
    sys.exit(1)


def write(path, content, mode=0o644):
    """Writes a file if it is not as it should be, and never half."""
    try:
        with open(path, encoding="utf-8") as f:
            if f.read() == content:
                return
    except (OSError, UnicodeDecodeError):
        pass
    part = f"{path}.{os.getpid()}"
    with open(part, "w", encoding="utf-8") as f:
        f.write(content)
    os.chmod(part, mode)
    os.replace(part, path)


def link(path, target):
    try:
        if os.readlink(path) == target:
            return
    except OSError:
        pass
    part = f"{path}.{os.getpid()}"
    os.symlink(target, part)
    os.replace(part, path)


def packages():
    """The folders in which the base looks for packages; not those of a person."""
    return [p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages") and os.path.isdir(p)]


def make(venv):
    base = getattr(sys, "_base_executable", None) or sys.executable
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = os.path.join(venv, "lib", version, "site-packages")
    os.makedirs(own, exist_ok=True)
    folder = os.path.join(venv, "bin")
    os.makedirs(folder, exist_ok=True)
    if sys.platlibdir != "lib":
        link(os.path.join(venv, sys.platlibdir), "lib")
    write(
        os.path.join(venv, "pyvenv.cfg"),
        f"home = {os.path.dirname(base)}\n"
        "include-system-site-packages = false\n"
        f"version = {'.'.join(map(str, sys.version_info[:3]))}\n"
        f"executable = {base}\n",
    )
    python = os.path.join(folder, "python")
    link(python, base)
    for name in ("python3", version):
        link(os.path.join(folder, name), "python")
    # addsitedir and not the bare path: .pth files of the base count too.
    lines = [f"import site; site.addsitedir({p!r})\n" for p in packages()]
    write(os.path.join(own, "openhands_rt_base.pth"), "".join(lines))
    if importlib.util.find_spec("pip"):
        for name in ("pip", "pip3"):
            write(os.path.join(folder, name), PIP.format(python=python), 0o755)
    return python


def main():
    settings = json.loads(sys.argv[1])
    ready = settings["ready"]
    if sys.version_info < (3, 10):
        fail(ready, f"{sys.executable} is Python {sys.version.split()[0]}, and 3.10 or later is needed", "python")
    if importlib.util.find_spec("ipykernel") is None:
        fail(ready, f"{sys.executable} has no ipykernel", "ipykernel")
    try:
        python = make(settings["venv"])
    except OSError as e:
        fail(ready, f"cannot make the virtual environment {settings['venv']}: {e}")
    os.environ["VIRTUAL_ENV"] = settings["venv"]
    os.environ["PATH"] = os.path.dirname(python) + os.pathsep + os.environ.get("PATH", os.defpath)
    os.environ.pop("PYTHONHOME", None)
    os.execv(python, [python, settings["launcher"], *settings["arguments"]])


main()
