"""Lies of libraries: what a broken card cannot do, such as a command that does not mention the NPU.

A lie is a function that changes one module of a library; its docstring is the lie. ``activate`` applies it to a module
that is imported already, or the moment it is imported, here and in the processes that a test starts. Standard library
only: it is loaded by every Python that starts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

NAME, LOG = "NPU_CONFORMANCE_LIE", "NPU_CONFORMANCE_LIE_LOG"
LIAR = Path(__file__).parent / "liar"  # its sitecustomize.py brings the lie into the processes that a test starts
LIES: dict[str, tuple[str, Callable[[ModuleType], None]]] = {}


def lie(module: str):
    """Declares a lie that changes this module."""

    def add(function):
        LIES[function.__name__] = module, function
        return function

    return add


def activate(name: str, log: Path) -> None:
    """Has a library lie in this process and in all that it starts; nothing for ""."""
    if not name:
        return
    os.environ[NAME], os.environ[LOG] = name, str(log)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(LIAR), os.environ.get("PYTHONPATH")]))
    install()


def install() -> None:
    """Applies the lie that the environment names, now or once its module is imported."""
    module, change = LIES[os.environ[NAME]]
    if module in sys.modules:
        change(sys.modules[module])
    else:
        sys.meta_path.insert(0, _AfterImport(module, change))


def told() -> None:
    """Notes that the lie was told, as the emulator's log notes that a fault fired."""
    with open(os.environ[LOG], "a") as log:
        log.write(json.dumps({"pid": os.getpid(), "fault": os.environ[NAME], "fired": 1}) + "\n")


class _AfterImport:
    """A finder that lets one module be imported as always and then changes it."""

    def __init__(self, module: str, change: Callable[[ModuleType], None]):
        self.module, self.change = module, change

    def find_spec(self, name, path=None, target=None):
        """The module's spec, with a loader that also changes it; None for all other modules."""
        if name != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_and_change(module):
                execute(module)
                self.change(module)

            spec.loader.exec_module = execute_and_change
        return spec


def _instead(module: ModuleType, name: str, replacement: Callable) -> None:
    """Replaces a function; ``replacement`` gets the original and the arguments."""
    original = getattr(module, name)

    def lying(*arguments, **keywords):
        told()
        return replacement(original, *arguments, **keywords)

    setattr(module, name, lying)


@lie("accelerate.commands.env")
def accelerate_env_sees_no_npu(module):
    """The output of accelerate env does not mention the NPU."""
    _instead(module, "is_npu_available", lambda original, *_, **__: False)


@lie("accelerate.commands.config.default")
def default_configuration_takes_the_cpu(module):
    """The default configuration of accelerate is one for the CPU."""
    _instead(module, "is_npu_available", lambda original, *_, **__: False)


@lie("accelerate.commands.config.config_args")
def configuration_forgets_the_precision(module):
    """A configuration file loses its mixed precision when it is written."""

    def without_precision(original, self, *arguments):
        return {**original(self, *arguments), "mixed_precision": "no"}

    _instead(module.ClusterConfig, "to_dict", without_precision)


@lie("accelerate.utils")
def bfloat16_is_always_available(module):
    """Accelerate finds bfloat16 available whatever torch_npu says."""
    _instead(module, "is_bf16_available", lambda original, *_, **__: True)


@lie("transformers.cli.system")
def transformers_env_sees_no_npu(module):
    """The output of transformers env does not mention the NPU."""
    _instead(module, "is_torch_npu_available", lambda original, *_, **__: False)


@lie("peft.utils")
def peft_chooses_the_cpu(module):
    """Peft does not choose the NPU that is there."""
    _instead(module, "infer_device", lambda original: "cpu")


@lie("transformers.training_args")
def bfloat16_is_refused(module):
    """The Trainer's arguments refuse bfloat16 on a chip that has it."""
    _instead(module, "is_torch_bf16_gpu_available", lambda original, *_, **__: False)


@lie("torch.serialization")
def saved_optimizers_are_lost(module):
    """Files of optimizers are not written."""
    import torch

    def save(original, obj, f, *arguments, **keywords):
        return None if "optimizer" in str(f) else original(obj, f, *arguments, **keywords)

    _instead(torch, "save", save)


@lie("torch.serialization")
def files_are_loaded_on_the_cpu(module):
    """Tensors that are loaded from a file land on the CPU wherever they were to go."""
    import torch

    def load(original, *arguments, **keywords):
        return original(*arguments, **{**keywords, "map_location": "cpu"})

    _instead(torch, "load", load)


@lie("peft.tuners.tuners_utils")
def base_is_not_frozen(module):
    """Peft trains the base together with the adapter."""
    _instead(module.BaseTuner, "_mark_only_adapters_as_trainable", lambda original, *_, **__: None)


@lie("transformers.trainer")
def batches_are_not_skipped(module):
    """A run resumed within an epoch begins the epoch anew."""
    _instead(module, "skip_first_batches", lambda original, dataloader, number: dataloader)


@lie("accelerate.accelerator")
def skipped_batches_are_not_skipped(module):
    """Accelerate skips no batch of an epoch that is resumed."""
    _instead(module, "skip_first_batches", lambda original, dataloader, number=0: dataloader)


@lie("trl.trainer.dpo_trainer")
def a_module_of_trl_does_not_import(module):
    """A module of trl cannot be imported where there is an NPU."""
    told()
    raise RuntimeError("no kernel image for this device")


@lie("torch.amp.autocast_mode")
def autocast_never_ends(module):
    """Autocast goes on after its region has ended."""
    _instead(module.autocast, "__exit__", lambda original, self, *error: None)


@lie("torch_npu")
def bfloat16_support_is_told_wrong(module):
    """Whether the chip has bfloat16 is told the wrong way round."""
    _instead(module.npu, "is_bf16_supported", lambda original, *_, **__: not original())


@lie("torch_npu")
def peak_memory_is_not_reset(module):
    """The peak of memory cannot be reset."""
    _instead(module.npu, "reset_peak_memory_stats", lambda original, *_, **__: None)


@lie("torch.amp.grad_scaler")
def float16_gradients_are_accepted(module):
    """The gradient scaler unscales gradients of float16 weights instead of refusing them."""

    def accepting(original, self, optimizer, scale, found, allow_fp16):
        return original(self, optimizer, scale, found, True)

    _instead(module.GradScaler, "_unscale_grads_", accepting)


@lie("datasets.arrow_dataset")
def processes_lose_rows(module):
    """A dataset that is mapped by several processes loses its last row."""

    def losing(original, self, *arguments, **keywords):
        mapped = original(self, *arguments, **keywords)
        return mapped.select(range(len(mapped) - 1)) if keywords.get("num_proc") else mapped

    _instead(module.Dataset, "map", losing)


@lie("accelerate.state")
def training_takes_the_cpu(module):
    """Training silently takes the CPU."""

    def on_the_cpu(original, self, cpu=False, **keywords):
        return original(self, cpu=True, **keywords)

    _instead(module.PartialState, "__init__", on_the_cpu)
