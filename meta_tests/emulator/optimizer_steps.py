"""Steps of optimizers on the emulated card and on the CPU.

    python -m emulator python -m meta_tests.emulator.optimizer_steps [REGEX]

prints one JSON line for each of CASES whose name begins as REGEX says (see Case and the fields of `compare`) and one
that names the optimizers of torch. All run in this one process, because importing torch takes longer than most steps.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

STEPS = 5
LEARNING_RATE = 0.05
SHAPES = ((7, 5), (11,), (3, 4, 2), (1,), ())


@dataclass(frozen=True)
class Case:
    """One optimizer with its arguments."""

    optimizer: str
    mode: str = ""  # "loop", "foreach", "fused", or "" where the optimizer knows no such choice
    dtype: str = "float32"
    arguments: Mapping = field(default_factory=dict, hash=False)
    of_torch_npu: bool = False  # from torch_npu.optim; its name without NpuFused is that of torch's
    tensors: int = 1  # how often each of SHAPES occurs

    def __str__(self) -> str:
        arguments = "-".join(f"{name}={value}" for name, value in self.arguments.items())
        many = "many" if self.tensors > 1 else ""
        return "-".join(filter(None, (self.optimizer, self.mode, self.dtype, arguments, many)))


# Arguments that lead to other operators than the defaults; lr is LEARNING_RATE for all.
ARGUMENTS = {
    "SGD": ({"momentum": 0.9, "weight_decay": 0.01}, {"momentum": 0.9, "nesterov": True, "maximize": True}),
    "Adam": ({}, {"weight_decay": 0.1, "amsgrad": True}, {"maximize": True}),
    "AdamW": ({}, {"weight_decay": 0.1, "amsgrad": True}, {"maximize": True}),
    "Adagrad": ({}, {"lr_decay": 0.1, "weight_decay": 0.1}),
    "Adadelta": ({}, {"weight_decay": 0.1}),
    "RMSprop": ({}, {"centered": True, "momentum": 0.9, "weight_decay": 0.1}),
}
DTYPES = ("float32", "bfloat16")
WITHOUT_MODE = ("LBFGS", "Muon", "SparseAdam")
WITH_FOREACH = ("ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop")
WITH_FOREACH += ("Rprop", "SGD")
WITH_FUSED = ("Adagrad", "Adam", "AdamW", "SGD")
OF_TORCH_NPU = ("NpuFusedAdadelta", "NpuFusedAdam", "NpuFusedAdamW", "NpuFusedRMSprop", "NpuFusedSGD")


def cases() -> list[Case]:
    """Every optimizer of torch in all its modes and in two dtypes, and those of torch_npu that have a twin in torch."""
    found = [Case(name, "", dtype) for name in WITHOUT_MODE for dtype in DTYPES]
    for name in WITH_FOREACH:
        for mode in ("loop", "foreach", *(("fused",) if name in WITH_FUSED else ())):
            found += [Case(name, mode, dtype, given) for given in ARGUMENTS.get(name, ({},)) for dtype in DTYPES]
    found += [Case("SGD", mode, dtype) for mode in ("loop", "foreach", "fused") for dtype in DTYPES]
    # More tensors than torch_npu hands to one operator over lists (12 to 48).
    found += [Case(name, "foreach", "float32", tensors=20) for name in ("AdamW", "Adagrad", "RMSprop")]
    for name in OF_TORCH_NPU:
        arguments = {"momentum": 0.9} if name == "NpuFusedSGD" else {"weight_decay": 0.1}
        found += [Case(name, "", dtype, arguments, of_torch_npu=True) for dtype in ("float32", "float16", "bfloat16")]
    return found


CASES = cases()


def optimizers_of_torch() -> list[str]:
    """The names of torch.optim's optimizers."""
    import torch

    classes = [member for member in vars(torch.optim).values() if inspect.isclass(member)]
    return sorted(
        c.__name__ for c in classes if issubclass(c, torch.optim.Optimizer) and c is not torch.optim.Optimizer
    )


def trained(case: Case, device: str, dtype: str, reference: bool):
    """The parameters after STEPS steps, in float64 and in one row. The same numbers enter in every dtype.

    `reference`: by torch's own optimizer, one parameter after the other.
    """
    import torch

    def rounded(shape):
        return torch.randn(shape, generator=generator).to(getattr(torch, case.dtype)).to(getattr(torch, dtype))

    generator = torch.Generator().manual_seed(0)
    shapes = SHAPES * case.tensors if case.optimizer != "Muon" else [(7, 5), (6, 6)]
    parameters = [rounded(shape).to(device).requires_grad_() for shape in shapes]
    arguments = {"lr": LEARNING_RATE, **case.arguments}
    if case.mode:
        arguments |= {"foreach": not reference and case.mode == "foreach"}
    if case.mode == "fused" and not reference:
        arguments = {**arguments, "fused": True, "foreach": None}
    name, library = case.optimizer, torch.optim
    if case.of_torch_npu and reference:
        name = name.removeprefix("NpuFused")
    elif case.of_torch_npu:
        import torch_npu

        library = torch_npu.optim
    optimizer = getattr(library, name)(parameters, **arguments)

    def closure():
        optimizer.zero_grad()
        loss = sum(((parameter - 1) ** 2).sum() for parameter in parameters)
        loss.backward()
        return loss

    for _ in range(STEPS):
        for parameter in parameters:
            gradient = rounded(parameter.shape).to(device)
            if case.optimizer == "SparseAdam" and gradient.dim():
                gradient = gradient.to_sparse(1)
            elif case.optimizer == "SparseAdam":
                gradient = None
            if parameter.grad is not None and case.of_torch_npu and not reference:
                parameter.grad.copy_(
                    gradient
                )  # torch_npu's optimizers keep the gradients of the first step in one buffer
            else:
                parameter.grad = gradient
        optimizer.step(*((closure,) if case.optimizer == "LBFGS" else ()))
    return torch.cat([parameter.detach().cpu().double().flatten() for parameter in parameters])


def compare(case: Case) -> dict:
    """The case's record: either the error on the card, or how the card differs from float64 and from the CPU.

    rms, max: the card's error over the CPU's, both against float64. equal: whether card and CPU give the same bits.
    """
    truth = trained(case, "cpu", "float64", reference=True)
    peer = trained(case, "cpu", case.dtype, reference=True)
    try:
        measured = trained(case, "npu", case.dtype, reference=False)
    except (RuntimeError, TypeError) as error:
        return {"case": str(case), "error": f"{type(error).__name__}: {error}"}
    ours, theirs = (measured - truth).abs(), (peer - truth).abs()
    return {
        "case": str(case),
        "rms": (ours.square().mean() / theirs.square().mean()).sqrt().item(),
        "max": (ours.max() / theirs.max()).item(),
        "equal": bool((measured == peer).all()),
    }


def write(record: dict) -> None:
    """Prints a record as a line."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    write({"optimizers": optimizers_of_torch()})
    for each in CASES:
        if re.match("".join(sys.argv[1:]), str(each)):
            write(compare(each))
