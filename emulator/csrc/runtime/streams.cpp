// Streams: work in order, at once on the caller's thread, or (NPU_EMULATOR_ASYNC=1) on a thread of each stream.
#include "streams.h"

#include <pthread.h>

#include <chrono>
#include <unordered_map>

namespace npu_emulator {
namespace {

/// All streams. Never destroyed: at the end of a process their threads may still be at work.
struct Registry {
    std::mutex lock;
    std::unordered_map<void*, std::shared_ptr<Stream>> streams;
    std::unordered_map<int, std::shared_ptr<Stream>> null_streams;  // by card, for the null handle
    std::unordered_map<int, int> created;                           // by card
    int next_id = 0;
};
Registry& registry = *new Registry;
std::atomic<bool> is_forked{false};
thread_local Stream* own_stream = nullptr;  // of a thread that executes one

/// A forked child has the memory of the streams, but not their threads. It must not wait for them, nor find the registry locked.
void watch_forks() {
    static const int registered = pthread_atfork([] { registry.lock.lock(); }, [] { registry.lock.unlock(); },
                                                 [] {
                                                     is_forked = true;
                                                     registry.lock.unlock();
                                                 });
    (void)registered;
}

std::shared_ptr<Stream> create(int card, bool null_stream) {
    watch_forks();
    std::lock_guard guard(registry.lock);
    bool side = !null_stream && registry.created[card]++ > 0;
    auto stream = std::make_shared<Stream>(card, registry.next_id++, side);
    if (null_stream)
        registry.null_streams[card] = stream;
    else
        registry.streams[stream.get()] = stream;
    return stream;
}

int execute(const Stream& stream, const Task& task, int error) {
    CardGuard card(stream.card);
    return task(error);
}

void work(std::shared_ptr<Stream> stream) {
    own_stream = stream.get();
    std::unique_lock guard(stream->lock);
    for (;;) {
        stream->changed.wait(guard, [&] { return stream->stopping || !stream->queue.empty(); });
        if (stream->queue.empty()) return;
        auto task = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->busy = true;
        int error = stream->error;
        guard.unlock();
        int code = execute(*stream, task, error);
        task = nullptr;  // what the task holds is released before the stream counts as idle
        guard.lock();
        if (code && !stream->error) {
            stream->error = code;
            stream->error_text = last_error();
        }
        stream->busy = false;
        stream->changed.notify_all();
    }
}

std::vector<std::shared_ptr<Stream>> streams_of(int card) {
    std::lock_guard guard(registry.lock);
    std::vector<std::shared_ptr<Stream>> streams;
    for (auto& [handle, stream] : registry.streams) {
        if (stream->card == card) streams.push_back(stream);
    }
    if (auto found = registry.null_streams.find(card); found != registry.null_streams.end()) streams.push_back(found->second);
    return streams;
}

int no_such_stream(const char* name) {
    return fail(ACL_ERROR_RT_STREAM_CONTEXT, std::string(name) + ": there is no such stream, or it was destroyed");
}

/// Forgets what the stream has still to do; its thread ends with it if it is to stop.
void drop_queue(Stream& stream, bool stop) {
    if (forked()) return;
    std::deque<Task> dropped;  // destroyed without the lock
    std::lock_guard guard(stream.lock);
    dropped.swap(stream.queue);
    stream.stopping = stop;
    stream.changed.notify_all();
}

int destroy(const char* name, void* handle, bool finish) {
    auto stream = find_stream(handle);
    if (!handle || !stream) return no_such_stream(name);
    if (int code = enter_runtime(name, handle)) return code;
    if (finish) wait(stream, -1);
    drop_queue(*stream, true);
    std::lock_guard guard(registry.lock);
    registry.streams.erase(handle);
    return ACL_SUCCESS;
}

int synchronize(const char* name, void* handle, int timeout_ms) {
    auto stream = find_stream(handle);
    if (!stream) return no_such_stream(name);
    auto gate = pass(name, "null", handle);
    if (gate.code) return gate.code;
    return gate.find("null") ? ACL_SUCCESS : wait(stream, timeout_ms);
}

}  // namespace

bool forked() { return is_forked; }

void note_call(const char* name) {
    if (!own_stream) return;
    std::lock_guard guard(own_stream->lock);
    own_stream->doing = name;
}

std::shared_ptr<Stream> find_stream(void* handle) {
    {
        std::lock_guard guard(registry.lock);
        if (handle) {
            auto found = registry.streams.find(handle);
            return found == registry.streams.end() ? nullptr : found->second;
        }
        auto found = registry.null_streams.find(current_card());
        if (found != registry.null_streams.end()) return found->second;
    }
    return create(current_card(), true);
}

int push(const std::shared_ptr<Stream>& stream, Task task) {
    if (!settings().asynchronous) return execute(*stream, task, 0);
    if (forked()) return fail(ACL_ERROR_RT_INTERNAL_ERROR, "a forked process cannot use the streams of its parent");
    std::lock_guard guard(stream->lock);
    if (!stream->working) {
        std::thread(work, stream).detach();
        stream->working = true;
    }
    stream->queue.push_back(std::move(task));
    stream->changed.notify_all();
    return ACL_SUCCESS;
}

int wait(const std::shared_ptr<Stream>& stream, int timeout_ms) {
    if (forked()) return ACL_SUCCESS;
    std::unique_lock guard(stream->lock);
    auto idle = [&] { return stream->idle(); };
    if (timeout_ms < 0) {
        stream->changed.wait(guard, idle);
    } else if (!stream->changed.wait_for(guard, std::chrono::milliseconds(timeout_ms), idle)) {
        return fail(ACL_ERROR_RT_STREAM_SYNC_TIMEOUT, "stream " + std::to_string(stream->id) + " is still executing " + stream->doing +
                                                          " after " + std::to_string(timeout_ms) + " ms");
    }
    return stream->error ? fail(stream->error, stream->error_text) : ACL_SUCCESS;
}

int submit(void* handle, std::function<int()> task) {
    auto stream = find_stream(handle);
    if (!stream) return no_such_stream("submit");
    // As with ACL_STOP_ON_FAILURE, which torch_npu asks for: after a failure the stream drops what follows.
    return push(stream, [task = std::move(task)](int error) { return error ? error : task(); });
}

int submit_always(void* handle, std::function<void(int)> task) {
    auto stream = find_stream(handle);
    if (!stream) return no_such_stream("submit");
    return push(stream, [task = std::move(task)](int error) {
        task(error);
        return 0;
    });
}

bool is_side_stream(void* handle) {
    auto stream = find_stream(handle);
    return stream && stream->side;
}

int synchronize_card(int card, int timeout_ms) {
    auto streams = streams_of(card);
    auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    int first = ACL_SUCCESS;
    for (auto& stream : streams) {
        int left = -1;
        if (timeout_ms >= 0) {
            auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
            left = rest > 0 ? static_cast<int>(rest) : 0;
        }
        int code = wait(stream, left);
        if (!first) first = code;
    }
    return first;
}

void abandon_streams(int card) {
    for (auto& stream : streams_of(card)) {
        drop_queue(*stream, false);
        // A process that ends must not free what a task still uses, nor must it wait for one that hangs.
        wait(stream, 5000);
    }
}

}  // namespace npu_emulator

using namespace npu_emulator;

CANN_API aclError aclrtCreateStreamWithConfig(aclrtStream* stream, uint32_t, uint32_t) {
    if (int code = enter_runtime("aclrtCreateStream")) return code;
    *stream = create(current_card(), false).get();
    return ACL_SUCCESS;
}
CANN_API aclError aclrtCreateStream(aclrtStream* stream) { return aclrtCreateStreamWithConfig(stream, 0, 0); }
CANN_API aclError aclrtDestroyStream(aclrtStream stream) { return destroy("aclrtDestroyStream", stream, true); }
CANN_API aclError aclrtDestroyStreamForce(aclrtStream stream) { return destroy("aclrtDestroyStreamForce", stream, false); }

CANN_API aclError aclrtSynchronizeStream(aclrtStream stream) { return synchronize("aclrtSynchronizeStream", stream, -1); }
CANN_API aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t timeout_ms) {
    return synchronize("aclrtSynchronizeStream", stream, timeout_ms);
}

CANN_API aclError aclrtStreamQuery(aclrtStream handle, aclrtStreamStatus* status) {
    auto stream = find_stream(handle);
    if (!stream) return no_such_stream("aclrtStreamQuery");
    auto gate = pass("aclrtStreamQuery", "null", handle);
    if (gate.code) return gate.code;
    *status = ACL_STREAM_STATUS_COMPLETE;
    if (forked() || gate.find("null")) return ACL_SUCCESS;
    std::lock_guard guard(stream->lock);
    if (!stream->idle()) *status = ACL_STREAM_STATUS_NOT_READY;
    return ACL_SUCCESS;
}

CANN_API aclError aclrtStreamGetId(aclrtStream handle, int32_t* id) {
    auto stream = find_stream(handle);
    if (!stream) return no_such_stream("aclrtStreamGetId");
    *id = stream->id;
    return ACL_SUCCESS;
}

// Every stream stops at its first failure; nothing here asks for the other mode but compiler back ends.
CANN_API aclError aclrtSetStreamFailureMode(aclrtStream, uint64_t) { return ACL_SUCCESS; }
// Operators and waits have no time limit of their own: a hanging one is found by a synchronisation with a timeout.
CANN_API aclError aclrtSetOpWaitTimeout(uint32_t) { return ACL_SUCCESS; }
CANN_API aclError aclrtSetOpExecuteTimeOut(uint32_t) { return ACL_SUCCESS; }
