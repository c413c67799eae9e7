"""Cards are found without torch, with torch_npu's reading of ASCEND_RT_VISIBLE_DEVICES; each worker gets one of its
own.
"""

import pytest

from fixtures import discovery, environment
from fixtures.devices import CardPool


@pytest.fixture
def box(tmp_path):
    """box(count): a /dev with that many cards and what else is there."""

    def make(count: int):
        for name in ("davinci_manager", "davinci1x", "null", *(f"davinci{index}" for index in range(count))):
            (tmp_path / name).write_text("")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("visible", "ids"),
    [
        (None, (0, 1, 2, 3)),
        ("0,1", (0, 1)),
        ("2,3", (2, 3)),
        ("1,3", (1, 3)),
        ("1,0", ()),
        ("0,0", ()),
        ("", ()),
        ("x", ()),
        ("-1", ()),
        ("0,x", (0,)),
        ("0,1 ,2", (0, 1)),
        ("0,,2", (0,)),
        ("0,9", (0,)),
        ("9", ()),
        ("3,9,1", (3,)),
    ],
)
def test_visible_cards(box, visible, ids):
    """ASCEND_RT_VISIBLE_DEVICES is read as torch_npu reads it."""
    variables = {} if visible is None else {"ASCEND_RT_VISIBLE_DEVICES": visible}

    found = discovery.visible_cards(variables, box(4))

    assert found.ids == ids
    assert bool(found.reason) is not bool(ids)


def test_no_card_says_the_way_out(tmp_path):
    """Without a card the reason says what was looked for and what to do."""
    reason = discovery.visible_cards({}, tmp_path).reason

    assert str(tmp_path / "davinci") in reason
    assert "python -m emulator pytest" in reason


def test_emulated_cards(tmp_path):
    """The emulator's setting is the number of cards, and is restricted like real ones."""
    assert discovery.visible_cards({"NPU_EMULATOR_CARDS": "3"}, tmp_path).ids == (0, 1, 2)
    restricted = {"NPU_EMULATOR_CARDS": "3", "ASCEND_RT_VISIBLE_DEVICES": "1"}
    assert discovery.visible_cards(restricted, tmp_path).ids == (1,)


def test_a_malformed_number_of_cards(suite):
    """A number of emulated cards that is none is refused."""
    ran = suite("", env={"NPU_EMULATOR_CARDS": "many"})

    assert "ERROR: NPU_EMULATOR_CARDS must be a number of cards, not 'many'" in ran.stderr
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR


class Node:
    """Stands in for xdist's controller of a worker."""

    def __init__(self, name: str):
        self.workerinput: dict = {}
        self.gateway = type("Gateway", (), {"id": name})


def test_each_worker_has_a_card_of_its_own():
    """Workers get different cards out of the caller's list, and the one that replaces a dead one gets its card."""
    pool, nodes = CardPool((4, 6)), [Node("gw0"), Node("gw1"), Node("gw2")]

    pool.pytest_configure_node(nodes[0])
    pool.pytest_configure_node(nodes[1])
    pool.pytest_testnodedown(nodes[0], "died")
    pool.pytest_configure_node(nodes[2])

    assert [node.workerinput["card"] for node in nodes] == [4, 6, 4]
    assert nodes[0].workerinput["visible_cards"] == [4, 6]


def test_workers_see_their_card_before_torch(suite, a_loadable_cann):
    """In a worker ASCEND_RT_VISIBLE_DEVICES names its card alone, out of the caller's list, before any test is
    imported.
    """
    ran = suite(
        """
        import os
        at_import = os.environ["ASCEND_RT_VISIBLE_DEVICES"]

        @pytest.mark.host
        @pytest.mark.parametrize("number", range(8))
        @requirement("demo/card")
        def test_card(evidence, number):
            '''A worker has one card.'''
            import time
            time.sleep(0.2)
            evidence.check_equal("its only card", at_import in ("1", "3"), True)
            evidence.add(card=at_import)
        """,
        env={"NPU_EMULATOR_CARDS": "4", "ASCEND_RT_VISIBLE_DEVICES": "1,3", **a_loadable_cann},
    )

    assert set(ran.outcomes.values()) == {"PASS"}
    assert {record["values"]["card"] for record in ran.tests.values()} == {"1", "3"}
    assert {(record["worker"], record["card"]) for record in ran.tests.values()} == {("gw0", "1"), ("gw1", "3")}
    assert ran.records[0]["cards"] == [1, 3]


def test_the_environment_is_set_before_torch(suite):
    """INF_NAN_MODE_ENABLE=1 and offline mode are set before a test is imported; what the user set stays, and is
    recorded.
    """
    code = """
    import os
    names = ("INF_NAN_MODE_ENABLE", "HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS")
    at_import = [os.environ.get(name) for name in names]

    @pytest.mark.host
    @requirement("demo/environment")
    def test_environment(evidence):
        '''The environment is set.'''
        evidence.add(at_import=at_import)
        assert at_import
    """
    ran = suite(code, "-n", "1", env={"INF_NAN_MODE_ENABLE": "0"})

    assert ran.tests["test_environment"]["values"]["at_import"] == ["0", "1", "false", "1"]
    assert ran.records[0]["environment"]["INF_NAN_MODE_ENABLE"] == "0"
    assert ran.records[0]["environment"]["HF_HUB_OFFLINE"] == "1"


def test_secrets_are_not_recorded():
    """Variables that look like credentials stay out of the record; those that matter are in it."""
    variables = {
        **{"HF_TOKEN": "x", "HF_API_KEY": "x", "ASCEND_PASSWORD": "x", "HOME": "/x"},
        **{"HCCL_BUFFSIZE": "1", "TOKENIZERS_PARALLELISM": "false", "TASK_QUEUE_ENABLE": "2"},
    }

    assert environment.relevant(variables) == {
        "HCCL_BUFFSIZE": "1",
        "TASK_QUEUE_ENABLE": "2",
        "TOKENIZERS_PARALLELISM": "false",
    }
