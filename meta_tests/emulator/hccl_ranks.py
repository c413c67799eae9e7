"""Ranks as forked processes that call libhccl.so by ctypes: quick to start, easy to kill, and without torch between.

    def body(rank):                    # runs in each rank
        return rank.all_reduce([1, 2])

    print(json.dumps(run(body, 2)))    # [{"result": [2.0, 4.0]}, {"result": [2.0, 4.0]}]

Needs the emulator's libraries: python -m emulator python ...
"""

import ctypes
import importlib.util
import json
import os
import signal
import struct
import time
from collections.abc import Callable, Sequence
from ctypes import byref, c_int, c_uint32, c_uint64, c_void_p
from pathlib import Path

SUM, PROD, MAX, MIN = range(4)
# The number of the type in HCCL, and its letter in struct; bf16 has none and travels as uint16.
DTYPES = {"int8": (0, "b"), "int16": (1, "h"), "int32": (2, "i"), "fp16": (3, "e"), "fp32": (4, "f"), "int64": (5, "q")}
DTYPES |= {"uint64": (6, "Q"), "uint8": (7, "B"), "fp64": (10, "d"), "bf16": (11, "H")}
ROOT_INFO_BYTES = 4108
TO_DEVICE, TO_HOST = 1, 2


class HcclError(Exception):
    """A call returned an error code."""

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code = code


def load_libraries() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """libascendcl.so and libhccl.so; the latter needs torch's libraries, which are not in LD_LIBRARY_PATH."""
    torch = Path(importlib.util.find_spec("torch").submodule_search_locations[0])
    for name in "libc10.so", "libtorch_cpu.so":
        ctypes.CDLL(str(torch / "lib" / name), mode=ctypes.RTLD_GLOBAL)
    acl, hccl = ctypes.CDLL("libascendcl.so"), ctypes.CDLL("libhccl.so")
    acl.aclGetRecentErrMsg.restype = ctypes.c_char_p
    acl.aclrtMemcpy.argtypes = [c_void_p, c_uint64, c_void_p, c_uint64, c_int]
    acl.aclrtFree.argtypes = [c_void_p]
    acl.aclrtSynchronizeStream.argtypes = [c_void_p]
    return acl, hccl


acl, hccl = load_libraries()


def check(code: int) -> None:
    """Raises HcclError for an error code."""
    if code:
        raise HcclError(code, acl.aclGetRecentErrMsg().decode())


class DeviceArray:
    """Numbers in the memory of the current card."""

    def __init__(self, values: Sequence[float], dtype: str):
        self.number, self.letter = DTYPES[dtype]
        self.count = len(values)
        data = struct.pack(f"{self.count}{self.letter}", *values)
        self.pointer = c_void_p()
        check(acl.aclrtMalloc(byref(self.pointer), c_uint64(max(1, len(data))), 0))
        check(acl.aclrtMemcpy(self.pointer, len(data), data, len(data), TO_DEVICE))

    def values(self) -> list[float]:
        """What is there now."""
        size = struct.calcsize(f"{self.count}{self.letter}")
        data = ctypes.create_string_buffer(max(1, size))
        check(acl.aclrtMemcpy(data, size, self.pointer, size, TO_HOST))
        return list(struct.unpack(f"{self.count}{self.letter}", data.raw[:size]))

    def __del__(self):
        acl.aclrtFree(self.pointer)


class Rank:
    """One rank of a communicator, on the card of its number. Collectives take and return lists of numbers."""

    def __init__(self, number: int, size: int, root_info: bytes):
        self.number, self.size, self.root_info = number, size, root_info
        self.handle = c_void_p()
        check(acl.aclrtSetDevice(number))

    def join(self) -> None:
        """Creates the communicator."""
        check(hccl.HcclCommInitRootInfo(c_uint32(self.size), self.root_info, c_uint32(self.number), byref(self.handle)))

    def part(self, members: Sequence[int], identity: int) -> "Rank":
        """This rank in a communicator of some of the ranks."""
        part = Rank.__new__(Rank)
        part.number, part.size, part.handle = members.index(self.number), len(members), c_void_p()
        ids = (c_uint32 * len(members))(*members)
        numbers = c_uint32(part.size), ids, c_uint64(identity), c_uint32(part.number)
        check(hccl.HcclCreateSubCommConfig(byref(self.handle), *numbers, None, byref(part.handle)))
        return part

    def destroy(self) -> None:
        """Destroys the communicator."""
        check(hccl.HcclCommDestroy(self.handle))

    def all_reduce(self, values, dtype="fp32", reduction=SUM):
        array = DeviceArray(values, dtype)
        self._call("HcclAllReduce", array.pointer, array.pointer, c_uint64(array.count), array.number, reduction)
        return array.values()

    def reduce(self, values, dtype="fp32", reduction=SUM, root=0):
        array = DeviceArray(values, dtype)
        what = array.pointer, array.pointer, c_uint64(array.count), array.number, reduction, c_uint32(root)
        self._call("HcclReduce", *what)
        return array.values()

    def broadcast(self, values, dtype="fp32", root=0):
        array = DeviceArray(values, dtype)
        self._call("HcclBroadcast", array.pointer, c_uint64(array.count), array.number, c_uint32(root))
        return array.values()

    def all_gather(self, values, dtype="fp32"):
        array, result = DeviceArray(values, dtype), DeviceArray([9] * len(values) * self.size, dtype)
        self._call("HcclAllGather", array.pointer, result.pointer, c_uint64(array.count), array.number)
        return result.values()

    def reduce_scatter(self, values, dtype="fp32", reduction=SUM):
        array, result = DeviceArray(values, dtype), DeviceArray([9] * (len(values) // self.size), dtype)
        self._call("HcclReduceScatter", array.pointer, result.pointer, c_uint64(result.count), array.number, reduction)
        return result.values()

    def scatter(self, values, dtype="fp32", root=0):
        array, result = DeviceArray(values, dtype), DeviceArray([9] * (len(values) // self.size), dtype)
        what = array.pointer, result.pointer, c_uint64(result.count), array.number, c_uint32(root)
        self._call("HcclScatter", *what)
        return result.values()

    def all_to_all(self, values, dtype="fp32"):
        array, result = DeviceArray(values, dtype), DeviceArray([9] * len(values), dtype)
        count = c_uint64(len(values) // self.size)
        self._call("HcclAlltoAll", array.pointer, count, array.number, result.pointer, count, array.number)
        return result.values()

    def all_to_all_v(self, values, send_counts, receive_counts, dtype="fp32"):
        array, result = DeviceArray(values, dtype), DeviceArray([9] * sum(receive_counts), dtype)

        def layout(counts):
            numbers = c_uint64 * len(counts)
            return numbers(*counts), numbers(*(sum(counts[:i]) for i in range(len(counts))))

        sent = array.pointer, *layout(send_counts), array.number
        self._call("HcclAlltoAllV", *sent, result.pointer, *layout(receive_counts), array.number)
        return result.values()

    def barrier(self):
        self._call("HcclBarrier")

    def send(self, values, peer, dtype="fp32"):
        array = DeviceArray(values, dtype)
        self._call("HcclSend", array.pointer, c_uint64(array.count), array.number, c_uint32(peer))

    def receive(self, count, peer, dtype="fp32"):
        array = DeviceArray([9] * count, dtype)
        self._call("HcclRecv", array.pointer, c_uint64(array.count), array.number, c_uint32(peer))
        return array.values()

    def _call(self, name: str, *arguments) -> None:
        """The call and the end of what it puts on the default stream."""
        check(getattr(hccl, name)(*arguments, self.handle, None))
        check(acl.aclrtSynchronizeStream(None))


def run(body: Callable[[Rank], object], size: int, join: bool = True) -> list[dict]:
    """Runs the body in `size` ranks at once and returns what became of each.

    {"result": what the body returned}, {"code": error code, "text": its text} or {"signal": number}, with the "seconds"
    that it took.
    """
    info, root = os.pipe()
    up, arrive = os.pipe()
    start, go = os.pipe()
    ranks = []
    for number in range(size):
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            play(body, number, size, info, root, writing, join, lambda: os.write(arrive, b".") and os.read(start, 1))
        os.close(writing)
        ranks.append((process, reading))
    # They begin together: how long one waits for another is then no matter of when the machine came to start that one.
    os.close(arrive)
    for _ in ranks:
        os.read(up, 1)
    os.write(go, b"." * size)
    outcomes = []
    for process, reading in ranks:
        with os.fdopen(reading, "rb") as pipe:
            text = pipe.read()
        status = os.waitpid(process, 0)[1]
        outcomes.append(json.loads(text) if text else {"signal": os.WTERMSIG(status)})
    return outcomes


def play(body, number: int, size: int, info: int, root: int, writing: int, join: bool, line_up: Callable) -> None:
    """One rank, in its own process. ``line_up()`` returns when all ranks have come as far."""
    signal.alarm(60)
    if number == 0:
        made = ctypes.create_string_buffer(ROOT_INFO_BYTES)
        check(hccl.HcclGetRootInfo(made))
        for _ in range(size):
            os.write(root, made.raw)
    root_info = b""
    while len(root_info) < ROOT_INFO_BYTES:
        root_info += os.read(info, ROOT_INFO_BYTES - len(root_info))
    line_up()
    started = time.monotonic()
    try:
        rank = Rank(number, size, root_info)
        if join:
            rank.join()
        outcome = {"result": body(rank)}
    except HcclError as error:
        outcome = {"code": error.code, "text": str(error)}
    os.write(writing, json.dumps({**outcome, "seconds": time.monotonic() - started}).encode())
    os.close(writing)
    os._exit(0)
