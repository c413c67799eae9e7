// The gate that every operator, collective and runtime call passes.
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "faults.h"
#include "log.h"
#include "runtime.h"

namespace npu_emulator {
namespace {

// Exact to some microseconds: the launcher has allowed all sleeps of this process to end later (launch.py).
void sleep_for(double seconds) {
    thread_local int exact = prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
    (void)exact;
    timespec rest{static_cast<time_t>(seconds), static_cast<long>((seconds - std::floor(seconds)) * 1e9)};
    while (nanosleep(&rest, &rest) != 0) {}
}

[[noreturn]] void hang() {
    write_log();  // whoever ends this process will not let it
    for (;;) pause();
}

[[noreturn]] void crash(const Action& action) {
    write_log();
    int signal_number = crash_signal(action);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    _exit(128 + signal_number);  // where the signal was blocked
}

void trace(const Call& call, const Faults& faults) {
    std::string text = "emulator: " + std::to_string(getpid()) + " npu:" + std::to_string(current_card()) + " " + call.name;
    if (!call.dtype.empty()) text += " " + call.dtype;
    if (call.numel) text += " [" + std::to_string(call.numel) + "]";
    for (auto* fault : faults) text += "  <- " + fault->line;
    fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace

Faults enter(const Call& call) {
    note_call(call.name);
    auto faults = count_and_match(call);
    if (settings().trace) trace(call, faults);
    if (call.kind != CallKind::Runtime && settings().latency_seconds > 0) sleep_for(settings().latency_seconds);
    for (auto* fault : faults) {
        if (auto* delay = fault->find("delay")) sleep_for(delay->number);
        if (fault->find("hang")) hang();
        if (auto* signal = fault->find("crash")) crash(*signal);
        if (auto* failure = fault->find("fail"))
            throw InjectedFailure(static_cast<int>(failure->number), "injected by the fault " + fault->line);
    }
    return faults;
}

Passed pass(const Call& call) {
    try {
        return {0, enter(call)};
    } catch (const InjectedFailure& failure) { return {fail(failure.code, std::string(call.name) + ": " + failure.what()), {}}; }
}

Passed pass(const char* name, const char* actions, void* stream) {
    Call call{name};
    call.stream = stream;
    call.actions = actions;
    return pass(call);
}

int enter_runtime(const char* name, void* stream) { return pass(name, "", stream).code; }

const Action* Passed::find(const char* action) const {
    for (auto* fault : faults) {
        if (auto* found = fault->find(action)) return found;
    }
    return nullptr;
}

double Passed::changed(double value) const {
    for (auto* fault : faults) {
        for (auto& action : fault->actions) {
            if (action.name == "scale") value *= action.number;
            if (action.name == "bias") value += action.number;
            if (action.name == "zero") value = 0;
        }
    }
    return value;
}

const Action* Fault::find(const char* name) const {
    for (auto& action : actions) {
        if (action.name == name) return &action;
    }
    return nullptr;
}

}  // namespace npu_emulator
