"""Container images, written without a daemon and without a container tool.

A tree of files becomes a layer, layers and a configuration become an image, an image becomes an OCI
layout (a folder) or an archive of one (a tar, as `ctr images import` and `podman load` take it).
Nothing depends on the clock, on who builds, or on the order in which things were said: the same
input has the same digest. Everything is held in memory, so this is for small images.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Trouble(Exception):
    """One sentence, and what mends it."""


class Missing(Trouble):
    """Something is not installed: who can do without, skips."""


class Tree:
    """The files of a layer, by their path in the image. Folders above them are made; all is root's."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[tarfile.TarInfo, bytes]] = {}

    def _put(self, path: str, kind: bytes, mode: int, content: bytes = b"", target: str = "") -> None:
        path = path.strip("/")
        parent = os.path.dirname(path)
        if parent and parent not in self.entries:
            self.folder(parent)
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.size, info.linkname = kind, mode, len(content), target
        self.entries[path] = (info, content)

    def folder(self, path: str, mode: int = 0o755) -> None:
        self._put(path, tarfile.DIRTYPE, mode)

    def file(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        self._put(path, tarfile.REGTYPE, mode, content.encode() if isinstance(content, str) else content)

    def link(self, path: str, target: str) -> None:
        self._put(path, tarfile.SYMTYPE, 0o777, target=target)

    def size(self, *paths: str) -> int:
        """Bytes of the files at these paths, or of all."""
        return sum(len(content) for path, (_, content) in self.entries.items()
                   if not paths or "/" + path in paths)

    def tar(self) -> bytes:
        return make_tar([self.entries[path] for path in sorted(self.entries)])


def make_tar(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """All from the epoch and root's, which is what a fresh TarInfo says."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@dataclass(frozen=True)
class Image:
    """An image with its names; `blobs` are by digest."""

    names: tuple[str, ...]
    manifest: str
    blobs: dict[str, bytes] = field(repr=False)

    def files(self) -> dict[str, bytes]:
        """The files of its OCI layout."""
        manifests = [{"mediaType": MANIFEST, "digest": self.manifest, "size": len(self.blobs[self.manifest]),
                      "annotations": {"io.containerd.image.name": name,
                                      "org.opencontainers.image.ref.name": name}} for name in self.names]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        files = {"oci-layout": to_json({"imageLayoutVersion": "1.0.0"}), "index.json": to_json(index)}
        return files | {"blobs/" + digest.replace(":", "/"): blob for digest, blob in self.blobs.items()}

    def write_layout(self, folder: Path) -> None:
        for name, content in self.files().items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def write_archive(self, path: Path) -> None:
        """In place of an older one at once, so that nobody reads half an archive."""
        tree = Tree()
        for name, content in self.files().items():
            tree.file(name, content)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_bytes(tree.tar())
        fresh.rename(path)


def make_image(names: tuple[str, ...], trees: list[Tree], config: dict[str, object]) -> Image:
    """`config` as in the OCI image specification: Entrypoint, Env, Labels, …"""
    blobs: dict[str, bytes] = {}

    def keep(media_type: str, blob: bytes) -> dict[str, object]:
        digest = digest_of(blob)
        blobs[digest] = blob
        return {"mediaType": media_type, "digest": digest, "size": len(blob)}

    tars = [tree.tar() for tree in trees]
    layers = [keep(LAYER, gzip.compress(tar, 6, mtime=0)) for tar in tars]
    described = keep(CONFIG, to_json({
        "created": "1970-01-01T00:00:00Z",
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
    }))
    manifest = keep(MANIFEST, to_json(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}))
    return Image(names, str(manifest["digest"]), blobs)


def digest_of(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def to_json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


# --- what a program needs ---

# NVIDIA's driver libraries come from the host, and were built against a C library in several parts.
DRIVER_NEEDS = ("libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1")


def closure(program: Path) -> tuple[dict[str, Path], Path]:
    """The libraries that a program and a driver in it load, by soname, and the loader's name in it."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True)
    found = {name: Path(path).resolve() for name, path in re.findall(r"^\s*(\S+) => (/\S+) \(", said.stdout, re.M)}
    loader = re.search(r"^\s*(/\S+/ld-\S+) \(", said.stdout, re.M)
    lost = re.search(r"^\s*(\S+) => not found", said.stdout, re.M)
    if lost:
        raise Trouble(f"{lost.group(1)} is not on this machine; run `tools/install-packages build`")
    if said.returncode != 0 or not loader or "libc.so.6" not in found:
        raise Trouble(f"ldd does not say what {program.name} needs ({last_line(said.stdout + said.stderr)}); "
                      "build it for this machine, with its C library")
    return found | {name: found["libc.so.6"].with_name(name) for name in DRIVER_NEEDS}, Path(loader.group(1))


def find_busybox() -> Path:
    """A dynamic one would want libraries of its own."""
    for path in (Path("/usr/bin/busybox"), Path("/bin/busybox")):
        if path.exists() and b"/ld-linux" not in path.read_bytes():
            return path
    raise Missing("a static busybox is missing; run `tools/install-packages image`")


def add_library(tree: Tree, name: str, path: Path) -> None:
    tree.file(usr(path.with_name(name)), path.read_bytes(), 0o755)


def add_loader(tree: Tree, name: Path) -> None:
    """Where it lies, and under the name that programs have in them."""
    place = usr(name.resolve())
    tree.file(place, name.read_bytes(), 0o755)
    if usr(name) != place:
        tree.link(usr(name), place)


def add_skeleton(tree: Tree) -> None:
    """The folders that a runtime and the programs expect; /lib is /usr/lib."""
    for folder in ("dev", "etc", "proc", "run", "sys", "usr/bin", "usr/lib", "usr/lib64", "var"):
        tree.folder(folder)
    tree.folder("tmp", 0o1777)
    for name in ("bin", "lib", "lib64"):
        tree.link(name, f"usr/{name}")
    tree.link("var/run", "/run")


def usr(path: Path) -> str:
    """Where a file of the system lies in an image with this skeleton."""
    return re.sub(r"^/(bin|lib|lib64)/", r"/usr/\1/", str(path))


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it printed nothing"])[-1].strip()
