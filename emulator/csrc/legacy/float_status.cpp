// The float status: whether a number has overflowed since it was last cleared. torch_npu asks for it in saturation mode.
#include "graph_operator.h"

/// 8 numbers, the first of which is 1 after an overflow.
static void write_status(const Tensor& status) {
    status.zero_();
    status.view({-1}).select(0, 0).fill_(overflow_raised() ? 1 : 0);
}

GRAPH_OPERATOR(NPUAllocFloatStatus, Movement, call.output()->zero_())
GRAPH_OPERATOR(NPUGetFloatStatusV2, Movement, write_status(*call.output()))
GRAPH_OPERATOR(NPUGetFloatDebugStatus, Movement, write_status(*call.output()))
GRAPH_OPERATOR(NPUClearFloatStatusV2, Movement, clear_overflow())
GRAPH_OPERATOR(NPUClearFloatDebugStatus, Movement, clear_overflow())

// The form of chips before Ascend910B: the status goes into the input, and that is what torch_npu returns.
GRAPH_OPERATOR(NPUGetFloatStatus, Movement, {
    write_status(call.input(0));
    call.output()->zero_();
})
GRAPH_OPERATOR(NPUClearFloatStatus, Movement, {
    clear_overflow();
    call.input(0).zero_();
    call.output()->zero_();
})
