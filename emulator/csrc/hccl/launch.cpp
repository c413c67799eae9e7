#include "launch.h"

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>

#include "faults.h"
#include "reduction.h"

namespace npu_emulator::hccl {
namespace {

/// Never destroyed: streams may still be at work when the process ends.
struct Registry {
    std::mutex lock;
    std::map<HcclComm, Shared> communicators;
};
Registry& registry = *new Registry;

uint64_t elements(const std::vector<Block>& blocks) {
    uint64_t sum = 0;
    for (auto& block : blocks) sum += block.count;
    return sum;
}

/// Puts a call on its stream. `body` gets the faults that fire. If it fails, the other ranks are told.
HcclResult launch(Kind kind, const Shared& communicator, void* stream, HcclDataType dtype, uint64_t count,
                  std::function<void(const Faults&)> body) {
    auto task = [=] {
        return guarded(name_of(kind), [&] {
            try {
                Call call{name_of(kind), CallKind::Collective, stream};
                if (kind != Kind::Barrier) call.dtype = dtype_name(dtype);
                call.numel = static_cast<int64_t>(count);
                call.rank = static_cast<int>(communicator->rank());
                call.actions = result_actions;
                auto faults = enter(call);
                auto turn = communicator->begin(kind);
                body(faults);
                return HCCL_SUCCESS;
            } catch (const Failure& failure) {
                communicator->give_up(failure.code, std::string(name_of(kind)) + ": " + failure.what());
                throw;
            } catch (const std::exception& error) {
                communicator->give_up(HCCL_E_REMOTE, std::string(name_of(kind)) + " on rank " + std::to_string(communicator->rank()) +
                                                         " of communicator " + communicator->name() + ": " + error.what());
                throw;
            }
        });
    };
    return static_cast<HcclResult>(submit(stream, task));
}

/// A barrier that is not executed: this rank does not wait for the others, but they need not wait for it in vain either.
bool skip_barrier(Communicator& communicator, const Collective& barrier, const Faults& faults) {
    Faults skipping;
    std::copy_if(faults.begin(), faults.end(), std::back_inserter(skipping), [](auto* fault) { return fault->find("null") != nullptr; });
    report_idle(faults, {skipping});
    if (skipping.empty()) return false;
    communicator.announce(barrier.announcement);
    communicator.come_without_waiting();
    return true;
}

/// Messages as faults change them. Returns the faults that changed something.
Faults misdirect(std::vector<Message>& messages, const Communicator& communicator, const Faults& faults) {
    Faults effective;
    for (auto* fault : faults) {
        bool changed = false;
        for (auto& action : fault->actions) {
            for (auto& message : messages) {
                uint32_t sender = message.sends ? communicator.rank() : message.peer;
                bool dropped = action.name == "drop-rank" && sender == static_cast<uint32_t>(action.number);
                bool withheld = action.name == "null" && message.sends;
                message.blank |= dropped;
                message.withheld |= withheld;
                changed |= dropped || withheld;
            }
        }
        if (changed) effective.push_back(fault);
    }
    return effective;
}

}  // namespace

HcclComm enrol(Shared communicator) {
    std::lock_guard guard(registry.lock);
    HcclComm handle = communicator.get();
    registry.communicators[handle] = std::move(communicator);
    return handle;
}

Shared find(HcclComm handle) {
    std::lock_guard guard(registry.lock);
    auto found = registry.communicators.find(handle);
    if (found == registry.communicators.end()) throw Failure(HCCL_E_PARA, "there is no such communicator, or it was destroyed");
    return found->second;
}

void strike_off(HcclComm handle) {
    auto communicator = find(handle);  // is destroyed after the lock is free, or with the last call that is under way
    std::lock_guard guard(registry.lock);
    registry.communicators.erase(handle);
}

HcclResult report_failure(const char* name) {
    HcclResult code = HCCL_E_INTERNAL;
    std::string text;
    try {
        throw;
    } catch (const Failure& failure) {
        code = failure.code;
        text = failure.what();
    } catch (const InjectedFailure& failure) {
        code = static_cast<HcclResult>(failure.code);
        text = failure.what();
    } catch (const std::exception& error) { text = error.what(); }
    set_error(std::string(name) + ": " + text);
    return code;
}

HcclResult launch(const Shared& communicator, void* stream, const Collective& collective) {
    auto& announcement = collective.announcement;
    uint64_t count = std::max(elements(collective.written()), announcement.count);
    return launch(announcement.kind, communicator, stream, announcement.dtype, count, [=](const Faults& faults) {
        auto kind = collective.announcement.kind;
        if (kind == Kind::Barrier && skip_barrier(*communicator, collective, faults)) return;
        auto distorted = collective;
        auto misdirected = misdirect(distorted, *communicator, faults);
        Result result(communicator->name() + " " + name_of(kind), distorted.written(), collective.announcement.dtype, faults);
        run(*communicator, distorted);
        if (kind != Kind::Barrier) report_idle(faults, {misdirected, result.finish()});
    });
}

HcclResult launch(Kind kind, const Shared& communicator, void* stream, const std::vector<Message>& messages) {
    if (messages.empty()) throw Failure(HCCL_E_PARA, "no message");
    std::vector<Block> all, received;
    for (auto& message : messages) {
        check(*communicator, message);
        all.push_back(message.block);
        if (!message.sends) received.push_back(message.block);
    }
    auto dtype = messages[0].dtype;
    return launch(kind, communicator, stream, dtype, elements(all), [=](const Faults& faults) {
        auto distorted = messages;
        auto misdirected = misdirect(distorted, *communicator, faults);
        Result result(communicator->name() + " " + name_of(kind), received, dtype, faults);
        exchange(*communicator, distorted);
        report_idle(faults, {misdirected, result.finish()});
    });
}

}  // namespace npu_emulator::hccl
