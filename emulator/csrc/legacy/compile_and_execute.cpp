// aclopCompileAndExecute: finds a graph operator in the table and runs it on its stream, as aclnn operators run.
#include <map>

#include "../runtime/device_addresses.h"
#include "counterparts.h"
#include "graph_operator.h"

namespace npu_emulator {

namespace {

constexpr int kNoSuchOperator = 100024;  // ACL_ERROR_OP_NOT_FOUND

std::map<std::string, const GraphOperator*>& table() {
    static auto* operators = new std::map<std::string, const GraphOperator*>;
    return *operators;
}

/// A constant on the host lives only until the call returns: it is copied. A tensor without elements has no memory.
Tensor wrap(const aclTensorDesc* description, const aclDataBuffer* buffer) {
    if (!description || !buffer || description->type < 0) return Tensor();
    auto options = at::TensorOptions().dtype(torch_dtype(description->type));
    if (!buffer->data) return c10::multiply_integers(description->size) == 0 ? at::empty(description->size, options) : Tensor();
    Tensor tensor = at::from_blob(on_host(buffer->data), description->size, options);
    return description->constant_on_host ? tensor.clone() : tensor;
}

std::vector<Tensor> wrap_all(int count, const aclTensorDesc* const descriptions[], const aclDataBuffer* const buffers[]) {
    std::vector<Tensor> tensors;
    for (int i = 0; i < count; i++) tensors.push_back(wrap(descriptions[i], buffers[i]));
    return tensors;
}

int execute(const GraphOperator& graph_operator, GraphCall& call, void* stream) {
    const OperatorInfo& info = graph_operator.info;
    try {
        CpuDispatch dispatch;
        Execution execution(info, stream, call.outputs);
        std::erase_if(call.attributes.numbers, [&](const auto& attribute) { return execution.ignores(attribute.first.c_str()); });
        if (!execution.dropped()) graph_operator.body(call);
        execution.finish();
        return 0;
    } catch (const InjectedFailure& failure) {
        set_error(std::string(info.name) + ": " + failure.what());
        return failure.code;
    } catch (const std::exception& error) { return report_failure(info.name, error); }
}

std::string not_emulated(const char* name) {
    std::string message =
        std::string("torch_npu asks for ") + name + ", which is neither an aclnn function nor a graph operator of the emulator. ";
    std::string functions = missing_counterparts_of(name);
    if (functions.empty())
        message += "Add the graph operator in emulator/csrc/legacy/";
    else
        message += "It does so because libopapi.so lacks the aclnn function of the same purpose, one of " + functions +
                   ": add that in emulator/csrc/operators/<family>.cpp";
    return message + " (emulator/README.md shows how).";
}

}  // namespace

GraphOperator::GraphOperator(const char* name, Kind kind, void (*body)(GraphCall& call)) : info(name, kind), body(body) {
    table()[name] = this;
}

const Tensor& GraphCall::input(size_t i) const {
    TORCH_CHECK(i < inputs.size() && inputs[i].defined(), "has no input ", i);
    return inputs[i];
}

Output GraphCall::output(size_t i) const {
    TORCH_CHECK(i < outputs.size(), "has no output ", i);
    return {outputs[i]};
}

double GraphCall::number(const char* name, double otherwise) const {
    auto found = attributes.numbers.find(name);
    return found == attributes.numbers.end() ? otherwise : found->second;
}

std::vector<int64_t> GraphCall::integers(const char* name) const {
    auto found = attributes.lists.find(name);
    return found == attributes.lists.end() ? std::vector<int64_t>() : found->second;
}

std::vector<int64_t> GraphCall::dimensions(size_t i) const {
    if (i >= inputs.size() || !inputs[i].defined()) return {};
    Tensor list = inputs[i].to(at::kLong).contiguous();
    return {list.data_ptr<int64_t>(), list.data_ptr<int64_t>() + list.numel()};
}

}  // namespace npu_emulator

using namespace npu_emulator;

CANN_API int aclopCompileAndExecute(const char* name, int input_count, const aclTensorDesc* const input_descriptions[],
                                    const aclDataBuffer* const inputs[], int output_count, const aclTensorDesc* const output_descriptions[],
                                    aclDataBuffer* const outputs[], const aclopAttr* attributes, int /*engine*/, int /*compilation*/,
                                    const char* /*path*/, void* stream) {
    auto found = table().find(name);
    if (found == table().end()) {
        set_error(not_emulated(name));
        return kNoSuchOperator;
    }
    try {
        auto call = std::make_shared<GraphCall>();
        call->inputs = wrap_all(input_count, input_descriptions, inputs);
        call->outputs = wrap_all(output_count, output_descriptions, outputs);
        if (attributes) call->attributes = *attributes;
        const GraphOperator& graph_operator = *found->second;
        return submit(stream, [call, stream, &graph_operator] { return execute(graph_operator, *call, stream); });
    } catch (const std::exception& error) { return report_failure(name, error); }
}

/// The form for outputs whose shape depends on the data, which the descriptions then carry; no emulated operator has such.
CANN_API int aclopCompileAndExecuteV2(const char* name, int input_count, aclTensorDesc* input_descriptions[], aclDataBuffer* inputs[],
                                      int output_count, aclTensorDesc* output_descriptions[], aclDataBuffer* outputs[],
                                      aclopAttr* attributes, int engine, int compilation, const char* path, void* stream) {
    return aclopCompileAndExecute(name, input_count, input_descriptions, inputs, output_count, output_descriptions, outputs, attributes,
                                  engine, compilation, path, stream);
}

/// Every graph operator, one a line.
CANN_API const char* npu_emulator_graph_operators() {
    static const std::string list = [] {
        std::string lines;
        for (auto& [name, graph_operator] : table()) lines += name + "\n";
        return lines;
    }();
    return list.c_str();
}
