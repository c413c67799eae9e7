"""The plan of a run: no card is used twice, nothing starves, modules stay together, and cards are kept busy."""

import heapq
import random
import subprocess
import sys
import threading
import time

import pytest

from fixtures import durations
from fixtures.devices import CardPool
from fixtures.durations import Cost
from fixtures.leases import Leases
from fixtures.scheduling import Job, Plan, Slot
from reports.run import load


def simulate(plan: Plan, slots: list[Slot]) -> list[tuple[float, float, Job, Slot, tuple[int, ...]]]:
    """Runs a plan in made-up time: begin, end, test, worker and cards of each test, in order."""
    now, ran, ends, count = 0.0, [], [], 0
    while plan.pending or ends:
        while chosen := plan.next(slots, now):
            slot, job, cards = chosen
            plan.pending.remove(job)
            slot.job, slot.cards, slot.until = job, cards, now + job.cost.seconds
            ran.append((now, slot.until, job, slot, cards))
            count += 1
            heapq.heappush(ends, (slot.until, count, slot))
        assert ends, f"{len(plan.pending)} tests never start"
        now, _, slot = heapq.heappop(ends)
        slot.module, slot.job, slot.cards = slot.job.module, None, ()
    return ran


def bound(jobs: list[Job], cards: int) -> float:
    """No schedule can be shorter: the longest test, or all card seconds spread over all cards."""
    work = sum(job.cost.seconds * min(job.cost.cards, cards) for job in jobs)
    return max(max(job.cost.seconds for job in jobs), work / cards)


def a_suite(number: random.Random, modules: int, wide: float) -> list[Job]:
    """Made-up tests like the suite's: many short ones, a few long, some with 2, 4 or 8 cards."""
    jobs = []
    for module in range(modules):
        several = number.random() < wide
        for _ in range(number.randint(2, 12)):
            cards = number.choice((2, 2, 2, 4, 8)) if several else 1
            jobs.append(Job(len(jobs), f"module{module}", Cost(number.lognormvariate(1.2, 1.0), cards)))
    return jobs


@pytest.mark.parametrize("cards", [8, 16])
@pytest.mark.parametrize("wide", [0.0, 0.25], ids=["one card each", "some with several"])
@pytest.mark.parametrize("seed", range(5))
def test_cards_are_kept_busy(cards, wide, seed):
    """With the costs known, at least nine tenths of what is possible at all; no card has two tests at once."""
    jobs = a_suite(random.Random(seed), 60, wide)
    plan, slots = Plan(range(cards)), [Slot(card) for card in range(cards)]
    plan.pending = list(jobs)

    ran = simulate(plan, slots)

    assert sorted(job.index for _, _, job, _, _ in ran) == list(range(len(jobs)))
    for begin, end, job, slot, used in ran:
        assert len(used) == min(job.cost.cards, cards)
        assert job.cost.cards > 1 or used == (slot.card,)
        overlapping = [other for other in ran if other[2] is not job and other[0] < end and begin < other[1]]
        assert all(set(used).isdisjoint(other[4]) for other in overlapping)
    efficiency = bound(jobs, cards) / max(end for _, end, _, _, _ in ran)
    assert efficiency >= 0.9, f"{efficiency:.3f}"


def test_a_long_test_goes_first():
    """A test that takes as long as all others together is not left for the end."""
    plan = Plan((0, 1))
    plan.pending = [Job(0, "a", Cost(1.0)), Job(1, "b", Cost(10.0)), *(Job(n, "a", Cost(1.0)) for n in range(2, 11))]

    ran = simulate(plan, [Slot(0), Slot(1)])

    assert next(begin for begin, _, job, _, _ in ran if job.index == 1) == 0.0
    assert max(end for _, end, _, _, _ in ran) == 10.0


def test_modules_stay_together():
    """With work for everybody, the tests of a module run on one worker, where they share what was trained."""
    jobs = [Job(module * 4 + n, f"module{module}", Cost(1.0)) for module in range(8) for n in range(4)]
    plan, slots = Plan(range(4)), [Slot(card) for card in range(4)]
    plan.pending = list(jobs)

    ran = simulate(plan, slots)

    homes: dict[str, set[int]] = {}
    for _, _, job, slot, _ in ran:
        homes.setdefault(job.module, set()).add(slot.card)
    assert {len(cards) for cards in homes.values()} == {1}


def test_a_wide_test_does_not_starve():
    """A test with all cards that comes later is not overtaken for ever by those with one."""
    plan, slots = Plan(range(4)), [Slot(card) for card in range(4)]
    plan.pending = [Job(n, "a", Cost(1.0 + n % 3)) for n in range(100)]
    for _ in slots:
        chosen = plan.next(slots, 0.0)
        plan.pending.remove(chosen[1])
        chosen[0].job, chosen[0].cards, chosen[0].until = chosen[1], chosen[2], chosen[1].cost.seconds
    plan.pending.append(Job(100, "b", Cost(5.0, 4)))  # its worker died before it began

    now = 0.0
    for slot in sorted(slots, key=lambda slot: slot.until):
        now = slot.until
        slot.job, slot.cards = None, ()
        chosen = plan.next(slots, now)
        if chosen and chosen[1].index == 100:
            assert chosen[2] == (0, 1, 2, 3)
            return
        while chosen:
            assert now + chosen[1].cost.seconds <= max(slot.until for slot in slots), "it would make the wide one wait"
            plan.pending.remove(chosen[1])
            chosen[0].job, chosen[0].cards, chosen[0].until = chosen[1], chosen[2], now + chosen[1].cost.seconds
            chosen = plan.next(slots, now)
    raise AssertionError("it has not started when every card was free once")


def test_cards_without_a_worker():
    """With more cards than workers, a test with several takes those that nobody owns first."""
    plan, slots = Plan(range(4)), [Slot(0), Slot(1)]
    plan.pending = [Job(0, "a", Cost(5.0, 2)), Job(1, "b", Cost(1.0))]

    ran = simulate(plan, slots)

    assert ran[0][4] == (2, 3)
    assert ran[1][0] == 0.0


def test_a_lost_card():
    """A card that was lost is in no worker's hands and in no plan; the free ones of others are."""
    pool = CardPool((0, 1, 2))
    node = type("Node", (), {"gateway": type("Gateway", (), {"id": "gw0"}), "workerinput": {}})
    pool.pytest_configure_node(node)
    pool.retire(0, "does not compute")
    pool.pytest_testnodedown(node, "died")
    pool.pytest_configure_node(node)

    assert pool.usable == (1, 2)
    assert node.workerinput["card"] == 1


def test_costs_of_unknown_tests():
    """A test that was never recorded costs what its fellows do."""
    times = {"t/a.py::f[1]": Cost(2.0), "t/a.py::f[2]": Cost(4.0), "t/a.py::g": Cost(9.0)}

    assert durations.cost("t/a.py::f[3]", times).seconds == 3.0
    assert durations.cost("t/a.py::h", times).seconds == 4.0
    assert durations.cost("t/b.py::h", times) == durations.UNKNOWN


SLEEPING = """
import time

@pytest.mark.host
@pytest.mark.parametrize("number", range({count}))
@requirement("demo/sleeps")
def test_sleeps(leases, evidence, number):
    '''A card is leased.'''
    with leases.several({cards}) as held:
        begin = time.time()
        time.sleep(0.3)
        evidence.add(held=held, begin=begin, end=time.time())
    evidence.check_equal("cards", len(held), {cards})
"""


def overlaps(records: list[dict]) -> list[tuple]:
    """Pairs of tests that had a card in common at the same time."""
    spans = [(r["values"]["begin"], r["values"]["end"], set(r["values"]["held"])) for r in records]
    return [(a, b) for n, a in enumerate(spans) for b in spans[:n] if a[2] & b[2] and a[0] < b[1] and b[0] < a[1]]


def test_tests_with_several_cards(suite, a_loadable_cann):
    """Tests of two and of three cards on four workers neither deadlock nor share a card, and each is recorded."""
    code = SLEEPING.format(count=6, cards=2) + SLEEPING.format(count=2, cards=3).replace("sleeps", "waits")
    ran = suite(code, "-n", "4", env={"NPU_EMULATOR_CARDS": "4", **a_loadable_cann})

    assert set(ran.outcomes.values()) == {"PASS"}
    records = list(ran.tests.values())
    assert overlaps(records) == []
    assert sorted(len(record["leased"]) for record in records) == [2] * 6 + [3] * 2


def test_two_runs_on_one_box(suite, a_loadable_cann, pytester, tmp_path):
    """Two runs that share the directory of leases never use a card at the same time."""
    env = {"NPU_EMULATOR_CARDS": "2", "NPU_CONFORMANCE_LEASES": str(tmp_path / "leases"), **a_loadable_cann}
    suite(SLEEPING.format(count=4, cards=1), "--collect-only", "-q", env=env)
    command = [sys.executable, "-m", "pytest", "-n", "2"]
    runs = [subprocess.Popen([*command, f"--run-dir=run{number}"], cwd=pytester.path) for number in (1, 2)]
    assert [run.wait(120) for run in runs] == [0, 0]

    records = [test for number in (1, 2) for test in load(pytester.path / f"run{number}").tests]
    assert len(records) == 8
    assert overlaps(records) == []


def test_too_few_cards(suite, a_loadable_cann):
    """A test that needs more cards than there are is NOT_RUN, with both numbers."""
    code = """
    @requirement("demo/ranks")
    def test_ranks(ranks, evidence):
        '''Four cards agree.'''
        evidence.check_equal("ranks", len(ranks(object(), 4)), 4)
    """
    ran = suite(code, "-n", "2", env={"NPU_EMULATOR_CARDS": "2", **a_loadable_cann})

    assert ran.outcomes == {"test_ranks": "NOT_RUN"}
    assert ran.tests["test_ranks"]["reason"] == "needs 4 cards, 2 visible"


def test_waiting_is_not_hanging(tmp_path, suite, a_loadable_cann, pytester):
    """The time that a test waits for a card that another run has does not count against its own limit."""
    directory = tmp_path / "leases"
    other = Leases(directory, (0,))
    code = """
    @pytest.mark.host
    @requirement("demo/waits")
    def test_waits(leases, evidence):
        '''A card is waited for.'''
        with leases.card(0) as card:
            evidence.check_equal("card", card, 0)
    """
    env = {"NPU_EMULATOR_CARDS": "1", "NPU_CONFORMANCE_LEASES": str(directory), **a_loadable_cann}
    held = threading.Event()

    def hold() -> None:
        with other.card(0):
            held.set()
            state = pytester.path / "run/workers/gw0.state"
            end = time.monotonic() + 60
            while time.monotonic() < end and not (state.exists() and '"waiting"' in state.read_text()):
                time.sleep(0.05)
            time.sleep(3.5)  # longer than the limit

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    ran = suite(code, "-n", "1", "-o", "faulthandler_timeout=2", env=env)
    thread.join()

    assert ran.outcomes == {"test_waits": "PASS"}, ran.stdout
    assert ran.tests["test_waits"]["waited"] > 2
