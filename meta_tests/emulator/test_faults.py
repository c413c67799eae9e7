"""Faults: the grammar, which calls they hit, what they do, and what the log says of them."""

import os
import signal

import pytest

REFUSED = [
    ("aclnnMm", "expected PATTERN:ACTION"),
    (":zero", "expected PATTERN:ACTION"),
    ("aclnn Mm:zero", "characters that no name has"),
    ("aclnnMm:", "an empty action"),
    ("aclnnMm:zero,,null", "an empty action"),
    ("aclnnMm:explode", "unknown action 'explode'; known are scale, bias"),
    ("aclnnMm:scale", "'scale' expects a number, not ''"),
    ("aclnnMm:scale=", "has no value after '='"),
    ("aclnnMm:scale=much", "'scale' expects a number, not 'much'"),
    ("aclnnMm:scale=nan", "'scale' expects a number, not 'nan'"),
    ("aclnnMm:scale=2,scale=3", "'scale' stands there twice"),
    ("aclnnMm:noise=0", "'noise' expects a positive number"),
    ("aclnnMm:zero=1", "'zero' expects no value"),
    ("aclnnMm:tail=-1", "'tail' expects a whole number from 0"),
    ("aclnnMm:nan=1.5", "'nan' expects a whole number from 0"),
    ("aclnnMm:round=fp8", "one of bf16, fp16, trunc"),
    ("aclnnMm:ignore", "the name of an argument"),
    ("aclnnMm:output=1", "there is none"),
    ("HcclAllReduce:reduce=average", "one of sum, prod, max, min"),
    ("*:delay=soon", "a time in seconds"),
    ("*:crash=HARD", "a signal (SEGV"),
    ("*:fail=0", "a positive error code"),
    ("aclnnMm:zero@", "an empty selector"),
    ("aclnnMm:zero@call=0", "a whole number from 1"),
    ("aclnnMm:zero@call=1,call=2", "'call' stands there twice"),
    ("aclnnMm:zero@time=3", "unknown selector 'time'; known are call, every"),
    ("aclnnMm:zero@card=2", "there is no card 2"),
    ("aclnnMm:zero@dtype=float", "unknown dtype 'float'; known are fp64, fp32"),
    ("aclnnMm:zero@stream=main", "knows only 'side'"),
    ("aclnnAdd:zero;aclnnMm:explode", "in the fault 'aclnnMm:explode'"),
]


@pytest.mark.parametrize(("line", "problem"), REFUSED, ids=[line for line, _ in REFUSED])
def test_a_bad_line_is_refused(emulated, line, problem):
    """A fault that is not valid ends the process at its start with what is wrong in which line, and the grammar."""
    run = emulated("raise SystemExit('the program ran')", runtime=True, faults=line)

    assert run.returncode == 2
    assert run.stderr.startswith(f"emulator: NPU_EMULATOR_FAULTS: in the fault '{line.split(';')[-1]}': ")
    assert problem in run.stderr.splitlines()[0]
    assert "PATTERN:ACTION[,ACTION...][@SELECTOR[,SELECTOR...]]" in run.stderr


def test_lines_may_be_empty_or_spaced(emulated):
    """Blanks around lines and empty lines between semicolons are of no account."""
    run = emulated("malloc(64)", runtime=True, faults=" aclrtMalloc:delay=0 ;; aclrtFree:leak;").succeeded()

    assert run.fired == {"aclrtMalloc:delay=0": 1, "aclrtFree:leak": 0}


# ---- selectors ----


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ("call=3", [3]),
        ("every=4", [4, 8, 12]),
        ("after=10", [11, 12]),
        ("after=4,every=4", [8, 12]),
        ("min-numel=11", [11, 12]),
        ("min-numel=5,call=2", [6]),
        ("dtype=bytes,call=1", [1]),
        ("dtype=fp32", []),
        ("card=0,call=1", [1]),
        ("card=1", []),
        ("rank=3,call=1", [1]),
        ("rank=0", []),
        ("stream=side", []),
    ],
)
def test_selectors(emulated, selectors, expected):
    """Selectors narrow a fault down; call, every and after count the calls that match all the others."""
    line = f"aclrtMemset:null@{selectors}"

    run = emulated(
        """
        block = malloc(64)
        for number in range(1, 13):
            ok(acl.aclrtMemset(block, 64, number, number))
            if download(block, 1) != bytes([number]):
                print(number)
        """,
        runtime=True,
        faults=line,
        environment={"RANK": "3"},
    ).succeeded()

    assert run.stdout.split() == [str(number) for number in expected]
    assert run.fired == {line: len(expected)}


def test_operators_are_selected_by_every_dtype(emulated):
    """`dtype=` selects an operator of each type that a tensor has, the unsigned ones included."""
    types = ["fp64", "fp32", "fp16", "bf16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"]
    names = ["float64", "float32", "float16", "bfloat16", *types[4:], "bool", "complex64", "complex128"]
    lines = [f"*:delay=0@min-numel=77,dtype={name}" for name in [*types, *names[-3:]]]

    run = emulated(
        f"""
        import torch
        for name in {names}:
            torch.zeros(77, dtype=getattr(torch, name), device="npu").zero_()
        torch.npu.synchronize()
        """,
        faults=";".join(lines),
    ).succeeded()

    assert [line for line in lines if not run.fired[line]] == []


def test_cards_are_selected_by_their_number_on_the_machine(emulated):
    """`card=C` means the card's own number, also where ASCEND_RT_VISIBLE_DEVICES renumbers the visible ones."""
    run = emulated(
        """
        for index in range(2):
            ok(acl.aclrtSetDevice(index))
            malloc(64)
        """,
        runtime=True,
        cards=4,
        faults="aclrtMalloc:delay=0@card=3;aclrtMalloc:delay=0@card=0",
        environment={"ASCEND_RT_VISIBLE_DEVICES": "1,3"},
    ).succeeded()

    assert run.fired == {"aclrtMalloc:delay=0@card=3": 1, "aclrtMalloc:delay=0@card=0": 0}


def test_side_streams_are_all_but_the_first_of_a_card(emulated):
    """`stream=side` selects the calls on any stream but the card's first, which is torch_npu's default stream."""
    line = "aclrtMemcpyAsync:null@stream=side"
    run = emulated(
        """
        first, second = stream(), stream()
        block = malloc(64)
        for number, s in enumerate((first, second, None, second)):
            ok(acl.aclrtMemcpyAsync(block, 64, bytes([number]), 1, TO_DEVICE, s))
            print(download(block, 1)[0])
        """,
        runtime=True,
        faults=line,
    ).succeeded()

    assert run.stdout.split() == ["0", "0", "2", "2"]
    assert run.fired == {line: 2}


def test_patterns_are_those_of_a_shell(emulated):
    """A pattern may hold *, ? and [...]; without them it is the whole name."""
    lines = ["aclrtMalloc", "aclrtM*", "aclrtMallo?", "aclrt[MX]alloc", "*", "Malloc", "aclrtmalloc"]
    run = emulated("malloc(64)", runtime=True, faults=";".join(f"{line}:delay=0" for line in lines)).succeeded()

    assert [line for line in lines if run.fired[f"{line}:delay=0"]] == lines[:5]


# ---- what faults of the runtime do ----


def test_copies_that_do_not_arrive(emulated):
    """A copy can be dropped, lose its last bytes, or deliver what the previous one carried."""
    run = emulated(
        """
        block = malloc(64)
        for data in (b"aaaa", b"bbbb", b"cccc", b"dddd"):
            upload(block, data)
            print(download(block, 4).decode())
        """,
        runtime=True,
        faults="aclrtMemcpy:null@call=3;aclrtMemcpy:tail=3@call=5;aclrtMemcpy:stale@call=7",
    )

    # Calls 1, 3, 5 and 7 upload, the others download.
    assert run.stdout.split() == ["aaaa", "aaaa", "caaa", "caaa"]


def test_memory_that_leaks_and_lies(emulated):
    """`leak` keeps freed memory counted as in use; scale on aclrtGetMemInfo changes what the card says is free."""
    emulated(
        """
        all_of_it = free_bytes()
        ok(acl.aclrtFree(malloc(1 << 20)))
        assert free_bytes() == (all_of_it - (1 << 20)) // 2
        """,
        runtime=True,
        faults="aclrtFree:leak;aclrtGetMemInfo:scale=0.5@call=2",
    ).succeeded()


def test_a_synchronisation_that_returns_early(emulated):
    """With `null` a synchronisation, or a stream's wait for an event, does not wait."""
    emulated(
        """
        slow, hasty, mark, block, other = stream(), stream(), event(), malloc(64), malloc(64)
        upload(block, b"old")
        ok(acl.aclrtMemcpyAsync(block, 64, b"new!", 4, TO_DEVICE, slow))
        ok(acl.aclrtRecordEvent(mark, slow))
        ok(acl.aclrtStreamWaitEvent(hasty, mark))
        ok(acl.aclrtMemcpyAsync(other, 64, block, 3, ON_DEVICE, hasty))
        ok(acl.aclrtSynchronizeStream(slow))
        assert download(block, 3) == b"old"
        ok(acl.aclrtSynchronizeDevice())
        assert (download(block, 3), download(other, 3)) == (b"new", b"old")
        """,
        runtime=True,
        asynchronous=1,
        faults="aclrtSynchronizeStream:null;aclrtStreamWaitEvent:null;aclrtMemcpyAsync:delay=3@min-numel=4",
    ).succeeded()


def test_a_device_that_is_not_changed_to(emulated):
    """With `null` aclrtSetDevice leaves a thread on the card that it had, so that its memory lands there."""
    emulated(
        """
        ok(acl.aclrtSetDevice(0))
        all_of_it = free_bytes()
        ok(acl.aclrtSetDevice(1))
        malloc(4096)
        assert free_bytes() == all_of_it - 4096
        """,
        runtime=True,
        faults="aclrtSetDevice:null@call=2",
    ).succeeded()


def test_times_that_are_wrong(emulated):
    """`bias` on aclrtEventElapsedTime adds milliseconds."""
    emulated(
        """
        first, second, elapsed = event(), event(), c_float()
        ok(acl.aclrtRecordEvent(first, None))
        ok(acl.aclrtRecordEvent(second, None))
        ok(acl.aclrtEventElapsedTime(byref(elapsed), first, second))
        assert elapsed.value >= 100000
        """,
        runtime=True,
        faults="aclrtEventElapsedTime:bias=100000",
    ).succeeded()


def test_a_call_that_fails(emulated):
    """`fail=CODE` makes the call return the code, with a text that names the call and the fault, and do nothing."""
    emulated(
        """
        block = malloc(64)
        all_of_it = free_bytes()
        pointer = c_void_p()
        assert acl.aclrtMalloc(byref(pointer), c_size_t(4096), 0) == 207001
        assert error() == "aclrtMalloc: injected by the fault aclrtMalloc:fail=207001@call=2"
        assert free_bytes() == all_of_it
        malloc(64)
        """,
        runtime=True,
        faults="aclrtMalloc:fail=207001@call=2",
    ).succeeded()


@pytest.mark.parametrize(("action", "number"), [("crash", signal.SIGSEGV), ("crash=KILL", signal.SIGKILL)])
def test_a_crash(emulated, action, number):
    """`crash` ends the process by a signal, SIGSEGV unless it says which; the log is complete all the same."""
    run = emulated("malloc(64)\nmalloc(64)", runtime=True, faults=f"aclrtMalloc:{action}@call=2")

    assert run.returncode == -number
    assert run.fired == {f"aclrtMalloc:{action}@call=2": 1}
    assert run.calls["aclrtMalloc"] == 2


def test_a_hang(emulated):
    """`hang` never returns; the log has what happened until then."""
    run = emulated(
        """
        import os, threading, time
        def end_when_it_hangs(log=os.environ["NPU_EMULATOR_LOG"]):
            while not os.path.exists(log) or '"call"' not in open(log).read():
                time.sleep(0.01)
            os._exit(9)
        threading.Thread(target=end_when_it_hangs).start()
        malloc(64)
        """,
        runtime=True,
        faults="aclrtMalloc:hang",
    )

    assert run.returncode == 9
    assert (run.fired, run.calls) == ({"aclrtMalloc:hang": 1}, {"aclrtMalloc": 1})


# ---- what faults of operators do, through torch_npu ----

OPERATOR_FAULTS = {
    "scale=2": [4, 6, 8, 10],
    "bias=1": [3, 4, 5, 6],
    "zero": [0, 0, 0, 0],
    "tail=1": [2, 3, 4, "old"],
    "nan=1": [2, "nan", 4, 5],
    "clip=3": [2, 3, 3, 3],
    "scale=2,bias=1": [5, 7, 9, 11],
    "null": ["old"] * 4,
}


@pytest.mark.parametrize("asynchronous", [0, 1], ids=["inline", "asynchronous"])
def test_faults_of_operators(emulated, asynchronous):
    """Each action does to the result of an operator what its name says, on the calls that its selector says."""
    lines = [f"aclnnAdd:{action}@call={call},dtype=fp32" for call, action in enumerate(OPERATOR_FAULTS, 1)]
    run = emulated(
        """
        import torch
        x, y, out = torch.tensor([1.0, 2, 3, 4]).npu(), torch.ones(4).npu(), torch.empty(4).npu()
        for _ in range(8):
            out.copy_(torch.tensor([-7.0] * 4))
            print(*torch.add(x, y, out=out).tolist())
        assert torch.add(x, y).tolist() == [2, 3, 4, 5]
        """,
        asynchronous=asynchronous,
        faults=";".join(lines),
    ).succeeded()

    rows = [["old" if word == "-7.0" else word for word in row.split()] for row in run.stdout.splitlines()]
    assert rows == [
        [value if isinstance(value, str) else f"{value:.1f}" for value in row] for row in OPERATOR_FAULTS.values()
    ]
    assert run.fired == dict.fromkeys(lines, 1)


# ---- the log ----


def test_the_log_counts_calls(emulated):
    """The log has how often each operator and runtime call was made, whatever the faults."""
    run = emulated(
        """
        import torch
        x = torch.ones(4, device="npu")
        for _ in range(5):
            x.mul_(2)
        x.cpu()
        """
    ).succeeded()

    assert run.calls["aclnnInplaceMuls"] == 5
    assert run.calls["aclrtSetDevice"] >= 1
    assert run.fired == {}


def test_a_fault_without_effect_has_not_fired(emulated):
    """A fault of which no action applies to the call, such as a scaled synchronisation, is logged as never fired."""
    lines = ["aclrtSynchronizeStream:scale=2", "aclrtMalloc:null", "aclrtFree:leak", "aclnnMm:zero"]
    run = emulated(
        "malloc(64)\nok(acl.aclrtSynchronizeStream(stream()))", runtime=True, faults=";".join(lines)
    ).succeeded()

    assert run.fired == dict.fromkeys(lines, 0)


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_firings_are_logged_however_the_process_ends(emulated, end):
    """How often a fault fired is right in the log also of a process that ends without cleaning up."""
    run = emulated(
        f"import os\nmalloc(64)\nmalloc(64)\n{end}", runtime=True, faults="aclrtMalloc:delay=0;aclrtFree:leak"
    )

    assert run.fired == {"aclrtMalloc:delay=0": 2, "aclrtFree:leak": 0}


def test_processes_log_for_themselves(emulated):
    """A forked child starts to count from nothing, and two processes that write one log lose nothing."""
    run = emulated(
        """
        import os
        malloc(64)
        children = []
        for _ in range(4):
            child = os.fork()
            if child == 0:
                for _ in range(100):
                    malloc(64)
                raise SystemExit
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        """,
        runtime=True,
        faults="aclrtMalloc:delay=0;aclrtMalloc:delay=0@call=50",
    ).succeeded()

    assert run.calls["aclrtMalloc"] == 401
    assert run.fired == {"aclrtMalloc:delay=0": 401, "aclrtMalloc:delay=0@call=50": 4}


def test_a_process_that_calls_nothing_logs_nothing(emulated, tmp_path):
    """A process that only loads the library, as the launcher does to check the settings, leaves no line in the log."""
    emulated("", runtime=True, faults="aclrtMalloc:delay=0").succeeded()

    assert not os.path.exists(tmp_path / "log.jsonl")
