// One execution of an operator: registry, hooks, noise, faults, saturation.
#include <cstring>
#include <map>
#include <mutex>
#include <sstream>

#include "distortion.h"
#include "operator.h"

namespace npu_emulator {

namespace {

std::map<std::string, const OperatorInfo*>& registry() {
    static auto* operators = new std::map<std::string, const OperatorInfo*>;
    return *operators;
}

const char* kind_name(Kind kind) {
    switch (kind) {
        case Kind::Movement:
            return "Movement";
        case Kind::Random:
            return "Random";
        case Kind::Elementwise:
            return "Elementwise";
        case Kind::Approximate:
            return "Approximate";
        case Kind::Accumulating:
            return "Accumulating";
        case Kind::Matmul:
            return "Matmul";
    }
    return "";
}

thread_local const Faults* faults_of_this_thread = nullptr;
thread_local OperatorInfo* info_of_this_thread = nullptr;

/// In saturation mode the vector unit clamps fp16 to the largest finite number, makes 0 of NaN, and sets the float status.
void saturate(const Tensor& output) {
    if (!saturates() || output.scalar_type() != at::kHalf || at::isfinite(output).all().item<bool>()) return;
    raise_overflow();
    output.copy_(at::nan_to_num(output, 0.0, 65504.0, -65504.0));
}

}  // namespace

OperatorInfo::OperatorInfo(const char* name, const char* parameters, Kind kind) : name(name), parameters(parameters), kind(kind) {
    registry()[name] = this;
}

CpuDispatch::CpuDispatch()
    // Factory functions fail without BackendSelect.
    : keys(c10::DispatchKeySet({c10::DispatchKey::BackendSelect}),
           c10::autograd_dispatch_keyset | c10::autocast_dispatch_keyset | c10::DispatchKeySet({c10::DispatchKey::ADInplaceOrView})) {}

struct Execution::State {
    OperatorInfo info;
    std::vector<Tensor> outputs;
    Faults faults;
    std::vector<Tensor> before;  // what was in the outputs' memory, where a fault or noise needs it
    const Faults* outer = nullptr;
    OperatorInfo* outer_info = nullptr;
};

Execution::Execution(const OperatorInfo& info, void* stream, std::vector<Tensor> outputs)
    : state_(new State{info, std::move(outputs), {}, {}, faults_of_this_thread, info_of_this_thread}) {
    Call call{info.name, CallKind::Operator, stream};
    for (auto& output : state_->outputs) {
        if (!output.defined()) continue;
        call.dtype = dtype_name(output.scalar_type());
        call.numel = output.numel();
        break;
    }
    state_->faults = enter(call);
    bool needed = settings().noise.on;
    for (auto* fault : state_->faults) needed = needed || fault->find("tail");
    if (needed) {
        for (auto& output : state_->outputs) state_->before.push_back(output.defined() ? output.clone() : output);
    }
    faults_of_this_thread = &state_->faults;
    info_of_this_thread = &state_->info;
}

Execution::~Execution() {
    faults_of_this_thread = state_->outer;
    info_of_this_thread = state_->outer_info;
}

bool Execution::dropped() const {
    for (auto* fault : state_->faults)
        if (fault->find("null")) return true;
    return false;
}

bool Execution::any_ignored() const {
    for (auto* fault : state_->faults)
        if (fault->find("ignore")) return true;
    return false;
}

bool Execution::ignores(const char* parameter) const {
    for (auto* fault : state_->faults)
        for (auto& action : fault->actions)
            if (action.name == "ignore" && action.text == parameter) return true;
    return false;
}

Tensor Execution::matmul_input(const Tensor& input) const { return round_to_hf32(input); }

/// Whether the fault has done something to this execution before its outputs are looked at.
static bool worked_already(const Fault& fault, const OperatorInfo& info) {
    for (auto& action : fault.actions) {
        if (action.name == "null" || action.name == "delay") return true;
        if ((action.name == "same-seed" || action.name == "ignore-seed") && info.kind == Kind::Random) return true;
        if (action.name != "ignore") continue;
        for (auto& name : parameter_names(info.parameters))
            if (name == action.text) return true;
    }
    return false;
}

void Execution::finish() {
    auto& [info, outputs, faults, before, outer, outer_info] = *state_;
    std::vector<bool> worked;
    for (auto* fault : faults) worked.push_back(worked_already(*fault, info));
    bool remembers = may_become_stale(info.name);
    for (size_t i = 0; i < outputs.size(); i++) {
        Tensor& output = outputs[i];
        if (!output.defined() || output.numel() == 0) continue;
        // Running statistics that are outputs, and are left alone in evaluation, get no noise.
        if (before.empty() || !at::equal(output, before[i])) add_noise(output, info);
        Tensor previous = remembers ? exchange_result(info.name, i, output) : Tensor();
        for (size_t f = 0; f < faults.size(); f++) {
            auto* only = faults[f]->find("output");
            if (only && static_cast<size_t>(only->number) != i) continue;
            if (distort(output, *faults[f], info.name, before.empty() ? Tensor() : before[i], previous)) worked[f] = true;
        }
        bool computes = info.kind != Kind::Movement && info.kind != Kind::Random;
        if (computes) saturate(output);
    }
    for (size_t f = 0; f < faults.size(); f++)
        if (!worked[f]) had_no_effect(*faults[f]);
}

const Faults& current_faults() {
    static const Faults none;
    return faults_of_this_thread ? *faults_of_this_thread : none;
}

void executes_as(Kind kind) { info_of_this_thread->kind = kind; }

int report_failure(const char* name, const std::exception& error) {
    constexpr int kInnerError = 561000;  // ACLNN_ERR_INNER
    const char* what = error.what();
    set_error(std::string(name) + " failed on the emulated card: " + std::string(what, std::strcspn(what, "\n")));
    return kInnerError;
}

std::vector<std::string> parameter_names(const char* parameters) {
    std::vector<std::string> names;
    std::string text(parameters);
    std::stringstream list(text.substr(1, text.size() - 2));  // without the parentheses
    for (std::string parameter; std::getline(list, parameter, ',');) names.push_back(parameter.substr(parameter.find_last_of(' ') + 1));
    return names;
}

int launch(aclOpExecutor* executor, void* stream) {
    // A stream that has failed drops the task, and with it the executor.
    return submit(stream, [owned = std::shared_ptr<aclOpExecutor>(executor), stream] { return owned->run(stream); });
}

}  // namespace npu_emulator

/// Every operator of this library, one a line: "aclnnAdd Elementwise (Tensor self, Tensor other, Scalar alpha, Output out)".
CANN_API const char* npu_emulator_operators() {
    static const std::string list = [] {
        std::string lines;
        for (auto& [name, info] : npu_emulator::registry())
            lines += name + " " + npu_emulator::kind_name(info->kind) + " " + info->parameters + "\n";
        return lines;
    }();
    return list.c_str();
}
