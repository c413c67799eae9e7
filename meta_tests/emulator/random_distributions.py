"""Draws random numbers on the card and on the CPU and compares their distributions; prints one JSON line per function.

A seed does not give the card's generator the CPU's numbers, so they cannot be compared one by one. The statistic is
that of Kolmogorov and Smirnov for two samples; with fixed seeds its outcome is the same at every run.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import torch
from scipy.stats import ks_2samp
from torch.nn import functional

COUNT = 20_000


def filled(method: str, *arguments: float) -> Callable[[str], torch.Tensor]:
    """A function that fills a tensor by one of the methods like `normal_`."""
    return lambda device: getattr(torch.empty(COUNT, device=device), method)(*arguments)


def ones(device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """What dropout is applied to."""
    return torch.ones(COUNT, device=device, dtype=dtype)


def probabilities(device: str) -> torch.Tensor:
    """All probabilities from 0 to 1."""
    return torch.linspace(0, 1, COUNT, device=device)


FUNCTIONS: dict[str, Callable[[str], torch.Tensor]] = {
    "uniform_": filled("uniform_", -1.0, 3.0),
    "normal_": filled("normal_", 2.0, 3.0),
    "exponential_": filled("exponential_", 1.5),
    "cauchy_": filled("cauchy_", 1.0, 2.0),
    "geometric_": filled("geometric_", 0.3),
    "log_normal_": filled("log_normal_", 0.5, 0.5),
    "bernoulli_": filled("bernoulli_", 0.3),
    "random_": filled("random_", 3, 17),
    "random_ without range": lambda device: torch.empty(COUNT, device=device, dtype=torch.int64).random_(),
    "normal of number and tensor": lambda device: torch.normal(1.0, 2 * probabilities(device)),
    "rand": lambda device: torch.rand(COUNT, device=device),
    "rand float16": lambda device: torch.rand(COUNT, device=device, dtype=torch.float16),
    "rand bfloat16": lambda device: torch.rand(COUNT, device=device, dtype=torch.bfloat16),
    "randn": lambda device: torch.randn(COUNT, device=device),
    "randn float16": lambda device: torch.randn(COUNT, device=device, dtype=torch.float16),
    "randn bfloat16": lambda device: torch.randn(COUNT, device=device, dtype=torch.bfloat16),
    "randint": lambda device: torch.randint(-5, 50, (COUNT,), device=device),
    "randint_like": lambda device: torch.randint_like(ones(device), 3, 40),
    "randperm": lambda device: torch.stack([torch.randperm(20, device=device) for _ in range(200)])[:, :5],
    "bernoulli": lambda device: probabilities(device)[torch.bernoulli(probabilities(device)).bool()],
    "normal of tensors": lambda device: torch.normal(6 * probabilities(device) - 3, 2 * probabilities(device)),
    "multinomial": lambda device: torch.multinomial(torch.tensor([1.0, 2, 3, 4], device=device), COUNT, True),
    "multinomial without replacement": lambda device: torch.multinomial(
        torch.arange(1.0, 21, device=device).expand(1000, 20), 5
    ),
    "dropout": lambda device: functional.dropout(ones(device), 0.2),
    "dropout float16": lambda device: functional.dropout(ones(device, torch.float16), 0.2),
    "dropout2d": lambda device: functional.dropout2d(ones(device).view(100, 50, 2, 2), 0.3),
    "alpha_dropout": lambda device: functional.alpha_dropout(ones(device), 0.3, training=True),
    "rrelu": lambda device: functional.rrelu(-ones(device), training=True),
    "poisson": lambda device: torch.poisson(3 * ones(device)),
}


def moments(values: torch.Tensor) -> list[float]:
    """Median and spread between the quartiles, which every distribution has."""
    low, middle, high = values.double().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    return [middle, high - low]


def main() -> None:
    """Compares all functions."""
    for name, function in FUNCTIONS.items():
        torch.manual_seed(1)
        expected = function("cpu").flatten()
        draws = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            draws += [function("npu"), function("npu")]
        first, second, again, _, other, _ = (draw.cpu().flatten() for draw in draws)
        record = {
            "function": name,
            "dtype": str(first.dtype) == str(expected.dtype),
            "devices": sorted({draw.device.type for draw in draws}),
            "reproducible": torch.equal(first, again),
            "advances": not torch.equal(first, second),
            "seeded": not torch.equal(first, other),
            "p_value": float(ks_2samp(first.double().numpy(), expected.double().numpy()).pvalue),
            "found": moments(first),
            "expected": moments(expected),
        }
        print(json.dumps(record), flush=True)  # noqa: T201 (read by the test)


if __name__ == "__main__":
    main()
