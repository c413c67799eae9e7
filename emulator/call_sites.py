"""How torch_npu calls the operators of CANN, extracted from its sources: Ascend/op-plugin and Ascend/pytorch.

An operator is called by a macro, `EXEC_NPU_CMD(aclnnAdd, self, other, alpha, out)`, in C++ or generated from the
entries `gen_opapi` of op_plugin_functions.yaml. A macro converts each argument by its C++ type (ConvertType in
op_api_common.h), so that type decides what the operator is passed. Here it is found where the source says it plainly:
in the declaration of a parameter or a local variable. What is not plain counts as unknown and agrees with everything.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# What the C interface passes. INT32 and INT8 are apart from INT64 because a callee that reads 64 bits of a 32 bit
# argument reads what happens to be in the rest of the register; FLOAT and DOUBLE because one is no prefix of the other.
TENSOR, TENSORS, SCALAR, SCALARS, INTS, BOOLS, TEXT = "tensor", "tensors", "scalar", "scalars", "ints", "bools", "text"
INT64, INT32, INT8, BOOL, FLOAT, DOUBLE, UNKNOWN = "int64", "int32", "int8", "bool", "float", "double", "?"

Form = tuple[str, ...]  # the types of the arguments of one call

CPP_TYPES = {
    "Tensor": TENSOR,
    "TensorWrapper": TENSOR,
    "MaybeOwned<Tensor>": TENSOR,
    "TensorList": TENSORS,
    "TensorListWrapper": TENSORS,
    "ArrayRef<Tensor>": TENSORS,
    "Scalar": SCALAR,
    "ArrayRef<Scalar>": SCALARS,
    "IntArrayRef": INTS,
    "SymIntArrayRef": INTS,
    "OptionalIntArrayRef": INTS,
    "OptionalSymIntArrayRef": INTS,
    "ArrayRef<int64_t>": INTS,
    "ArrayRef<bool>": BOOLS,
    "char": TEXT,
    "ScalarType": INT32,  # passed as aclDataType, an enumeration
    "aclDataType": INT32,
    "int64_t": INT64,
    "uint64_t": INT64,
    "size_t": INT64,
    "int": INT32,
    "int32_t": INT32,
    "uint32_t": INT32,
    "int8_t": INT8,
    "bool": BOOL,
    "float": FLOAT,
    "double": DOUBLE,
}
SCHEMA_TYPES = {
    "Tensor": TENSOR,
    "Tensor[]": TENSORS,
    "Scalar": SCALAR,
    "Scalar[]": SCALARS,
    "int[]": INTS,
    "SymInt[]": INTS,
    "bool[]": BOOLS,
    "int": INT64,
    "SymInt": INT64,
    "bool": BOOL,
    "float": DOUBLE,
    "ScalarType": INT32,
}
OPTIONAL_BY_POINTER = {TENSOR, SCALAR, INTS}  # of which ConvertType takes an optional and passes a null pointer

CALL = re.compile(r"\bEXEC_(?:UPDATE_|GET_MAX_)?(?:NPU_|WORKSPACE_)(?:NO_FORMAT_CHECK_)?CMD(?:_SYNC|_EXT)?\s*\(")
TYPE = r"(?:const\s+)?(?:(?:::)?[A-Za-z_][\w:]*)(?:\s*<(?:[^<>;{}()=]|<[^<>;{}()=]*>)*>)?"


@dataclass(frozen=True)
class CallSites:
    """What is known of a release's calls."""

    forms: Mapping[str, set[Form]]  # by operator
    probed: frozenset[
        str
    ]  # operators of which torch_npu looks whether they are there, and goes another way without them


def find_calls(folders: Iterable[Path], torch_version: tuple[int, int]) -> CallSites:
    """All forms in which each operator is called in the sources below the folders.

    Args:
        folders: Source trees. Call sites are in *.cpp and *.h, and in files named op_plugin_functions.yaml.
        torch_version: Decides `#if VERSION_BETWEEN(V2R1, V2R8)`.
    """
    found: dict[str, set[Form]] = {}
    probed: set[str] = set()
    for folder in folders:
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".cpp", ".h") and path.is_file())
        for path in files:
            text = path.read_text(errors="replace")
            probed |= cpp_probes(text)
            for name, form in cpp_calls(text, torch_version):
                found.setdefault(name, set()).add(form)
        for path in folder.rglob("op_plugin_functions.yaml"):
            text = path.read_text()
            probed |= generated_probes(text)
            for name, form in generated_calls(text):
                found.setdefault(name, set()).add(form)
    return CallSites({name: merge(forms) for name, forms in found.items()}, frozenset(probed & set(found)))


def merge(forms: Iterable[Form]) -> set[Form]:
    """Unites forms that differ only in what is unknown of one of them."""
    merged: list[Form] = []
    for form in sorted(forms, key=lambda form: (form.count(UNKNOWN), form)):
        for index, other in enumerate(merged):
            if agree(form, other):
                merged[index] = tuple(a if b == UNKNOWN else b for a, b in zip(form, other, strict=True))
                break
        else:
            merged.append(form)
    return set(merged)


def agree(a: Form, b: Form) -> bool:
    """Whether two argument lists can be the same, as far as their types are known."""
    return len(a) == len(b) and all(x == y or UNKNOWN in (x, y) for x, y in zip(a, b, strict=True))


def accepts(declared: Form, called: Form) -> bool:
    """Whether an operator with these arguments can be called so: they agree, or are read narrower than passed.

    The low byte of a 32 bit argument is the same number (on the little-endian machines of CANN), if it fits; some
    releases pass the computation type of a matrix product as int8_t, others as int.
    """
    narrowed = tuple(a if (a, b) == (INT8, INT32) else b for a, b in zip(declared, called, strict=False))
    return len(declared) == len(called) and agree(declared, narrowed)


def written(form: Form) -> str:
    """The form as it stands in records and messages: "(tensor, tensor, scalar)"."""
    return f"({', '.join(form)})"


# ---- C++ -----------------------------------------------------------------------------------------------------------


def cpp_calls(text: str, torch_version: tuple[int, int]) -> Iterator[tuple[str, Form]]:
    """The calls in one C++ file: operator and types of its arguments."""
    text = active_lines(without_comments(text), torch_version)
    for call in CALL.finditer(text):
        arguments = split_arguments(text, call.end())
        name = next(iter(arguments), "")
        if not re.fullmatch(r"acl(nn)?[A-Z]\w*", name):
            continue  # the definition of a macro
        values = arguments[3:] if "EXEC_UPDATE_" in call[0] else arguments[1:]  # (name, workspace, its size, ...)
        # A function ends with a brace in the first column; what is before the last one belongs to other functions.
        scope = text[text.rfind("\n}", 0, call.start()) + 1 : call.start()]
        yield name, tuple(type_of_value(value, scope) for value in values)


def cpp_probes(text: str) -> set[str]:
    """The operators that a C++ file names other than to call them: DO_COMPATIBILITY, check_aclnn_kernel_available.

    A name in a message counts, too; to take an operator for a probed one does no harm.
    """
    rest = re.sub(r"\bEXEC_\w+\(\s*\w+", "", without_comments(text, keep_strings=True))
    return {name.removesuffix("GetWorkspaceSize") for name in re.findall(r"\bacl(?:nn)?[A-Z]\w*", rest)}


def without_comments(text: str, keep_strings: bool = False) -> str:
    """Removes comments, and by default what stands in strings: words of a message would look like declarations."""
    strings_and_comments = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)

    def replacement(match: re.Match) -> str:
        if match[0][0] != '"':
            return " "
        return match[0] if keep_strings else '""'

    return strings_and_comments.sub(replacement, text)


def active_lines(text: str, torch_version: tuple[int, int]) -> str:
    """Removes the branches of VERSION_BETWEEN that do not apply to this torch, and joins continued lines."""
    kept, stack = [], []  # of each open #if: whether its lines count, None where the condition is another one
    for line in text.replace("\\\n", " ").split("\n"):
        directive = re.match(r"\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b(.*)", line)
        if not directive:
            if False not in stack:
                kept.append(line)
        elif directive[1] in ("if", "ifdef", "ifndef"):
            stack.append(version_condition(directive[2], torch_version))
        elif directive[1] == "endif" and stack:
            stack.pop()
        elif stack and stack[-1] is not None:
            stack[-1] = not stack[-1]
    return "\n".join(kept)


def version_condition(condition: str, torch_version: tuple[int, int]) -> bool | None:
    """Evaluates `VERSION_BETWEEN(V2R1, V2R8)`; None for any other condition."""
    match = re.fullmatch(
        r"\s*(!?)\s*VERSION_BETWEEN\(\s*V(\d+)R(\d+)\s*,\s*(?:V(\d+)R(\d+)|VERSION_NEWEST)\s*\)\s*", condition
    )
    if not match:
        return None
    negated, low, high = match[1], (int(match[2]), int(match[3])), match[4] and (int(match[4]), int(match[5]))
    return (low <= torch_version and (not high or torch_version <= high)) != bool(negated)


def split_arguments(text: str, start: int) -> list[str]:
    """The arguments of the call whose opening parenthesis is just before `start`."""
    depth, begin, arguments = 0, start, []
    for index in range(start, len(text)):
        character = text[index]
        if character in "([{":
            depth += 1
        elif character in ")]}" and depth:
            depth -= 1
        elif character in ",)" and not depth:
            arguments.append(" ".join(text[begin:index].split()))
            begin = index + 1
            if character == ")":
                return arguments
    return []


def type_of_value(value: str, scope: str) -> str:
    """The type of an argument: of the variable's last declaration before the call, or of a plain expression."""
    element = re.fullmatch(r"(\w+)\[[^\]]*\]", value)
    if element:
        return TENSOR if type_of_value(element[1], scope) == TENSORS else UNKNOWN
    if not re.fullmatch(r"[A-Za-z_]\w*", value) or value in ("true", "false", "nullptr"):
        return type_of_expression(value)
    declaration = re.compile(rf"(?<![\w:.<])({TYPE})\s*[&*]*\s+[&*]*\s*{value}\s*(?:([=({{])|[;,):\[])")
    last = None
    for match in declaration.finditer(scope):
        if match[1].split()[-1] not in ("return", "else", "const", "case"):
            last = match
    if last is None:
        return UNKNOWN
    if last[1].split()[-1] != "auto":
        return type_of_declaration(last[1])
    expression = re.match(r"[^;]*", scope[last.end() :])[0] if last[2] == "=" else ""
    return type_of_expression(expression)


def type_of_declaration(text: str) -> str:
    """The type for a C++ type as written: `const c10::optional<at::Tensor>` is a tensor."""
    text = re.sub(r"\bconst\b|\b(?:at|c10|std)::|\s", "", text).removeprefix("::")
    optional = re.fullmatch(r"optional<(.+)>", text)
    if optional:
        inner = type_of_declaration(optional[1])
        return inner if inner in OPTIONAL_BY_POINTER else UNKNOWN
    if re.fullmatch(r"array<bool,\w+>", text):
        return BOOLS
    return CPP_TYPES.get(text, UNKNOWN)


def type_of_expression(text: str) -> str:
    """The type of an expression that says it itself: a literal, a cast, a constructor, an allocation."""
    text = text.strip()
    if text in ("true", "false"):
        return BOOL
    if re.fullmatch(r"-?\d+", text):
        return INT32
    if re.fullmatch(r"-?\d*\.\d*(e-?\d+)?f", text):
        return FLOAT
    if re.fullmatch(r"-?\d*\.\d*(e-?\d+)?", text) and text not in (".", ""):
        return DOUBLE
    if text.startswith('"') or re.match(r"const_cast<\s*char\s*\*\s*>", text):
        return TEXT
    if re.match(r"(?:npu_preparation|OpPreparation)::apply_tensor\w*\(|at::(?:empty|zeros|ones)(?:_like)?\(", text):
        return TENSOR
    cast = re.fullmatch(rf"(?:static_cast<\s*({TYPE})\s*>|((?:at|c10)::\w+))\s*(\(.*\))", text, flags=re.DOTALL)
    if cast and closes_at_end(cast[3]):
        return type_of_declaration(cast[1] or cast[2])
    return UNKNOWN


def closes_at_end(text: str) -> bool:
    """Whether the parenthesis that the text begins with is closed by its last character."""
    depths, depth = [], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        depths.append(depth)
    return depths[-1] == 0 and 0 not in depths[:-1]


# ---- generated from op_plugin_functions.yaml -----------------------------------------------------------------------


def generated_calls(text: str) -> Iterator[tuple[str, Form]]:
    """The calls that torchnpugen generates from the entries `gen_opapi`.

    The file is read line by line, as its entries are laid out; it needs no YAML library then.
    """
    for entry in entries(text):
        head, _, body = entry.partition("\n    gen_opapi:\n")
        schema = re.match(r"\s*(\S+?)\((.*)\)\s*->\s*(.*)", head)
        execute = re.search(r"^      exec:\s*(.+?)\s*$", body, re.MULTILINE)
        if not schema or not execute:
            continue
        types = schema_types(schema[2])
        arguments = list(types)
        outputs = re.findall(r"^      (\w+):\s*\n        (?:size|dtype):", body, re.MULTILINE)
        types.update({name: TENSOR for name in outputs if name not in types})
        types.update(new_parameters(body, types))
        name, *values = (word.strip() for word in execute[1].split(","))
        if not values:
            functional = "!" not in schema[2]
            values = arguments + (outputs if functional else [])
        yield name, tuple(types.get(value, UNKNOWN) for value in values)
        # A scalar in the memory of the CPU goes to another operator.
        for parameter, other in re.findall(
            r"^        - param:\s*(\w+)\s*\n          exec:\s*(\w+)", body, re.MULTILINE
        ):
            yield other, tuple(SCALAR if value == parameter else types.get(value, UNKNOWN) for value in values)


def entries(text: str) -> list[str]:
    """The entries of op_plugin_functions.yaml, each from its schema on."""
    return re.split(r"\n\s*- func:", "\n" + text)[1:]


def generated_probes(text: str) -> set[str]:
    """The operators that generated code probes (DO_COMPATIBILITY): those of entries that also have acl_op."""
    return {
        name
        for entry in entries(text)
        if re.search(r"^    acl_op:", entry, re.MULTILINE)
        for name in re.findall(r"^\s+exec:\s*(\w+)", entry, re.MULTILINE)
    }


def schema_types(arguments: str) -> dict[str, str]:
    """The types of a function's schema: "Tensor self, int[2]? dim=None, *, Scalar alpha=1" by name."""
    types = {}
    for argument in split_arguments(arguments + ")", 0):
        if argument in ("*", ""):
            continue
        kind, name = argument.split("=")[0].rsplit(" ", 1)
        kind = re.sub(r"\([^)]*\)", "", kind)  # alias annotation, Tensor(a!)
        kind = re.sub(r"\[\d+\]", "[]", kind)
        known = SCHEMA_TYPES.get(kind.rstrip("?"), UNKNOWN)
        types[name] = UNKNOWN if kind.endswith("?") and known not in OPTIONAL_BY_POINTER else known
    return types


def new_parameters(body: str, types: dict[str, str]) -> dict[str, str]:
    """The types of the variables that an entry's `new_params` defines."""
    section = re.search(r"^      new_params:\n((?:        .*\n)*)", body, re.MULTILINE)
    lines = re.findall(r"^        (\w+):\s*(.+?)\s*$", section[1], re.MULTILINE) if section else []
    return {name: type_of_expression(value.strip("'")) for name, value in lines}
