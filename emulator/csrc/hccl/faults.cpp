#include "faults.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "reduction.h"
#include "tensors.h"

namespace npu_emulator::hccl {
namespace {

bool is_any_of(const std::string& name, std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

bool drop(Collective& collective, uint32_t rank) {
    bool changed = std::erase(collective.contributors, rank) > 0 && collective.keeps_result;
    for (auto& copy : collective.copies) {
        if (copy.from != rank) continue;
        copy.from = nobody;
        changed = true;
    }
    return changed;
}

bool change_root(Collective& collective, const Communicator& communicator, uint32_t root) {
    auto kind = collective.announcement.kind;
    if (root >= communicator.size() || root == collective.announcement.root) return false;
    if (kind == Kind::Reduce) {
        bool was_root = collective.keeps_result;
        collective.keeps_result = communicator.rank() == root;
        return collective.keeps_result != was_root;
    }
    if (kind != Kind::Broadcast && kind != Kind::Scatter) return false;
    for (auto& copy : collective.copies) copy.from = root;
    return !collective.copies.empty();
}

/// Ranks 0 and 1 take each other's place: as the origin of data, or, where every rank gets another part, as its receiver.
bool swap(Collective& collective, const Communicator& communicator) {
    if (communicator.size() < 2) return false;
    auto kind = collective.announcement.kind;
    auto swapped = [](uint32_t rank) { return rank < 2 ? 1 - rank : rank; };
    if (kind == Kind::Scatter || kind == Kind::ReduceScatter || kind == Kind::ReduceScatterV) {
        collective.part = swapped(collective.part);
        return collective.part < 2;
    }
    bool changed = false;
    for (auto& copy : collective.copies) {
        if (copy.from >= 2) continue;
        copy.from = swapped(copy.from);
        changed = true;
    }
    return changed;
}

bool change_reduction(Collective& collective, const std::string& name) {
    if (collective.contributors.size() < 2 || !collective.keeps_result) return false;
    for (auto reduction : {HCCL_REDUCE_SUM, HCCL_REDUCE_PROD, HCCL_REDUCE_MAX, HCCL_REDUCE_MIN}) {
        if (name != reduction_name(reduction) || reduction == collective.reduction) continue;
        collective.reduction = reduction;
        return true;
    }
    return false;
}

std::vector<std::vector<char>> contents(const std::vector<Block>& blocks, HcclDataType dtype) {
    std::vector<std::vector<char>> copies;
    for (auto& block : blocks) copies.emplace_back(block.data, block.data + block.count * bytes_of(dtype));
    return copies;
}

void put(const std::vector<Block>& blocks, const std::vector<std::vector<char>>& contents) {
    for (size_t i = 0; i < blocks.size(); i++) memcpy(blocks[i].data, contents[i].data(), contents[i].size());
}

/// Whether some fault, on this call or a later one, wants the result of the call before.
bool keeps_results() {
    static const bool wanted = [] {
        const char* faults = getenv("NPU_EMULATOR_FAULTS");
        return faults && strstr(faults, "stale");
    }();
    return wanted;
}

}  // namespace

Faults misdirect(Collective& collective, const Communicator& communicator, const Faults& faults) {
    Faults effective;
    for (auto* fault : faults) {
        bool changed = false;
        for (auto& [name, number, text] : fault->actions) {
            auto rank = static_cast<uint32_t>(number);
            if (name == "drop-rank") changed |= drop(collective, rank);
            if (name == "root") changed |= change_root(collective, communicator, rank);
            if (name == "swap") changed |= swap(collective, communicator);
            if (name == "reduce") changed |= change_reduction(collective, text);
        }
        if (changed) effective.push_back(fault);
    }
    return effective;
}

Result::Result(std::string what, std::vector<Block> written, HcclDataType dtype, const Faults& faults)
    : what_(std::move(what)), written_(std::move(written)), dtype_(dtype), faults_(faults) {
    if (!faults.empty()) before_ = contents(written_, dtype_);
}

uint64_t Result::count() const {
    uint64_t sum = 0;
    for (auto& block : written_) sum += block.count;
    return sum;
}

Faults Result::finish() {
    if (keeps_results()) {
        static std::mutex& lock = *new std::mutex;
        static auto& results = *new std::map<std::string, std::vector<std::vector<char>>>;
        auto key = what_;
        for (auto& block : written_) key += " " + std::to_string(block.count);
        std::lock_guard guard(lock);
        auto found = results.find(key);
        if (found != results.end()) previous_ = found->second;
        results[key] = contents(written_, dtype_);
    }
    Faults effective;
    for (auto* fault : faults_) {
        bool changed = false;
        for (auto& action : fault->actions) changed |= apply(action);
        if (changed) effective.push_back(fault);
    }
    return effective;
}

bool Result::apply(const Action& action) {
    if (count() == 0) return false;
    auto& name = action.name;
    if (name == "null") put(written_, before_);
    if (name == "stale" && previous_) put(written_, *previous_);
    if (name == "tail") restore_tail(static_cast<uint64_t>(action.number));
    if (is_any_of(name, {"null", "tail"})) return true;
    if (name == "stale") return previous_.has_value();
    if (!is_any_of(name, {"scale", "bias", "zero", "nan"})) return false;

    CpuDispatch dispatch;
    auto left = static_cast<int64_t>(static_cast<uint64_t>(action.number) % count());  // to the element that becomes NaN
    for (auto& block : written_) {
        auto values = view(block.data, block.count, dtype_);
        if (name == "zero") values.zero_();
        if (name != "zero" && !values.is_floating_point()) return false;
        if (name == "scale") values.mul_(action.number);
        if (name == "bias") values.add_(action.number);
        if (name == "nan" && left >= 0 && left < values.numel()) values.narrow(0, left, 1).fill_(NAN);
        left -= values.numel();
    }
    return true;
}

void Result::restore_tail(uint64_t elements) {
    for (size_t i = written_.size(); i-- > 0 && elements > 0;) {
        uint64_t here = std::min(elements, written_[i].count), first = written_[i].count - here;
        size_t width = bytes_of(dtype_);
        memcpy(written_[i].data + first * width, before_[i].data() + first * width, here * width);
        elements -= here;
    }
}

void report_idle(const Faults& faults, const std::vector<Faults>& effective) {
    for (auto* fault : faults) {
        bool worked = fault->find("delay") != nullptr;
        for (auto& some : effective) worked |= std::find(some.begin(), some.end(), fault) != some.end();
        if (!worked) had_no_effect(*fault);
    }
}

}  // namespace npu_emulator::hccl
