"""The suite's own profiles.toml and waivers.toml: in order, about what there is, and about what they say."""

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from reports import profiles, waivers
from reports.suite import declared

ROOT = Path(__file__).resolve().parents[2]
SUITE = declared(ROOT)
PROFILES = profiles.read(ROOT / profiles.FILE_NAME)


def required(name: str) -> dict[str, tuple[str, ...]]:
    """Features of the requirements of a profile, by id."""
    return {one.id: one.features for one in SUITE if PROFILES[name].requires(one)}


def test_waivers_are_in_order():
    """No waiver is expired, and each is about a requirement of the suite."""
    found = waivers.read(ROOT / waivers.FILE_NAME)

    assert waivers.out_of_order(found, {one.id for one in SUITE}, datetime.now(timezone.utc).date()) == []
    assert len(found) > 20


def test_full_requires_everything():
    """The profile "full" leaves no requirement out."""
    assert set(required("full")) == {one.id for one in SUITE}


def test_every_core_requirement_is_in_a_smaller_profile():
    """Each core requirement belongs to a profile beside "full", but for features that are claims of their own."""
    small = {id for name in ("training-core", "distributed", "ecosystem") for id in required(name)}
    own = {"quantization", "big_model_inference"}

    left = [one.id for one in SUITE if one.level == "core" and one.id not in small and not own & set(one.features)]
    assert left == []


def test_profiles_are_about_what_they_say():
    """training-core is about one card, distributed about several, ecosystem about peft and trl."""
    assert all(
        "single_npu" in features and "multi_npu" not in features for features in required("training-core").values()
    )
    assert {"fp16", "bf16", "checkpoint"} <= {feature for own in required("training-core").values() for feature in own}
    assert all({"multi_npu", "fsdp", "deepspeed"} & set(features) for features in required("distributed").values())
    assert {id.split("/")[0] for id in required("ecosystem")} == {"peft", "trl"}


@pytest.mark.parametrize("soc", ["Ascend910A", "Ascend910ProB", "Ascend310P3"])
def test_chips_without_bfloat16_are_excused_from_it(soc):
    """Every profile excuses bf16 on each chip that has none, and nothing there on an Atlas A2."""
    for profile in PROFILES.values():
        held = [u for u in profile.unless if u.when.hold(profiles.Facts(soc=soc))]
        assert any(u.tests.selects("a/b", ["bf16"], "core") for u in held)
        assert not [u for u in profile.unless if u.when.hold(profiles.Facts(soc="Ascend910B3"))]


def test_the_source_is_read_as_it_is_collected():
    """Ids, levels, sentences and features read from the source are those that pytest collects."""
    program = (
        "import json, sys, pytest\n"
        "class See:\n"
        "    def pytest_collection_finish(self, session):\n"
        "        from fixtures.recording import describe\n"
        "        found = {}\n"
        "        for test in map(describe, session.items):\n"
        "            own = found.setdefault(test['requirement'], [test['level'], test['sentence'], []])\n"
        "            own[2] = sorted({*own[2], *test['features']})\n"
        "        print('FOUND ' + json.dumps(found))\n"
        "pytest.main(['--collect-only', '-q', '-n', '0'], plugins=[See()])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    collected = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))[6:])

    always = [one for one in SUITE if "user_model" not in one.features]  # those are collected with --model alone
    assert {one.id: [one.level, one.sentence] for one in always} == {id: own[:2] for id, own in collected.items()}
    assert len(SUITE) == len(always) + 6
    for one in always:
        # Marks of single cases may come out of a function that gives either, or from another module: the source does
        # not settle those, and no profile includes or excludes by them.
        assert set(collected[one.id][2]) ^ set(one.features) <= {"fp16", "bf16", "host"}, one.id


def test_no_profile_selects_by_what_the_source_does_not_settle():
    """Includes and excludes name no feature that only a collected case has for certain."""
    selectors = [s for profile in PROFILES.values() for s in (*profile.include, *profile.exclude)]

    assert not {"fp16", "bf16", "host"} & {feature for selector in selectors for feature in selector.feature}
