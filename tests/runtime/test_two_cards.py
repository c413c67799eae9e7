"""Two cards in one process: tensors, copies, memory, checkpoints and random numbers of the card that is asked for."""

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.two_cards import SIZE, TwoCards

pytestmark = [pytest.mark.multi_npu, pytest.mark.runtime]


@pytest.fixture
def details(ranks):
    """What a process that sees two cards was answered; see workloads.two_cards."""
    return ranks(TwoCards(), 1, cards=2, launcher="python")[0].details


@requirement("runtime/second-card", level="core")
def test_tensors_land_on_the_second_card(details, evidence):
    """Every way of naming the second card puts a tensor there, and leaves the first one current."""
    import torch

    evidence.check_equal("devices", set(details["devices"].values()), {"npu:1"})
    evidence.check_equal("current card within its context and after", details["current"], (1, 0))
    expected = torch.arange(-6, 6).view(3, 4)
    evidence.check_equal("copies", details["copied"], dict.fromkeys(details["copied"], expected))
    evidence.check_equal("3 x", details["result"], 3 * expected)
    evidence.check_equal("bytes that the first card grew by", details["grown"][0], 0)
    assert SIZE <= details["grown"][1] <= SIZE + 1024


@requirement("runtime/cards-do-not-mix", level="core")
def test_tensors_of_two_cards_do_not_mix(details, evidence):
    """An operation on tensors of two cards is an error that says so."""
    refused = "Expected all tensors to be on the same device" in details["mixed"]
    evidence.add(said=details["mixed"])
    evidence.check_equal("refused", refused, True)


@requirement("runtime/gradients-on-the-second-card", level="core")
def test_gradients_on_the_second_card(details, evidence):
    """A step on the second card while the first one is current has gradients as exact as the CPU's."""
    step = details["step"]
    evidence.check_gradients(step["card"], step["truth"], step["peer"])


@pytest.mark.checkpoint
@requirement("runtime/map-location-of-two-cards", level="core")
def test_files_are_loaded_on_the_card_asked_for(details, evidence):
    """What was saved from the CPU or any card is loaded, bit for bit, where map_location says, else where it was."""
    import torch

    expected = torch.arange(-6, 6).view(3, 4)
    for (place, saved_from), (device, tensor) in details["loaded"].items():
        evidence.check_equal(f"device, saved from {saved_from}, for {place}", device, place or saved_from)
        evidence.check_equal(f"tensor saved from {saved_from}, for {place}", tensor, expected)


@requirement("runtime/random-numbers-of-two-cards", level="core")
def test_each_card_has_its_random_numbers(details, evidence):
    """One seed for all cards gives each the same numbers, and one card's state is set back without the other's."""
    drawn = details["drawn"]

    evidence.check_equal("numbers of both cards", drawn["seeded"][1], drawn["seeded"][0])
    evidence.check_equal("second card, set back", drawn["set back"], drawn["following"][1])
    assert not bool((drawn["other"] == drawn["following"][0]).all())
    assert not bool((drawn["following"][0] == drawn["seeded"][0]).all())
