"""Asks a kubelet's pod resources socket, and reads what it keeps in its checkpoint: with nothing of the
product's own, so that the product can be compared with it.

gRPC is one HTTP/2 stream here: the request's headers are sent as literals, of the answer only the data
is read.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

from ring import Ring

Held = dict[str, dict[str, list[str]]]  # container: resource: ids
DATA, HEADERS, SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def holders(ring: Ring) -> dict[str, Held]:
    """Who holds what, by the pod's name, as the kubelet tells it."""
    return dict(map(read_pod, messages(call(ring, "List", b""), 1)))


def holder(ring: Ring, name: str) -> Held | None:
    """The same of one pod; None when the kubelet refuses."""
    answer = call(ring, "Get", field(1, name.encode()) + field(2, b"default"))
    return read_pod(messages(answer, 1)[0])[1] if answer is not None else None


def read_pod(pod: bytes) -> tuple[str, Held]:
    held: Held = {}
    for container in messages(pod, 3):
        mine = held.setdefault(text(container, 1), {})
        for devices in messages(container, 2):
            mine.setdefault(text(devices, 1), []).extend(id.decode() for id in messages(devices, 2))
    return text(pod, 1), {name: {resource: sorted(ids) for resource, ids in sorted(mine.items())}
                          for name, mine in held.items()}


def checkpoint(ring: Ring) -> Any:
    """What the device manager would remember after a restart."""
    return json.loads(checkpoint_text(ring))


def checkpoint_text(ring: Ring) -> str:
    return (ring.node.var / "lib/kubelet/device-plugins/kubelet_internal_checkpoint").read_text()


def checksum(data: Any) -> int:
    """The kubelet's, of a checkpoint's data: FNV-32a over how Go prints them."""
    def strings(items: list[str]) -> str:
        return f"[{' '.join(items)}]"

    def entry(one: Any) -> str:
        nodes = " ".join(f"{node}:{strings(one['DeviceIDs'][node])}" for node in sorted(one["DeviceIDs"], key=int))
        answer = strings([str(byte) for byte in base64.b64decode(one["AllocResp"])])
        return (f"{{PodUID:(string){one['PodUID']} ContainerName:(string){one['ContainerName']} "
                f"ResourceName:(string){one['ResourceName']} "
                f"DeviceIDs:(checkpoint.DevicesPerNUMA)map[{nodes}] AllocResp:([]uint8){answer}}}")

    entries = data["PodDeviceEntries"]
    devices = data["RegisteredDevices"]
    registered = " ".join(f"{name}:{strings(devices[name])}" for name in sorted(devices))
    printed = ("(checkpoint.checkpointData){PodDeviceEntries:([]checkpoint.PodDevicesEntry)"
               + ("<nil>" if entries is None else strings([entry(one) for one in entries]))
               + f" RegisteredDevices:(map[string][]string)map[{registered}]}}")
    value = 2166136261
    for byte in printed.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


def given(ring: Ring, uid: str) -> dict[str, dict[str, Any]]:
    """The answers of Allocate that a pod's containers live with: container, resource, answer."""
    found: dict[str, dict[str, Any]] = {}
    for entry in checkpoint(ring)["Data"]["PodDeviceEntries"] or []:
        if entry["PodUID"] == uid:
            answer = read_allocation(base64.b64decode(entry["AllocResp"]))
            found.setdefault(entry["ContainerName"], {})[entry["ResourceName"]] = answer
    return found


def read_allocation(answer: bytes) -> dict[str, Any]:
    """ContainerAllocateResponse as `tranche try` prints it."""
    pairs = {name: {text(pair, 1): text(pair, 2) for pair in messages(answer, number)}
             for name, number in (("envs", 1), ("annotations", 4))}
    lists: dict[str, list[Any]] = {
        "mounts": [{"container_path": text(one, 1), "host_path": text(one, 2),
                    "read_only": any(value for number, value in fields(one) if number == 3)}
                   for one in messages(answer, 2)],
        "devices": [{"container_path": text(one, 1), "host_path": text(one, 2), "permissions": text(one, 3)}
                    for one in messages(answer, 3)],
        "cdi_devices": [{"name": text(one, 1)} for one in messages(answer, 5)],
    }
    return {name: value for name, value in (pairs | lists).items() if value}


# --- protobuf ---


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        if key & 7 == 0:
            value, at = varint(message, at)
            yield key >> 3, value
        elif key & 7 == 2:
            length, at = varint(message, at)
            yield key >> 3, message[at:at + length]
            at += length
        else:
            raise AssertionError(f"wire type {key & 7} in an answer of the kubelet")


def varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (message[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not message[at - 1] & 0x80:
            return value, at


def messages(message: bytes | None, number: int) -> list[bytes]:
    assert message is not None, "the kubelet refuses"
    return [value for found, value in fields(message) if found == number]


def text(message: bytes, number: int) -> str:
    found = messages(message, number)
    return found[-1].decode() if found else ""


def field(number: int, value: bytes) -> bytes:
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


# --- gRPC ---


def call(ring: Ring, method: str, request: bytes) -> bytes | None:
    """The answer; None for a refusal, which has no data."""
    folder = os.open(ring.node.var / "lib/kubelet/pod-resources", os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(20)
            stream.connect(f"/proc/self/fd/{folder}/kubelet.sock")  # a socket's path is short
            return talk(stream, f"/v1.PodResourcesLister/{method}", request)
    finally:
        os.close(folder)


def talk(stream: socket.socket, path: str, request: bytes) -> bytes | None:
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost",
               "content-type": "application/grpc", "te": "trailers"}
    block = b"".join(b"\0" + literal(name) + literal(value) for name, value in headers.items())
    stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"") +
                   frame(HEADERS, END_HEADERS, 1, block) +
                   frame(DATA, END_STREAM, 1, struct.pack(">BI", 0, len(request)) + request))
    answer = b""
    while True:
        length, kind, flags, number = struct.unpack(">IBBI", b"\0" + exactly(stream, 9))
        content = exactly(stream, length)
        if kind == SETTINGS and not flags & ACK:
            stream.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            stream.sendall(frame(PING, ACK, 0, content))
        elif kind == DATA:
            answer += content
        elif kind == GOAWAY:
            raise AssertionError("the kubelet does not want to talk")
        if number == 1 and flags & END_STREAM and kind in (DATA, HEADERS):
            return answer[5:] if answer else None


def literal(word: str) -> bytes:
    assert len(word) < 127
    return bytes([len(word)]) + word.encode()


def frame(kind: int, flags: int, number: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, number) + content


def exactly(stream: socket.socket, length: int) -> bytes:
    got = b""
    while len(got) < length:
        piece = stream.recv(length - len(got))
        assert piece, "the kubelet hung up"
        got += piece
    return got

