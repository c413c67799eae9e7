// One stream: a queue of tasks that execute in order.
#pragma once
#include <atomic>
#include <deque>
#include <memory>
#include <thread>

#include "runtime.h"

namespace npu_emulator {

/// What a stream executes. It gets the code of the error that the stream is stuck in, or 0, and returns a code of its own.
using Task = std::function<int(int)>;

struct Stream {
    const int card, id;
    const bool side;  // not the first stream of its card, which is torch_npu's default stream

    std::mutex lock;  // guards what follows
    std::condition_variable changed;
    std::deque<Task> queue;
    bool working = false;   // has a thread
    bool busy = false;      // a task is executing
    std::string doing;      // the last call that it executed
    bool stopping = false;  // destroyed: ends when its queue is empty
    int error = 0;          // of the first task that failed; the stream executes nothing after it
    std::string error_text;

    Stream(int card, int id, bool side) : card(card), id(id), side(side) {}
    bool idle() const { return queue.empty() && !busy; }
};

/// The stream behind a handle; that of the current card where the handle is null. Null where there is no such stream.
std::shared_ptr<Stream> find_stream(void* handle);

/// Puts a task on the stream, or executes it at once. Returns its code where that is known.
int push(const std::shared_ptr<Stream>& stream, Task task);

/// Waits until the stream is idle. Returns the stream's error, the code of a timeout, or 0.
int wait(const std::shared_ptr<Stream>& stream, int timeout_ms);

}  // namespace npu_emulator
