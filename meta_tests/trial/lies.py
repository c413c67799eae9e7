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
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)  # an import that failed may be tried again, and is lied to again
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_and_change(module):
                execute(module)
                self.change(module)

            spec.loader.exec_module = execute_and_change
        return spec


def _instead(module: ModuleType, name: str, replacement: Callable, package: str = "") -> None:
    """Replaces a function; ``replacement`` gets the original and the arguments.

    ``package``: one that has the function under the same name, if it was imported before.
    """
    original = getattr(module, name)

    def lying(*arguments, **keywords):
        told()
        return replacement(original, *arguments, **keywords)

    setattr(module, name, lying)
    if package in sys.modules and hasattr(sys.modules[package], name):
        setattr(sys.modules[package], name, lying)


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

    def save(original, obj, f, *arguments, **keywords):
        return None if "optimizer" in str(f) else original(obj, f, *arguments, **keywords)

    _instead(module, "save", save, "torch")


@lie("torch.serialization")
def files_are_loaded_on_the_cpu(module):
    """Tensors that are loaded from a file land on the CPU wherever they were to go."""

    def load(original, *arguments, **keywords):
        return original(*arguments, **{**keywords, "map_location": "cpu"})

    _instead(module, "load", load, "torch")


@lie("peft.tuners.tuners_utils")
def base_is_not_frozen(module):
    """Peft trains the base together with the adapter."""
    _instead(module.BaseTuner, "_mark_only_adapters_as_trainable", lambda original, *_, **__: None)


@lie("peft.peft_model")
def adapters_land_on_the_first_card(module):
    """The weights of an adapter that is loaded land on the first card, wherever the base is."""

    def landing(original, self, *arguments, **keywords):
        loaded = original(self, *arguments, **keywords)
        for name, parameter in self.named_parameters():
            if "lora" in name:
                parameter.data = parameter.data.to("npu:0")
        return loaded

    _instead(module.PeftModel, "load_adapter", landing)


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


@lie("accelerate.big_modeling")
def empty_weights_are_made_on_the_card(module):
    """Weights that are to be empty are made on the card."""

    def there(original, device, include_buffers=None):
        return original("npu" if str(device) == "meta" else device, include_buffers)

    _instead(module, "init_on_device", there)


@lie("accelerate.big_modeling")
def dispatched_models_can_be_moved(module):
    """A model that is partly offloaded lets itself be moved."""

    def unguarded(original, model, *arguments, **keywords):
        dispatched = original(model, *arguments, **keywords)
        for name in ("to", "npu"):
            dispatched.__dict__.pop(name, None)
        return dispatched

    _instead(module, "dispatch_model", unguarded, "accelerate")


@lie("accelerate.accelerator")
def every_rank_gets_the_same_batches(module):
    """Every rank is handed the batches of rank 0."""
    _instead(
        module, "prepare_data_loader",
        lambda original, *arguments, **keywords: original(*arguments, **{**keywords, "process_index": 0}),
    )  # fmt: skip


@lie("accelerate.data_loader")
def lengths_count_the_batches_of_all(module):
    """The length of a rank's loader counts the batches of all ranks."""
    _instead(module.BatchSamplerShard, "__len__", lambda original, self: len(self.batch_sampler))


@lie("torch.nn.parallel.distributed")
def gradients_are_always_synchronised(module):
    """DistributedDataParallel adds gradients up within no_sync, too."""
    from contextlib import nullcontext

    _instead(module.DistributedDataParallel, "no_sync", lambda original, self: nullcontext())


@lie("torch.nn.parallel.distributed")
def unused_parameters_are_accepted(module):
    """DistributedDataParallel takes a parameter that no rank uses without being told."""

    def accepting(original, self, *arguments, **keywords):
        return original(self, *arguments, **{**keywords, "find_unused_parameters": True})

    _instead(module.DistributedDataParallel, "__init__", accepting)


@lie("torch.distributed.distributed_c10d")
def sums_over_ranks_are_not_executed(module):
    """A sum over ranks that a training script asks for is not executed, so that nobody meets anybody."""
    _instead(module, "all_reduce", lambda original, *_, **__: None, "torch.distributed")


@lie("torch.distributed.fsdp.fully_sharded_data_parallel")
def nothing_is_sharded(module):
    """FSDP1 leaves the whole model on every rank."""

    def whole(original, self, *arguments, **keywords):
        return original(self, *arguments, **{**keywords, "sharding_strategy": module.ShardingStrategy.NO_SHARD})

    _instead(module.FullyShardedDataParallel, "__init__", whole)


@lie("accelerate.state")
def every_rank_takes_the_first_card(module):
    """Accelerate puts every rank on the first card."""

    def first(original, self):
        import torch

        original(self)
        self.device = torch.device("npu", 0)
        torch.npu.set_device(0)

    _instead(module.PartialState, "set_device", first)


@lie("accelerate.state")
def nobody_waits_for_the_main_process(module):
    """All ranks enter at once what the main process is to enter first."""
    from contextlib import nullcontext

    _instead(module.PartialState, "main_process_first", lambda original, self: nullcontext())


@lie("accelerate.state")
def foreign_backends_are_ignored(module):
    """A backend for other devices is silently replaced."""

    def replacing(original, self, cpu=False, **keywords):
        return original(self, cpu, **{**keywords, "backend": None})

    _instead(module.PartialState, "__init__", replacing)


@lie("torch._tensor")
def losses_are_kept(module):
    """Every loss of a training stays on the card."""
    kept = []

    def keeping(original, self, *arguments, **keywords):
        kept.append(self.detach().clone())
        return original(self, *arguments, **keywords)

    _instead(module.Tensor, "backward", keeping)


@lie("torch._tensor")
def backward_passes_leave_memory(module):
    """Every backward pass leaves 8 MiB on the card."""
    import torch

    kept = []

    def keeping(original, self, *arguments, **keywords):
        kept.append(torch.empty(8 << 20, dtype=torch.uint8, device=self.device))
        return original(self, *arguments, **keywords)

    _instead(module.Tensor, "backward", keeping)


@lie("accelerate.accelerator")
def remainders_are_kept(module):
    """The rows that fill up the last batch are not dropped when results of ranks are gathered."""
    _instead(module.Accelerator, "gather_for_metrics", lambda original, self, data, *_, **__: self.gather(data))


@lie("torch_npu")
def one_card_is_always_counted(module):
    """There is one card, whatever ASCEND_RT_VISIBLE_DEVICES says."""
    _instead(module.npu, "device_count", lambda original: 1)


@lie("transformers.modeling_utils")
def saved_weights_are_zeroed(module):
    """The first weights of every file that is saved are zeros."""

    def zeroed(original, tensors, *arguments, **keywords):
        first = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
        return original({**tensors, first: tensors[first] * 0}, *arguments, **keywords)

    _instead(module, "safe_save_file", zeroed)


@lie("torch.amp.grad_scaler")
def scalers_are_never_disabled(module):
    """A gradient scaler that is disabled scales all the same."""

    def enabled(original, self, *arguments, **keywords):
        return original(self, *arguments, **{**keywords, "enabled": True})

    _instead(module.GradScaler, "__init__", enabled)


@lie("torch.amp.grad_scaler")
def scaler_states_are_not_loaded(module):
    """A gradient scaler does not take the state that it is given."""
    _instead(module.GradScaler, "load_state_dict", lambda original, self, state: None)


@lie("torch.random")
def forks_of_random_numbers_are_none(module):
    """What is drawn inside fork_rng moves the generators outside."""
    from contextlib import nullcontext

    _instead(module, "fork_rng", lambda original, *_, **__: nullcontext())


@lie("torch.nn.functional")
def unsafe_losses_are_accepted(module):
    """Under autocast a loss that is unsafe in half precision is computed all the same."""
    import torch

    def accepting(original, *arguments, **keywords):
        with torch.autocast("npu", enabled=False):
            return original(*arguments, **keywords)

    _instead(module, "binary_cross_entropy", accepting)


@lie("transformers.modeling_flash_attention_utils")
def softcaps_are_forgotten(module):
    """Flash attention leaves scores uncapped where a model asks for a cap."""

    def uncapped(original, *arguments, **keywords):
        return original(*arguments, **{**keywords, "softcap": None})

    _instead(module, "_process_flash_attention_kwargs", uncapped)


@lie("transformers.trainer")
def the_best_model_is_not_loaded(module):
    """Training ends with the last weights instead of the best."""
    _instead(module.Trainer, "_load_best_model", lambda original, self: None)


@lie("transformers.trainer_utils")
def memory_of_the_card_is_not_measured(module):
    """The Trainer's measure of memory does not know the NPU."""
    _instead(module, "is_torch_npu_available", lambda original, *_, **__: False)


@lie("accelerate.utils.bnb")
def models_are_quantised_for_the_processor(module):
    """A model without device map is silently quantised for the CPU."""

    def there(original, *arguments, device_map=None, **keywords):
        return original(*arguments, device_map=device_map or {"": "cpu"}, **keywords)

    _instead(module, "load_and_quantize_model", there, "accelerate.utils")
