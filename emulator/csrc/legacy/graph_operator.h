// How a graph operator of the emulated libacl_op_compiler.so is declared:
//
//     GRAPH_OPERATOR(BroadcastTo, Movement, call.output() = call.input(0).expand(call.output()->sizes()))
//
// is the operator that torch_npu runs by aclopCompileAndExecute("BroadcastTo", ...): its name, its kind (operators/operator.h),
// and a body of libtorch CPU calls. torch_npu takes this older road for a few operators always, and for others where
// libopapi.so lacks their aclnn function: add that function (csrc/operators/) rather than a graph operator.
#pragma once
#include "../operators/operator.h"
#include "../runtime/descriptors.h"

namespace npu_emulator {

/// One call of a graph operator.
struct GraphCall {
    std::vector<Tensor> inputs;   // contiguous; undefined where torch_npu passes none
    std::vector<Tensor> outputs;  // the device buffers
    aclopAttr attributes;

    /// These throw where the call has no such input or output.
    const Tensor& input(size_t i) const;
    Output output(size_t i = 0) const;

    /// The number (or boolean) of that name; `otherwise` where the call has none.
    double number(const char* name, double otherwise) const;
    /// The list of that name; empty where the call has none.
    std::vector<int64_t> integers(const char* name) const;
    /// An input that lists dimensions; empty where the call has no such input.
    std::vector<int64_t> dimensions(size_t i) const;
};

struct GraphOperator {
    OperatorInfo info;
    void (*body)(GraphCall& call);
    GraphOperator(const char* name, Kind kind, void (*body)(GraphCall& call));  // enters the table
};

}  // namespace npu_emulator

#define GRAPH_OPERATOR(NAME, KIND, ...)                                                         \
    static void body_of_##NAME([[maybe_unused]] npu_emulator::GraphCall& call) { __VA_ARGS__; } \
    static const npu_emulator::GraphOperator entry_of_##NAME(#NAME, npu_emulator::Kind::KIND, &body_of_##NAME);

using namespace npu_emulator;
