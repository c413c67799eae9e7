"""Saving and loading the state of an accelerate loop: its files, registered objects, and a resume within an epoch."""

import pytest

from fixtures.requirement import requirement

pytestmark = [pytest.mark.single_npu, pytest.mark.checkpoint]


@pytest.fixture
def accelerator(npu, request):
    """An Accelerator on the card with float16; the shared state is as new before and after."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(mixed_precision="fp16")
    AcceleratorState._reset_state(reset_partial_state=True)


class Counter:
    """A state that is no tensor of the model."""

    def __init__(self):
        self.value = 0

    def state_dict(self) -> dict:
        """What is to be saved."""
        return {"value": self.value}

    def load_state_dict(self, state: dict) -> None:
        """The inverse."""
        self.value = state["value"]


def prepared(accelerator, length: int = 24):
    """A small model, AdamW and batches of 4 numbered rows, prepared."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=False)
    rows = TensorDataset(torch.randn(length, 3, generator=torch.Generator().manual_seed(1)), torch.arange(length))
    return accelerator.prepare(model, optimizer, DataLoader(rows, batch_size=4))


def train(accelerator, model, optimizer, batches) -> list[float]:
    """One step for each batch; the losses."""
    losses = []
    for x, number in batches:
        loss = (model(x).squeeze(-1).float() - number / 10).square().mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.fp16
@requirement("accelerate/resume-within-an-epoch", level="core")
def test_resume_within_an_epoch(accelerator, evidence, tmp_path):
    """From a state saved within an epoch, with skip_first_batches, training goes on to the losses of one run."""
    model, optimizer, batches = prepared(accelerator)
    whole = []
    for number, batch in enumerate(batches):
        whole += train(accelerator, model, optimizer, [batch])
        if number == 2:
            accelerator.save_state(tmp_path)

    accelerator.load_state(tmp_path)
    resumed = train(accelerator, model, optimizer, accelerator.skip_first_batches(batches, 3))

    evidence.check_equal("number of steps", [len(whole), len(resumed)], [6, 3])
    evidence.check_equal("losses", resumed, whole[3:])


@pytest.mark.fp16
@requirement("accelerate/state-files", level="core")
def test_state_has_every_part(accelerator, evidence, tmp_path):
    """A saved state has model, optimizer, scaler, random numbers and registered objects, and a CPU can read them."""
    import torch
    from safetensors.torch import load_file

    model, optimizer, batches = prepared(accelerator)
    counter = Counter()
    accelerator.register_for_checkpointing(counter)
    train(accelerator, model, optimizer, batches)
    counter.value = 7
    accelerator.save_state(tmp_path)
    scale = accelerator.scaler.get_scale()
    counter.value = 0
    accelerator.scaler.update(new_scale=2.0)
    accelerator.load_state(tmp_path)

    evidence.check_equal("registered object", counter.value, 7)
    evidence.check_equal("loss scale", accelerator.scaler.get_scale(), scale)
    names = {file.name for file in tmp_path.iterdir()}
    expected = {"model.safetensors", "optimizer.bin", "scaler.pt", "random_states_0.pkl", "custom_checkpoint_0.pkl"}
    evidence.check_equal("missing files", sorted(expected - names), [])
    weights = {name: tensor.cpu() for name, tensor in accelerator.unwrap_model(model).state_dict().items()}
    evidence.check_equal("weights in the file", load_file(tmp_path / "model.safetensors"), weights)
    moments = torch.load(tmp_path / "optimizer.bin", map_location="cpu", weights_only=True)["state"]
    devices = {str(value.device) for state in moments.values() for value in state.values() if torch.is_tensor(value)}
    evidence.check_equal("devices of the moments, read on the CPU", devices, {"cpu"})


@requirement("runtime/torch-load-map-location", level="core")
def test_files_are_loaded_where_asked(npu, evidence, tmp_path):
    """Tensors of every dtype saved from the card are loaded on the CPU or on a card as asked, bit for bit."""
    import torch

    dtypes = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool)
    expected = {str(dtype): torch.arange(-3, 9).view(3, 4).to(dtype) for dtype in dtypes}
    expected |= {"view": torch.arange(12.0).view(3, 4).t()[1:], "scalar": torch.tensor(1.5), "empty": torch.empty(0, 3)}
    torch.save({name: tensor.to("npu") for name, tensor in expected.items()}, tmp_path / "tensors.pt")

    for place in ("cpu", "npu", "npu:0", None):
        loaded = torch.load(tmp_path / "tensors.pt", map_location=place, weights_only=True)
        devices = {str(tensor.device) for tensor in loaded.values()}
        evidence.check_equal(f"devices for {place}", devices, {"cpu" if place == "cpu" else "npu:0"})
        evidence.check_equal(f"tensors for {place}", loaded, expected)
