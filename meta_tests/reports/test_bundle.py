"""Merging shards, handing a run over, redacting it, and refusing what others may have made of an archive."""

import gzip
import io
import json
import shutil
import subprocess
import tarfile

import pytest
from made_runs import ended, made, records, write

from reports import archive, redaction
from reports.__main__ import main
from reports.bundle import bundle
from reports.errors import ReportError
from reports.run import load
from reports.verification import problems

WAIVER = {"defect": "D1", "reason": "it is broken", "link": "https://example.org/1", "expires": "2027-05-25"}
A, B = ended("PASS", "demo/a"), ended("XFAIL", "demo/b", waiver=WAIVER)
TELLING = (
    'File "/home/alice/venv/lib/python3.11/site-packages/torch/x.py", line 3\nnpu-box-7.corp.example: 10.1.2.3 '
    "LD=/opt/a:/usr/local/b -I/home/alice/include file:///tmp/pytest-of-alice/x https://github.com/x/y tests/a/b.py"
)
BOX = {"name": "npu-box-7.corp.example", "boot": "b0", "id": "m0"}


@pytest.fixture
def handed_over(tmp_path):
    """The archive of a run."""
    made(tmp_path / "run", A, B)
    assert main(["bundle", str(tmp_path / "run"), "-o", str(tmp_path / "run.tar.gz")]) == 0
    return tmp_path / "run.tar.gz"


def content(path) -> dict[str, bytes]:
    """The files of an archive, by name."""
    with tarfile.open(path) as found:
        return {member.name: found.extractfile(member).read() for member in found}


def test_an_archive_has_everything(handed_over, tmp_path, capsys):
    """The archive has journals as they were, reports, provenance, waivers, what the suite is, and sums; it verifies."""
    files = content(handed_over)

    assert files["journals/journal.jsonl"] == (tmp_path / "run/journal.jsonl").read_bytes()
    assert {"reports/report.html", "reports/junit.xml", "reports/ctrf.json", "reports/summary.md", "reports/matrix.csv",
            "provenance.json", "waivers.json", "README.txt", "suite/docs/CATALOGUE.md", "suite/profiles.toml",
            "suite/docs/trial.json", "suite/waivers.toml", "manifest.sha256"} <= set(files)  # fmt: skip
    assert json.loads(files["waivers.json"])["used"][0]["waiver"]["defect"] == "D1"
    assert json.loads(files["provenance.json"])["headers"][0]["machine"]["name"] == "box"
    capsys.readouterr()
    assert main(["verify", str(handed_over)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "archive: all sums are right; not signed",
        "verified: 1 journal(s), 2 tests (1 PASS, 1 XFAIL)",
        "verdict: CONFORMANT on 1 EMULATED card (Ascend910B3): 1 passed, 1 waived",
    ]


def test_its_sums_are_those_of_sha256sum(handed_over, tmp_path):
    """Without the suite, sha256sum -c checks an unpacked archive."""
    with tarfile.open(handed_over) as found:
        found.extractall(tmp_path / "out", filter="data")

    done = subprocess.run(
        ["sha256sum", "-c", "manifest.sha256"], cwd=tmp_path / "out", capture_output=True, check=False
    )

    assert done.returncode == 0, done.stdout


def test_the_same_run_gives_the_same_archive(tmp_path):
    """Packing depends on neither the time, nor the user, nor the place."""
    made(tmp_path / "run", A, B)

    assert bundle(load(tmp_path / "run")) == bundle(load(tmp_path / "run"))


def test_only_what_verifies_is_handed_over(tmp_path, capsys):
    """A killed run cannot be handed over."""
    write(tmp_path / "run", records([A, B])[:-2])

    assert main(["bundle", str(tmp_path / "run"), "-o", str(tmp_path / "x.tar.gz")]) == 2
    assert "only a run that verifies can be handed over: " in capsys.readouterr().err
    assert not (tmp_path / "x.tar.gz").exists()


ABSOLUTE = "/an absolute name"  # stands for one in the test's own directory


def repacked(handed_over, change) -> None:
    """Packs the archive again after ``change(files)``."""
    files = content(handed_over)
    change(files)
    absolute = f"{handed_over.parent}/evil"
    handed_over.write_bytes(archive.pack({absolute if name == ABSOLUTE else name: files[name] for name in files}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update({"reports/junit.xml": b"<x/>"}), "reports/junit.xml is not what the manifest says: it was"),
        (lambda f: f.update({"journals/journal-2.jsonl": b"{}"}), "journals/journal-2.jsonl: not in the manifest"),
        (lambda f: f.pop("provenance.json"), "provenance.json: missing"),
        (lambda f: f.pop("manifest.sha256"), "no manifest.sha256 in it; not an archive of python -m reports bundle"),
        (lambda f: f.update({"manifest.sha256": b"\x00x"}), "manifest.sha256, line 1: not a sum and a name"),
        (lambda f: f.update({"../evil": b"x"}), "'../evil' is no plain relative name, or occurs twice; refused"),
        (lambda f: f.update({ABSOLUTE: b"x"}), "evil' is no plain relative name"),
        (lambda f: f.update({"a/../../evil": b"x"}), "'a/../../evil' is no plain relative name"),
        (lambda f: f.update({"./evil": b"x"}), "'./evil' is no plain relative name"),
    ],
)
def test_archives_that_were_altered(handed_over, tmp_path, capsys, change, message):
    """An archive that is not as its manifest says, or that would write elsewhere, is refused and writes nothing."""
    repacked(handed_over, change)
    before = sorted(tmp_path.iterdir())
    capsys.readouterr()

    assert main(["verify", str(handed_over)]) == 2

    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_altered_journals_with_a_right_manifest(handed_over, capsys):
    """Who alters a journal and mends the manifest is found out by the journal's own chain."""

    def forge(files):
        files["journals/journal.jsonl"] = files["journals/journal.jsonl"].replace(b'"XFAIL"', b'"PASS"')
        files.pop("manifest.sha256")
        files["manifest.sha256"] = archive.manifest(files)

    repacked(handed_over, forge)

    assert main(["verify", str(handed_over)]) == 2
    assert "this line was edited" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind, capsys):
    """Only regular files are taken out of an archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as found:
        member = tarfile.TarInfo("x")
        member.type, member.linkname = kind, "/etc/passwd"
        found.addfile(member)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(packed.getvalue()))

    assert main(["verify", str(tmp_path / "x.tar.gz")]) == 2
    assert "'x' is no regular file" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["truncated", "no tar", "flipped", "many", "large"])
def test_damaged_archives(handed_over, capsys, monkeypatch, what):
    """A truncated, foreign, damaged or exploding archive is one message."""
    data = handed_over.read_bytes()
    if what == "many":
        monkeypatch.setattr(archive, "MOST_FILES", 3)
    elif what == "large":
        monkeypatch.setattr(archive, "LARGEST", 1000)
    else:
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 0xFF
        changed = {"truncated": data[: len(data) // 2], "no tar": gzip.compress(b"hello"), "flipped": bytes(flipped)}
        handed_over.write_bytes(changed[what])
    capsys.readouterr()

    assert main(["verify", str(handed_over)]) == 2

    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said


@pytest.fixture
def key(tmp_path):
    """A new SSH key, and the file that allows it to sign."""
    if not shutil.which("ssh-keygen"):
        pytest.skip("no ssh-keygen here (Debian: openssh-client)")
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vendor", "-f", file], check=True)
    public = (tmp_path / "key.pub").read_text()
    (tmp_path / "signers").write_text(f"vendor@example.org {public}")
    return file


def test_signatures(tmp_path, key, capsys):
    """A signed archive names its key; against a list of signers the right one alone is accepted."""
    made(tmp_path / "run", A)
    file = tmp_path / "run.tar.gz"
    assert main(["bundle", str(tmp_path / "run"), "-o", str(file), "--sign", str(key)]) == 0
    capsys.readouterr()

    assert main(["verify", str(file)]) == 0
    assert "SHA256:" in capsys.readouterr().out
    demand = ["--signers", str(tmp_path / "signers"), "--identity"]
    assert main(["verify", str(file), *demand, "vendor@example.org"]) == 0
    assert "signed by vendor@example.org" in capsys.readouterr().out
    assert main(["verify", str(file), *demand, "other@example.org"]) == 2
    assert main(["verify", str(file), "--signers", str(tmp_path / "none"), "--identity", "x"]) == 2
    assert main(["verify", str(file), "--signers", str(tmp_path / "signers")]) == 2


def test_altered_archives_with_a_signature(tmp_path, key, capsys):
    """Who alters a file and mends the manifest breaks the signature; who takes the signature away is found out, too."""
    made(tmp_path / "run", A)
    file = tmp_path / "run.tar.gz"
    main(["bundle", str(tmp_path / "run"), "-o", str(file), "--sign", str(key)])
    signed = content(file)
    demand = ["--signers", str(tmp_path / "signers"), "--identity", "vendor@example.org"]

    forged = {**signed, "reports/matrix.csv": b"all is well"}
    forged["manifest.sha256"] = archive.manifest({n: d for n, d in forged.items() if not n.startswith("manifest")})
    file.write_bytes(archive.pack(forged))
    assert main(["verify", str(file), *demand]) == 2
    assert main(["verify", str(file)]) == 2

    file.write_bytes(archive.pack({n: d for n, d in forged.items() if n != archive.SIGNATURE}))
    capsys.readouterr()
    assert main(["verify", str(file), *demand]) == 2
    assert "not signed, and --signers demands a signature" in capsys.readouterr().err


def test_keys_that_cannot_sign(tmp_path, capsys):
    """A key that is none is one message, and no archive."""
    made(tmp_path / "run", A)

    assert main(["bundle", str(tmp_path / "run"), "-o", str(tmp_path / "x"), "--sign", str(tmp_path / "none")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_redaction_of_texts():
    """Paths keep their last part; names and addresses go; relative paths, links and versions stay."""
    names = {"npu-box-7.corp.example": "<host>", "npu-box-7": "<host>", "alice": "<user>"}

    text = redaction.clean_text(TELLING, names)

    assert text == (
        'File "<path>/x.py", line 3\n<host>: <address> LD=<path>/a:<path>/b -I<path>/include <path>/x '
        "https://github.com/x/y tests/a/b.py"
    )
    assert redaction.clean_text("torch 2.13.0 at 127.0.0.1, 1/2", names) == "torch 2.13.0 at 127.0.0.1, 1/2"


def test_a_redacted_archive(tmp_path):
    """A redacted archive has no host, user, address or path in any file, verifies, and says what it was made of."""
    header = {"machine": BOX, "environment": {"HF_HOME": "/home/alice/hf"}, "command": ["--run-dir", "/home/alice/run"]}
    failed = ended(
        "FAIL", "demo/c", reason=TELLING, log=TELLING, values={"npu-box-7": TELLING, "level": "/home/alice/x"}
    )
    made(tmp_path / "run", A, failed, header=header)
    main(["bundle", str(tmp_path / "run"), "-o", str(tmp_path / "x.tar.gz"), "--redact"])

    files = content(tmp_path / "x.tar.gz")

    text = b"\n".join(data for name, data in files.items() if not name.startswith("suite/")).decode()
    assert [word for word in ("alice", "npu-box-7", "10.1.2.3", "/home/", str(tmp_path)) if word in text] == []
    assert main(["verify", str(tmp_path / "x.tar.gz")]) == 0
    with (tmp_path / "r.jsonl").open("wb") as file:
        file.write(files["journals/journal.jsonl"])
    redacted, original = load(tmp_path / "r.jsonl"), load(tmp_path / "run")
    assert [test["nodeid"] for test in redacted.tests] == [test["nodeid"] for test in original.tests]
    assert len(redacted.header["redacted"]["of"]) == 64


def test_names_that_cannot_be_taken_out(tmp_path):
    """A host that is called like a part of a test's own name is said to be so, instead of being handed over."""
    made(tmp_path / "run", ended("PASS", "demo/alpha-beta"), header={"machine": {**BOX, "name": "alpha"}})

    with pytest.raises(ReportError, match="the name 'alpha' is left in "):
        bundle(load(tmp_path / "run"), redact=True)


def test_resumed_runs_stay_together_when_redacted(tmp_path):
    """The journals of a resumed run name each other after a redaction, too."""
    killed = write(tmp_path / "run/journal.jsonl", records([A, B])[:-2])
    identity = json.loads(killed.read_text().splitlines()[0])["sha256"]
    made(tmp_path / "run/journal-2.jsonl", B, header={"resumes": [identity]})

    written = redaction.redacted(load(tmp_path / "run"), tmp_path)

    assert problems(load(list(written.values()))) == []


def test_shards_are_merged(tmp_path, capsys):
    """Shards become one directory with their journals as they were, which verifies."""
    first = made(tmp_path / "1", A, header={"shard": "1/2"})
    made(tmp_path / "2", B, header={"shard": "2/2"})

    assert main(["merge", str(tmp_path / "1"), str(tmp_path / "2"), "-o", str(tmp_path / "whole")]) == 0

    assert capsys.readouterr().out.strip() == f"{tmp_path / 'whole'}: complete"
    assert (tmp_path / "whole/journal.jsonl").read_bytes() == first.read_bytes()
    assert problems(load(tmp_path / "whole")) == []
    assert main(["merge", str(tmp_path / "1"), str(tmp_path / "2"), "-o", str(tmp_path / "whole")]) == 2


def test_a_shard_is_missing(tmp_path, capsys):
    """A merge without one of the shards is made, and says that it is missing."""
    made(tmp_path / "1", A, header={"shard": "1/2"})

    assert main(["merge", str(tmp_path / "1"), "-o", str(tmp_path / "whole")]) == 0
    assert "shard 2/2 is missing: give the journals of all shards" in capsys.readouterr().out


def test_what_is_no_run_is_not_merged(tmp_path, capsys):
    """Shards of two boxes are not merged, and nothing is written."""
    made(tmp_path / "1", A)
    made(tmp_path / "2", B, header={"machine": {"name": "other", "boot": "b1", "id": "m1"}})

    assert main(["merge", str(tmp_path / "1"), str(tmp_path / "2"), "-o", str(tmp_path / "whole")]) == 1
    assert "not merged: " in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
