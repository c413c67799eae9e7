// Events: marks in a stream that other streams and the host can wait for, with the times at which they were reached.
#include <chrono>
#include <memory>
#include <unordered_map>

#include "runtime.h"

namespace npu_emulator {
namespace {

/// Outlives its handle for as long as a stream has still to reach it or waits for it.
struct Event {
    std::mutex lock;
    std::condition_variable changed;
    uint64_t recorded = 0;  // how often it was put on a stream
    uint64_t reached = 0;   // the latest of these that its stream has reached
    int error = 0;          // that its stream was stuck in
    double milliseconds = 0;
    bool complete() const { return reached >= recorded; }
};

struct Registry {
    std::mutex lock;
    std::unordered_map<void*, std::shared_ptr<Event>> events;
};
Registry& registry = *new Registry;

std::shared_ptr<Event> find(void* handle) {
    std::lock_guard guard(registry.lock);
    auto found = registry.events.find(handle);
    return found == registry.events.end() ? nullptr : found->second;
}

int no_such_event(const char* name) {
    return fail(ACL_ERROR_RT_PARAM_INVALID, std::string(name) + ": there is no such event, or it was destroyed");
}

double now_milliseconds() { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

int create(aclrtEvent* handle) {
    if (int code = enter_runtime("aclrtCreateEvent")) return code;
    auto event = std::make_shared<Event>();
    std::lock_guard guard(registry.lock);
    registry.events[event.get()] = event;
    *handle = event.get();
    return ACL_SUCCESS;
}

}  // namespace
}  // namespace npu_emulator

using namespace npu_emulator;

#ifndef ACL_EVENT_IPC  // in the headers of torch_npu before 2.10
#define ACL_EVENT_IPC 0x40U
#endif

CANN_API aclError aclrtCreateEvent(aclrtEvent* event) { return create(event); }
CANN_API aclError aclrtCreateEventWithFlag(aclrtEvent* event, uint32_t flag) { return aclrtCreateEventExWithFlag(event, flag); }
CANN_API aclError aclrtCreateEventExWithFlag(aclrtEvent* event, uint32_t flag) {
    if (flag & ACL_EVENT_IPC) return unsupported("aclrtCreateEventExWithFlag", "events shared between processes (ACL_EVENT_IPC)");
    if (flag & ACL_EVENT_EXTERNAL)
        return unsupported("aclrtCreateEventExWithFlag", "external events (ACL_EVENT_EXTERNAL), which NPU graphs use");
    return create(event);
}

CANN_API aclError aclrtDestroyEvent(aclrtEvent event) {
    if (!find(event)) return no_such_event("aclrtDestroyEvent");
    if (int code = enter_runtime("aclrtDestroyEvent")) return code;
    std::lock_guard guard(registry.lock);
    registry.events.erase(event);
    return ACL_SUCCESS;
}

CANN_API aclError aclrtRecordEvent(aclrtEvent handle, aclrtStream stream) {
    auto event = find(handle);
    if (!event) return no_such_event("aclrtRecordEvent");
    auto gate = pass("aclrtRecordEvent", "null", stream);
    if (gate.code || gate.find("null")) return gate.code;
    uint64_t mark;
    {
        std::lock_guard guard(event->lock);
        mark = ++event->recorded;
    }
    return submit_always(stream, [event, mark](int error) {
        std::lock_guard guard(event->lock);
        event->reached = std::max(event->reached, mark);
        event->error = error;
        event->milliseconds = now_milliseconds();
        event->changed.notify_all();
    });
}

CANN_API aclError aclrtResetEvent(aclrtEvent handle, aclrtStream) { return find(handle) ? ACL_SUCCESS : no_such_event("aclrtResetEvent"); }

CANN_API aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent handle) {
    auto event = find(handle);
    if (!event) return no_such_event("aclrtStreamWaitEvent");
    auto gate = pass("aclrtStreamWaitEvent", "null", stream);
    if (gate.code || gate.find("null")) return gate.code;
    uint64_t mark;
    {
        std::lock_guard guard(event->lock);
        mark = event->recorded;
    }
    return submit_always(stream, [event, mark](int) {
        std::unique_lock guard(event->lock);
        event->changed.wait(guard, [&] { return event->reached >= mark; });
    });
}

CANN_API aclError aclrtSynchronizeEvent(aclrtEvent handle) {
    auto event = find(handle);
    if (!event) return no_such_event("aclrtSynchronizeEvent");
    auto gate = pass("aclrtSynchronizeEvent", "null");
    if (gate.code || gate.find("null") || forked()) return gate.code;
    std::unique_lock guard(event->lock);
    event->changed.wait(guard, [&, mark = event->recorded] { return event->reached >= mark; });
    return event->error ? fail(event->error, "the stream that was to reach the event had failed") : ACL_SUCCESS;
}

CANN_API aclError aclrtQueryEventStatus(aclrtEvent handle, aclrtEventRecordedStatus* status) {
    auto event = find(handle);
    if (!event) return no_such_event("aclrtQueryEventStatus");
    auto gate = pass("aclrtQueryEventStatus", "null");
    if (gate.code) return gate.code;
    *status = ACL_EVENT_RECORDED_STATUS_COMPLETE;
    if (forked() || gate.find("null")) return ACL_SUCCESS;
    std::lock_guard guard(event->lock);
    if (!event->complete()) *status = ACL_EVENT_RECORDED_STATUS_NOT_READY;
    return ACL_SUCCESS;
}

CANN_API aclError aclrtEventElapsedTime(float* milliseconds, aclrtEvent first, aclrtEvent second) {
    auto from = find(first), to = find(second);
    if (!from || !to) return no_such_event("aclrtEventElapsedTime");
    auto gate = pass("aclrtEventElapsedTime", "scale bias zero");
    if (gate.code) return gate.code;
    auto time_of = [](Event& event) {
        std::lock_guard guard(event.lock);
        return event.recorded && event.complete() ? std::optional(event.milliseconds) : std::nullopt;
    };
    auto start = time_of(*from), end = time_of(*to);
    if (!start || !end)
        return fail(ACL_ERROR_RT_EVENT_TIMESTAMP_INVALID,
                    "aclrtEventElapsedTime: an event was not recorded, or its stream has not reached it yet");
    *milliseconds = static_cast<float>(gate.changed(*end - *start));
    return ACL_SUCCESS;
}
