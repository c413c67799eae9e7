"""How accelerate hands out the rows of a data set to several cards, evenly or not, and gathers what belongs to them."""

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.accelerate_ranks import ROWS, everything
from fixtures.workloads.rank_seeds import RankSeeds
from fixtures.workloads.sharded_batches import LOADERS, SKIPPED, ShardedBatches

pytestmark = pytest.mark.multi_npu

WORLD_SIZES = [2, 4]
# Loaders of which accelerate does not learn how many rows of the last round are repeated.
REMAINDERS = ("skipped", "iterable")
SETTINGS = [(loader, world_size) for loader in LOADERS for world_size in WORLD_SIZES]


@pytest.fixture
def handed_out(ranks, reference):
    """handed_out(loader, world_size, rows) -> the details of each rank, and the order of one process."""

    def measure(loader: str, world_size: int, rows: int = 22):
        spec = ShardedBatches(loader, world_size, rows)
        measured = ranks(spec, world_size, together=everything(world_size))
        return [result.details for result in measured], reference(spec).details["order"]

    return measure


@requirement("accelerate/gather-for-metrics", level="core")
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(
    ("loader", "world_size"),
    [setting for setting in SETTINGS if setting[0] not in ("uneven", "seedable", "drop_last", *REMAINDERS)],
)
def test_every_row_is_gathered_once_in_order(handed_out, evidence, loader, world_size, rows):
    """What gather_for_metrics gives, of tensors and of objects, is every row once, in the order of one process."""
    details, order = handed_out(loader, world_size, rows)

    for rank in details:
        evidence.check_equal("gathered", rank["gathered"], order)
        evidence.check_equal("gathered objects", rank["objects"], order)


@requirement("accelerate/even-batches", level="core")
@pytest.mark.parametrize(("loader", "world_size"), [setting for setting in SETTINGS if setting[0] != "uneven"])
def test_ranks_have_the_same_number_of_batches(handed_out, evidence, loader, world_size):
    """Unless told otherwise all ranks get as many batches of the same sizes, on their own cards, as the length says."""
    details, _ = handed_out(loader, world_size)

    sizes = [[len(batch) for batch in rank["batches"]] for rank in details]
    for number, rank in enumerate(details):
        evidence.check_equal("sizes", sizes[number], sizes[0])
        evidence.check_equal("devices of the batches", rank["devices"], {f"npu:{number}"})
        if rank["length"] is not None:
            evidence.check_equal("length", len(rank["batches"]), rank["length"])


@requirement("accelerate/uneven-batches", level="core")
@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("rows", ROWS)
def test_uneven_batches_repeat_no_row(handed_out, evidence, world_size, rows):
    """With even_batches off every row is handed out exactly once, also where ranks then differ in their batches."""
    details, order = handed_out("uneven", world_size, rows)

    handed = [row for rank in details for batch in rank["batches"] for row in batch]
    evidence.check_equal("rows", sorted(handed), order)
    assert len({str([len(batch) for batch in rank["batches"]]) for rank in details}) > 1


@requirement("accelerate/drop-last", level="core")
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_drop_last_drops_what_is_not_whole(handed_out, evidence, world_size):
    """With drop_last every rank gets whole batches, as many as the others, and no row comes twice."""
    details, _ = handed_out("drop_last", world_size)

    rounds = 22 // 4 // world_size
    handed = sorted(row for rank in details for batch in rank["batches"] for row in batch)
    evidence.check_equal("rows", handed, list(range(rounds * world_size * 4)))
    evidence.check_equal("gathered", sorted(details[0]["gathered"]), handed)


@requirement("accelerate/seedable-sampler", level="core")
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_seedable_sampler_shuffles_all_rows(handed_out, evidence, world_size):
    """The seedable sampler hands out every row once, in an order of its own that all ranks share."""
    details, _ = handed_out("seedable", world_size)

    gathered = details[0]["gathered"]
    evidence.check_equal("rows", sorted(gathered), list(range(22)))
    assert gathered != sorted(gathered)


@requirement("accelerate/seeds-of-ranks", level="core")
def test_ranks_have_equal_or_different_random_numbers_as_asked(ranks, evidence):
    """Ranks draw and drop the same after set_seed and synchronize_rng_states, and differently when device_specific."""
    first, second = (result.details for result in ranks(RankSeeds(), 2, together=everything(2)))

    for moment in ("set_seed", "synchronised"):
        evidence.check_equal(moment, second[moment], first[moment])
    mine, other = first["device_specific"], second["device_specific"]
    same = [name for name in mine if bool((mine[name] == other[name]).all())]
    evidence.check_equal("generators that are the same on both ranks", same, [])


@requirement("accelerate/skip-first-batches", level="core")
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_skipped_batches_are_those_that_came_first(handed_out, evidence, world_size):
    """After skip_first_batches each rank gets, of its batches, those behind the ones that were skipped."""
    skipped, _ = handed_out("skipped", world_size)
    whole, _ = handed_out("even", world_size)

    for rank in range(world_size):
        evidence.check_equal(f"rank {rank}", skipped[rank]["batches"], whole[rank]["batches"][SKIPPED:])


@requirement("accelerate/gather-for-metrics-of-remainders", level="extended")
@pytest.mark.parametrize("loader", REMAINDERS)
def test_rows_of_other_loaders_are_gathered_once(handed_out, evidence, loader):
    """After skip_first_batches, and of a sized stream that the ranks share, gather_for_metrics gives no row twice."""
    details, order = handed_out(loader, 2)

    expected = order[SKIPPED * 2 * 4 :] if loader == "skipped" else order
    evidence.check_equal("gathered", details[0]["gathered"], expected)
