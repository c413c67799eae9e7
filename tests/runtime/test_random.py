"""Random numbers of the card: seeds, states, generators, and what the distributions promise."""

import math

import pytest

from fixtures.requirement import requirement

pytestmark = [pytest.mark.single_npu, pytest.mark.runtime]

MANY = 1 << 16
# A mean of n numbers is off by more than six standard errors once in five hundred million draws.
SIX_SIGMA = "six standard errors of the mean"


def draws() -> dict:
    """One draw from each distribution, from the card's default generator, copied to the CPU."""
    import torch

    ones = torch.ones(4, 9, device="npu")
    drawn = {
        "rand": torch.rand(33, device="npu"),
        "randn": torch.randn(33, device="npu"),
        "randint": torch.randint(0, 100, (33,), device="npu"),
        "randperm": torch.randperm(33, device="npu"),
        "bernoulli": torch.bernoulli(ones * 0.5),
        "dropout": torch.nn.functional.dropout(ones, 0.5),
        "multinomial": torch.multinomial(ones, 5),
        "normal_": torch.empty(33, device="npu").normal_(1.0, 2.0),
        "uniform_": torch.empty(33, device="npu").uniform_(-1.0, 1.0),
        "exponential_": torch.empty(33, device="npu").exponential_(),
        "rand_like": torch.rand_like(ones),
    }
    return {name: tensor.cpu() for name, tensor in drawn.items()}


@pytest.fixture
def seeded(npu):
    """seeded(seed) -> draws, with both generators seeded and put back in the end."""
    import torch

    host, card = torch.get_rng_state(), torch.npu.get_rng_state()

    def draw(seed: int) -> dict:
        torch.manual_seed(seed)
        return draws()

    yield draw
    torch.set_rng_state(host)
    torch.npu.set_rng_state(card)


@requirement("runtime/random-seed", level="core")
def test_seed_determines_the_numbers(seeded, evidence):
    """The seed given to torch.manual_seed determines every distribution's numbers on the card."""
    first, second, other = seeded(7), seeded(7), seeded(8)

    evidence.check_equal("numbers of the same seed", second, first)
    same = [name for name in first if first[name].equal(other[name])]
    evidence.check_equal("distributions that ignore the seed", same, [])


@requirement("runtime/random-goes-on", level="core")
def test_numbers_do_not_repeat(seeded, evidence):
    """Each draw goes on where the last one ended."""
    first, second = seeded(7), draws()

    same = [name for name in first if first[name].equal(second[name])]
    evidence.check_equal("distributions that repeat themselves", same, [])


@requirement("runtime/random-seed-interfaces", level="core")
def test_every_way_to_seed_agrees(seeded, evidence):
    """The card is seeded alike by torch, torch.npu, transformers and accelerate."""
    import accelerate.utils
    import torch
    import transformers

    expected = seeded(11)

    for seed in (torch.npu.manual_seed, torch.npu.manual_seed_all, transformers.set_seed, accelerate.utils.set_seed):
        seed(11)
        evidence.check_equal(f"{seed.__module__}.{seed.__name__}", draws(), expected)


@pytest.mark.checkpoint
@requirement("runtime/random-state", level="core")
def test_state_can_be_saved_and_restored(seeded, evidence, tmp_path):
    """The card's generator state, written to a file and restored, gives the same numbers again."""
    import torch

    seeded(3)
    torch.save(torch.npu.get_rng_state(), tmp_path / "state.pt")
    expected = draws()

    torch.npu.set_rng_state(torch.load(tmp_path / "state.pt", weights_only=True))

    evidence.check_equal("numbers after the state was restored", draws(), expected)
    states = torch.npu.get_rng_state_all()
    evidence.check_equal("number of states", len(states), torch.npu.device_count())
    expected = draws()
    torch.npu.set_rng_state_all(states)
    evidence.check_equal("numbers after all states were restored", draws(), expected)


@requirement("runtime/random-fork", level="extended")
def test_fork_rng_leaves_the_generator_alone(seeded, evidence):
    """What is drawn inside torch.random.fork_rng does not move the card's generator."""
    import torch

    seeded(3)
    state = torch.npu.get_rng_state()
    expected = draws()
    torch.npu.set_rng_state(state)

    with torch.random.fork_rng(devices=[torch.npu.current_device()], device_type="npu"):
        torch.manual_seed(99)
        draws()

    evidence.check_equal("numbers after the fork", draws(), expected)


@requirement("runtime/random-generators", level="core")
def test_generators_are_independent(seeded, evidence):
    """A generator of its own gives its seed's numbers, and neither it nor the card moves the CPU's generator."""
    import torch

    def own(seed: int):
        generator = torch.Generator(device="npu").manual_seed(seed)
        return torch.randn(33, device="npu", generator=generator), generator

    host = torch.get_rng_state()
    first, generator = own(5)
    draws()
    second, _ = own(5)

    evidence.check_equal("numbers of the same seed", second, first)
    state = generator.get_state()
    following = torch.randn(33, device="npu", generator=generator)
    generator.set_state(state)
    evidence.check_equal(
        "numbers of a restored generator", torch.randn(33, device="npu", generator=generator), following
    )
    assert not following.equal(first)
    evidence.check_equal("state of the CPU's generator", torch.get_rng_state(), host)


@requirement("runtime/random-distributions", level="core")
def test_distributions_have_their_moments(seeded, evidence):
    """Numbers of each distribution have its mean, its variance and its range."""
    import torch

    seeded(1)
    # Mean, variance, variance of the square of the deviation.
    moments = {
        "rand": (torch.rand(MANY, device="npu"), 1 / 2, 1 / 12, 1 / 180),
        "randn": (torch.randn(MANY, device="npu"), 0.0, 1.0, 2.0),
        "bernoulli": (torch.full((MANY,), 0.25, device="npu").bernoulli(), 1 / 4, 3 / 16, 3 / 64),
        "randint": (torch.randint(0, 2, (MANY,), device="npu").float(), 1 / 2, 1 / 4, 1 / 4),
    }
    for name, (numbers, mean, variance, spread) in moments.items():
        numbers = numbers.cpu().double()
        error = abs(numbers.mean().item() - mean)
        evidence.check_below(f"{name}: error of the mean", error, 6 * math.sqrt(variance / MANY), SIX_SIGMA)
        error = abs((numbers - mean).square().mean().item() - variance)
        evidence.check_below(f"{name}: error of the variance", error, 6 * math.sqrt(spread / MANY), SIX_SIGMA)
    rand = moments["rand"][0]
    evidence.check_equal("rand in [0, 1)", [bool((rand >= 0).all()), bool((rand < 1).all())], [True, True])
    permutation = torch.randperm(1000, device="npu").sort().values.cpu()
    evidence.check_equal("randperm, sorted", permutation, torch.arange(1000))
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0], device="npu")
    chosen = torch.multinomial(weights, MANY, replacement=True).cpu().bincount(minlength=4)
    evidence.check_equal("draws of what has no weight", chosen[[0, 2]].tolist(), [0, 0])
    error = abs(chosen[3].item() / MANY - 0.75)
    evidence.check_below("multinomial: error of a frequency", error, 6 * math.sqrt(3 / 16 / MANY), SIX_SIGMA)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@requirement("runtime/random-dropout", level="core")
def test_dropout_drops_its_share(seeded, evidence, p):
    """Dropout zeroes its share, scales the others, gives the gradient the same mask, and does nothing in evaluation."""
    import torch

    seeded(2)
    x = torch.ones(MANY, device="npu", requires_grad=True)

    output = torch.nn.functional.dropout(x, p)
    (gradient,) = torch.autograd.grad(output.sum(), x)

    dropped = (output == 0).float().mean().item()
    error = abs(dropped - p)
    evidence.check_below("error of the share", error, 6 * math.sqrt(p * (1 - p) / MANY), SIX_SIGMA)
    kept = output[output != 0].detach().cpu()
    wanted = torch.full_like(kept, 1 / (1 - p))
    evidence.check_tensor("what is kept", kept, wanted.double(), wanted)
    evidence.check_tensor("gradient", gradient.cpu(), output.detach().cpu().double(), output.detach().cpu())
    evidence.check_equal("in evaluation", torch.nn.functional.dropout(x, p, training=False), x)
