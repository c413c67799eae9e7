"""The operators' argument lists against torch_npu: the installed wheel, the recorded call sites, how they are found."""

from pathlib import Path

import pytest

from emulator import arguments, call_sites, records
from emulator.__main__ import main
from emulator.arguments import parse_operator
from emulator.build import ensure_built
from emulator.call_sites import CallSites
from emulator.errors import EmulatorError
from emulator.stack import find_stack


@pytest.fixture(scope="module")
def operators(built):
    """All operators that the emulator declares."""
    return [parse_operator(line) for line in ensure_built(print).facts["operators"]]


# ---- the emulator's operators ----

# Names that the wheel looks up and the recorded sources do not call: the wheel is a little newer than they are, and
# aclnnLogSigmoid is only looked up, to choose a way of computing. Their arguments cannot be compared.
NOT_IN_SOURCES = {"aclnnFusedAdam", "aclnnInplaceCeil", "aclnnLogSigmoid"}


def test_every_operator_has_a_name_that_torch_npu_knows(operators):
    """An operator whose name the installed torch_npu does not contain would never be called: a typing error."""
    names = arguments.names_in_wheel(find_stack())

    assert len(names) > 800
    assert [operator.name for operator in operators if operator.name not in names] == []


def test_every_operator_has_the_arguments_that_torch_npu_passes(operators):
    """No operator's arguments differ in number or type from the recorded call sites of the installed torch_npu."""
    calls = records.read_record(find_stack().torch_npu.version).forms
    result = arguments.compare(operators, calls)

    assert len(result.agree) > 400
    assert result.differ == ()
    assert set(result.no_call_site) <= NOT_IN_SOURCES


# ---- call sites in C++ ----


def forms(text: str, version: tuple[int, int] = (2, 13)) -> list[tuple[str, str]]:
    """The calls in a C++ text as (operator, "(tensor, ...)")."""
    return [(name, call_sites.written(form)) for name, form in call_sites.cpp_calls(text, version)]


def test_types_come_from_the_declarations():
    """The type of an argument is that of the parameter or local variable declared last before the call."""
    text = """
    at::Tensor other(int64_t value) {
        return value;
    }
    at::Tensor f(const at::Tensor& self, const c10::optional<at::Tensor>& weight, at::IntArrayRef dim,
                 const at::Scalar &alpha, c10::optional<at::IntArrayRef> size, at::TensorList list,
                 at::ArrayRef<at::Scalar> scalars, double value, ::std::array<bool, 3> mask, at::ScalarType dtype) {
        float value_cast = static_cast<float>(value);
        auto mode = static_cast<int8_t>(1);
        bool keep = false;
        char* layout = const_cast<char *>(name.c_str());
        auto out = npu_preparation::apply_tensor(self);
        auto scalar = at::Scalar(value);
        EXEC_NPU_CMD(aclnnOne, self, weight, dim, alpha, size, list, scalars, value, mask, dtype);
        EXEC_NPU_NO_FORMAT_CHECK_CMD(aclnnTwo, value_cast, mode, keep, layout, scalar, list[0], out);
    }
    """

    assert forms(text) == [
        ("aclnnOne", "(tensor, tensor, ints, scalar, ints, tensors, scalars, double, bools, int32)"),
        ("aclnnTwo", "(float, int8, bool, text, scalar, tensor, tensor)"),
    ]


def test_what_is_not_plain_is_unknown():
    """Types that the source does not say where the variable is declared, or that words seem to declare, are unknown."""
    text = """
    void f(c10::optional<double> eps) {
        auto size = infer(self);  // double size;
        TORCH_CHECK(false, "expected int64_t dim, found ", dim);
        return result;
        EXEC_NPU_CMD(aclnnOne, size, dim, result, eps, pair.first);
    }
    """

    assert forms(text) == [("aclnnOne", "(?, ?, ?, ?, ?)")]


def test_variants_of_the_macro():
    """The other macros that call an operator count, with the arguments that they pass on; definitions do not."""
    text = """
    #define EXEC_NPU_CMD(aclnn_api, ...) EXEC_NPU_CMD_V1(aclnn_api, __VA_ARGS__)
    void f(int64_t a, bool b) {
        auto params = EXEC_NPU_CMD_SYNC(aclnnOne, a, b);
        EXEC_UPDATE_NPU_NO_FORMAT_CHECK_CMD(aclnnTwo, workspace_addr, workspace_size, a);
        size = EXEC_GET_MAX_WORKSPACE_CMD(aclnnThree, b);
        EXEC_ATB_CMD(AtbFour, a);
    }
    """

    assert forms(text) == [("aclnnOne", "(int64, bool)"), ("aclnnTwo", "(int64)"), ("aclnnThree", "(bool)")]


@pytest.mark.parametrize(("version", "expected"), [((2, 6), "old"), ((2, 7), "old"), ((2, 8), "new"), ((2, 13), "new")])
def test_only_the_branch_for_this_torch_counts(version, expected):
    """Of the branches of VERSION_BETWEEN the one for the installed torch is read; other conditions keep both."""
    text = """
    #if VERSION_BETWEEN(V2R1, V2R7)
    void f(int64_t old) { EXEC_NPU_CMD(aclnnOld, old); }
    #else
    void f(int64_t a) { EXEC_NPU_CMD(aclnnNew, a); }
    #endif
    #if !VERSION_BETWEEN(V2R8, VERSION_NEWEST)
    void g(int64_t a) { EXEC_NPU_CMD(aclnnOld, a); }
    #endif
    #ifdef SOMETHING
    void g(int64_t a) { EXEC_NPU_CMD(aclnnEither, a); }
    #endif
    """

    assert {name for name, _ in forms(text, version)} == {"aclnnEither", f"aclnn{expected.title()}"}
    assert [name for name, _ in forms(text, version)].count("aclnnOld") == 2 * (expected == "old")


# ---- call sites that are generated ----

YAML = """
official:
  - func: softmax(Tensor self, int dim, bool half_to_float) -> Tensor
    op_api: all_version
    gen_opapi:
      out:
        size: self
        dtype: self
      exec: aclnnSoftmax, self, dim, out

  - func: lerp.Tensor(Tensor self, Tensor end, Tensor weight) -> Tensor
    acl_op: all_version
    op_api: all_version
    gen_opapi:
      cpu_scalar_op:
        - param: weight
          exec: aclnnLerps
      out:
        size: self
        dtype: self
      exec: aclnnLerp

  - func: pool.out(Tensor self, int[2]? size=None, *, float p=0.5, ScalarType? dtype=None, Tensor(a!) out) -> Tensor(a!)
    op_api: all_version
    gen_opapi:
      exec: aclnnPool

  - func: cdist(Tensor x1, Tensor[] x2, float p, Scalar? q, bool[3] mask) -> Tensor
    op_api: all_version
    gen_opapi:
      new_params:
        p_float: 'static_cast<float>(p)'
        mode: 'p > 2 ? 2 : 0'
      out:
        size: x1
        dtype: x1
      exec: aclnnCdist, x1, x2, p_float, mode, q, mask, out

  - func: ceil_(Tensor(a!) self) -> Tensor(a!)
    op_api: all_version
    gen_opapi:
      structured_inherit: ceil.out
"""


def test_generated_calls():
    """An entry passes what its exec line says, else the function's arguments and then what it allocates."""
    found = [(name, call_sites.written(form)) for name, form in call_sites.generated_calls(YAML)]

    assert found == [
        ("aclnnSoftmax", "(tensor, int64, tensor)"),
        ("aclnnLerp", "(tensor, tensor, tensor, tensor)"),
        ("aclnnLerps", "(tensor, tensor, scalar, tensor)"),
        ("aclnnPool", "(tensor, ints, double, ?, tensor)"),
        ("aclnnCdist", "(tensor, tensors, float, ?, scalar, bools, tensor)"),
    ]


def test_probed_operators():
    """Operators that the sources name other than to call them are probed, as are those of entries with acl_op."""
    text = """
    // aclnnCommented
    DO_COMPATIBILITY(aclnnOne, acl_op::one(self));
    static bool there = check_aclnn_kernel_available("aclnnTwo");
    static const auto address = GetOpApiFuncAddr("aclnnThreeGetWorkspaceSize");
    EXEC_NPU_CMD(aclnnFour, self);
    """

    assert call_sites.cpp_probes(text) == {"aclnnOne", "aclnnTwo", "aclnnThree"}
    assert call_sites.generated_probes(YAML) == {"aclnnLerp", "aclnnLerps"}


# ---- comparing, recording ----


def test_forms_that_complete_each_other_are_one():
    """Two calls that differ only in what is unknown are one form; calls that contradict each other stay two."""
    assert call_sites.merge([("tensor", "?"), ("?", "int64")]) == {("tensor", "int64")}
    assert call_sites.merge([("tensor", "bool"), ("tensor", "int64")]) == {("tensor", "bool"), ("tensor", "int64")}
    assert call_sites.merge([("tensor",), ("tensor", "?")]) == {("tensor",), ("tensor", "?")}


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ("(Tensor self, int64_t dim, Output out)", "agree"),
        ("(Tensor self, uint64_t dim, DynamicOutput out)", "agree"),
        ("(Tensor self, int dim, Output out)", "differ"),
        ("(Tensor self, Output out)", "differ"),
        ("(Tensor self, Output out, int64_t dim)", "differ"),
        ("(Tensors self, int64_t dim, Output out)", "differ"),
    ],
)
def test_a_shifted_argument_differs(declared, found):
    """Another number, order or width of arguments differs from the call sites; a name of the same type does not."""
    result = arguments.compare(
        [parse_operator(f"aclnnOne Movement {declared}")], {"aclnnOne": {("tensor", "int64", "tensor")}}
    )

    assert len(getattr(result, found)) == 1


def test_float_and_double_differ():
    """A float where a double is expected is read from half a register."""
    one = parse_operator("aclnnOne Approximate (float eps)")

    assert arguments.compare([one], {"aclnnOne": {("double",)}}).differ == (
        "aclnnOne is declared with (float), called with (double)",
    )


@pytest.mark.parametrize(("declared", "called", "fits"), [("int8_t", "int32", True), ("int", "int8", False)])
def test_a_small_number_may_be_passed_wider_than_it_is_read(declared, called, fits):
    """The low byte of an int is the same small number; an int of which only a byte was passed is not."""
    one = parse_operator(f"aclnnOne Approximate ({declared} cube_math_type)")

    assert bool(arguments.compare([one], {"aclnnOne": {(called,)}}).agree) is fits


def test_an_operator_of_another_release_is_no_mistake():
    """An operator that only other known releases call is counted apart; a name that none has is reported."""
    both = [parse_operator("aclnnNew Movement (Tensor self)"), parse_operator("aclnnTypo Movement (Tensor self)")]

    lines, well = arguments.report_on(both, {}, set(), {"aclnnNew"})

    assert "1 are for other releases of torch_npu" in lines
    assert "1 have a name that no known torch_npu has: aclnnTypo" in lines
    assert not well
    assert arguments.report_on(both[:1], {}, set(), {"aclnnNew"})[1]


def test_an_unknown_argument_type_is_refused():
    """A new type of argument must be made known to the check, or the check would pass it over."""
    with pytest.raises(EmulatorError, match=r"argument of type Floats, of which emulator/arguments.py does not know"):
        parse_operator("aclnnOne Approximate (Floats values)")


def test_a_record_is_read_as_it_was_written(tmp_path, monkeypatch):
    """What is recorded of a release is what is read of it, and recording makes the release known."""
    monkeypatch.setattr(records, "RECORDS", tmp_path / "records")
    calls = CallSites({"aclnnTwo": {("tensor", "?"), ("int64",)}, "aclnnNone": {()}}, frozenset({"aclnnTwo"}))

    records.write_record("9.9.0+local", calls, ["op-plugin 1234"])

    assert records.read_record("9.9.0") == calls
    assert records.known_versions() == ["9.9.0"]


@pytest.fixture
def recording(tmp_path, monkeypatch, operators):
    """A function that checks the emulator against a checkout of these files and tries to record it."""
    monkeypatch.setattr(records, "RECORDS", tmp_path / "records")

    def run(*options: str, **files: str) -> int:
        for name, text in files.items():
            (tmp_path / "checkout" / f"{name}.cpp").parent.mkdir(exist_ok=True)
            (tmp_path / "checkout" / f"{name}.cpp").write_text(text)
        return main(["--check-arguments", str(tmp_path / "checkout"), *options])

    return run


def test_a_checkout_that_agrees_is_recorded(recording, capsys):
    """Call sites that agree are recorded, which makes an unknown release known."""
    code = recording("--record", add="void f(at::Tensor a, at::Scalar s) { EXEC_NPU_CMD(aclnnAdd, a, a, s, a); }")

    assert code == 0
    assert "1 operators agree with their call sites\n0 differ\n" in capsys.readouterr().out
    assert records.read_record(find_stack().torch_npu.version).forms == {
        "aclnnAdd": {("tensor", "tensor", "scalar", "tensor")}
    }


def test_a_checkout_that_differs_is_not_recorded(recording, capsys):
    """Where an operator differs the report shows both argument lists, and nothing is recorded."""
    code = recording("--record", add="void f(at::Tensor a, at::Scalar s) { EXEC_NPU_CMD(aclnnAdd, a, s, a, a); }")
    printed = capsys.readouterr()

    assert code == 1
    assert "aclnnAdd is declared with (tensor, tensor, scalar, tensor), called with (tensor, scalar, " in printed.out
    assert "Nothing recorded" in printed.err
    assert records.known_versions() == []


@pytest.mark.parametrize(
    ("files", "message"), [({}, "is no folder"), ({"a": "int a;"}, "holds no call of an operator")]
)
def test_a_wrong_checkout(recording, capsys, files, message):
    """A folder that is not there or holds no sources of torch_npu is refused."""
    assert recording(**files) == 1
    assert message in capsys.readouterr().err


def test_the_record_names_its_sources():
    """The record of each known release says from which commits it was extracted."""
    for version in records.known_versions():
        lines = records.record_file(version).read_text().splitlines()
        assert [line.split()[2] for line in lines if line.startswith("# Source: ")] == ["op-plugin", "pytorch"]


def test_a_damaged_wheel(tmp_path):
    """A torch_npu without its library is said to be damaged."""
    stack = find_stack()
    damaged = type(stack)(stack.torch, type(stack.torch)("torch_npu", "2.13.0", Path(tmp_path), ""))

    with pytest.raises(EmulatorError, match=r"libtorch_npu.so is missing: torch_npu 2.13.0 is damaged"):
        arguments.names_in_wheel(damaged)
