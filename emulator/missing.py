"""Operators that torch_npu calls and the emulator does not have: each becomes an error that says what to do.

Without them torch_npu would say that the name is not in libopapi.so, which is true, and no help. An operator of which
torch_npu looks whether it is there must stay absent, so that it goes its other way.
"""

from .call_sites import CallSites

SOURCE = "operators/missing_operators.cpp"  # generated, below csrc/

HEAD = """\
// Generated: the operators that torch_npu calls without looking whether they are there. The symbols are weak: an
// operator that a family defines takes the place of the one here.
#include "../runtime/emulator.h"

static int missing(const char* name) {
    npu_emulator::set_error(std::string(name) + " is not emulated. Add it to the family that it belongs to in "
                            "emulator/csrc/operators/; emulator/README.md shows how.");
    return 561003;  // ACLNN_ERR_INNER_FIND_KERNEL_ERROR
}

#define MISSING(NAME)                                                                                    \\
    extern "C" __attribute__((weak)) int NAME##GetWorkspaceSize() { return missing(#NAME); }             \\
    extern "C" __attribute__((weak)) int NAME() { return missing(#NAME); }

"""


def missing_operators(calls: CallSites) -> str:
    """The C++ source that defines every operator as missing, but for the probed ones."""
    return HEAD + "".join(f"MISSING({name})\n" for name in sorted(set(calls.forms) - calls.probed))
