#!/usr/bin/env python3
"""The images that pods of the tests run, made on the spot from a compiler and busybox: never pulled.

usage: build.py OUTPUT-FOLDER

  localhost/tranche-test/pause:1          the first process of every pod
  localhost/tranche-test/busybox:1        a shell and its friends
  localhost/tranche-test/gpu-workload:1   says what it was given (workload.c)

Each becomes OUTPUT-FOLDER/NAME.tar, for `ctr -n k8s.io images import`. From Python: build_all.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parent.parent.parent / "tools"
sys.path.insert(0, str(TOOLS))

import container  # noqa: E402
from container import Missing, Trouble  # noqa: E402

CFLAGS = ("-std=gnu2x", "-O2", "-s", "-Wall", "-Wextra")


def name_of(image: str) -> str:
    """With a tag that is not `latest`, for which a kubelet would ask a registry."""
    return f"localhost/tranche-test/{image}:1"


def build_all(out_dir: Path) -> dict[str, Path]:
    """Makes what is missing or out of date; gives the archives by the images' full names. A few
    milliseconds where nothing changed, a second otherwise. Raises Missing (of this module) without
    compiler or static busybox."""
    made = {}
    for image, make in {"pause": make_pause, "busybox": make_busybox, "gpu-workload": make_workload}.items():
        archive, stamp = out_dir / f"{image}.tar", out_dir / f".{image}.inputs"
        inputs = inputs_of(image)
        if not (archive.exists() and stamp.exists() and stamp.read_text() == inputs):
            out_dir.mkdir(parents=True, exist_ok=True)
            tree = container.Tree()
            container.add_skeleton(tree)
            config = make(tree) | {"Env": ["PATH=/usr/bin"], "WorkingDir": "/"}
            container.make_image((name_of(image),), [tree], config).write_archive(archive)
            stamp.write_text(inputs)
        made[name_of(image)] = archive
    return made


def make_pause(tree: container.Tree) -> dict[str, object]:
    compile_into("pause.c", ["-static"], lambda program: tree.file("/usr/bin/pause", program.read_bytes(), 0o755))
    return {"Entrypoint": ["/usr/bin/pause"]}


def make_busybox(tree: container.Tree) -> dict[str, object]:
    busybox = container.find_busybox()
    tree.file("/usr/bin/busybox", busybox.read_bytes(), 0o755)
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            tree.link(f"/usr/bin/{applet}", "busybox")
    return {"Cmd": ["sh"]}


def make_workload(tree: container.Tree) -> dict[str, object]:
    def add(program: Path) -> None:
        libraries, loader = container.closure(program)
        tree.file("/usr/bin/gpu-workload", program.read_bytes(), 0o755)
        for name, path in libraries.items():
            container.add_library(tree, name, path)
        container.add_loader(tree, loader)

    compile_into("workload.c", ["-ldl"], add)
    return {"Entrypoint": ["/usr/bin/gpu-workload"]}


def compile_into(source: str, flags: list[str], use: Callable[[Path], None]) -> None:
    """Hands over the program while it exists."""
    with tempfile.TemporaryDirectory(prefix="tranche-test-image-") as folder:
        program = Path(folder) / "program"
        done = subprocess.run([compiler(), *CFLAGS, "-o", program, HERE / source, *flags],
                              capture_output=True, text=True)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if "error:" in line] or [done.stderr.strip()]
            raise Trouble(f"{source} does not compile: {errors[0]}")
        use(program)


def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc")
    if not found:
        raise Missing("there is no C compiler; run `tools/install-packages build`")
    return found


def inputs_of(image: str) -> str:
    """All that the archive is made of: our files by content, the system's by their stamps."""
    sum_ = hashlib.sha256()
    for path in (Path(__file__).resolve(), TOOLS / "container.py", *sorted(HERE.glob("*.c"))):
        sum_.update(path.read_bytes())
    system = container.find_busybox() if image == "busybox" else Path(compiler()).resolve()
    for path in (system, *Path("/usr/lib").glob("*-linux-gnu/libc.*")):
        stat = path.stat()
        sum_.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return sum_.hexdigest()


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    try:
        for name, path in build_all(Path(sys.argv[1])).items():
            print(f"{path}: {name}")
    except Trouble as trouble:
        sys.exit(f"build: {trouble}")
