// The log has two kinds of lines, each one JSON object:
//     {"pid": 71, "rank": 0, "call": "aclnnAdd", "count": 12}
//     {"pid": 71, "rank": 0, "fault": "aclnnAdd:scale=2", "fired": 12          }
// A fault's line is written when the process first calls anything, and its number is then kept up to date in place, so that it is
// right however the process ends (killed by a signal, by _exit). The counts of the calls are appended when the process ends normally or
// by a fault's hang or crash. Several processes share the file, under a lock while they append.
#include "log.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "faults.h"
#include "runtime.h"

namespace npu_emulator {
namespace {

constexpr int number_width = 12;

struct Counted {
    int64_t count = 0;
    std::vector<ConfiguredFault*> faults;  // whose pattern has this name
};

/// Of this process. Never destroyed: threads of streams may still count while the process ends.
struct State {
    std::mutex lock;
    std::map<std::string, Counted, std::less<>> calls;
    std::vector<off_t> fired_at;  // where in the log the number of each fault stands
    int file = -1;
    bool committed = false, written = false;
};
State& state = *new State;

std::string json_text(const std::string& text) {
    std::string quoted = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') quoted += '\\';
        if (static_cast<unsigned char>(c) >= ' ') quoted += c;
    }
    return quoted + "\"";
}

std::string beginning() {
    const char* rank = getenv("RANK");
    auto number = rank ? parse_whole(rank) : std::nullopt;
    return "{\"pid\": " + std::to_string(getpid()) + ", \"rank\": " + (number ? std::to_string(*number) : "null") + ", ";
}

std::string padded(int64_t number) {
    auto text = std::to_string(number);
    return text + std::string(text.size() < number_width ? number_width - text.size() : 0, ' ');
}

void complain() { fprintf(stderr, "emulator: cannot write the log %s: %s\n", settings().log_file.c_str(), strerror(errno)); }

/// Appends the text as a whole. Returns where it begins, or -1.
off_t append(const std::string& text) {
    if (state.file < 0) state.file = open(settings().log_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (state.file < 0 || flock(state.file, LOCK_EX) != 0) return complain(), -1;
    off_t begin = lseek(state.file, 0, SEEK_END);
    bool complete = write(state.file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    if (!complete) complain();
    flock(state.file, LOCK_UN);
    return complete ? begin : -1;
}

void begin_log() {
    if (settings().log_file.empty() || configured_faults().empty()) return;
    std::string lines;
    std::vector<off_t> offsets;
    for (auto& fault : configured_faults()) {
        lines += beginning() + "\"fault\": " + json_text(fault.line) + ", \"fired\": ";
        offsets.push_back(static_cast<off_t>(lines.size()));
        lines += padded(fault.fired) + "}\n";
    }
    off_t begin = append(lines);
    if (begin < 0) return;
    for (auto offset : offsets) state.fired_at.push_back(begin + offset);
}

void note_fired(const ConfiguredFault& fault) {
    if (state.fired_at.empty()) return;
    auto number = padded(fault.fired);
    if (pwrite(state.file, number.data(), number.size(), state.fired_at[&fault - configured_faults().data()]) < 0) complain();
}

/// A forked child counts for itself, from nothing, and leaves its parent's lines alone.
void watch_forks() {
    pthread_atfork([] { state.lock.lock(); }, [] { state.lock.unlock(); },
                   [] {
                       if (state.file >= 0) close(state.file);
                       state.file = -1;
                       state.fired_at.clear();
                       state.calls.clear();
                       for (auto& fault : configured_faults()) fault.matched = fault.fired = 0;
                       state.lock.unlock();
                   });
}

Counted& counted(const char* name) {
    auto found = state.calls.find(std::string_view(name));
    if (found != state.calls.end()) return found->second;
    static bool watching = false;
    if (!watching) watch_forks();
    watching = true;
    state.committed |= strcmp(name, "aclrtGetDeviceCount") != 0;
    if (state.calls.empty()) begin_log();
    auto& entry = state.calls[name];
    for (auto& fault : configured_faults()) {
        if (matches_name(fault, name)) entry.faults.push_back(&fault);
    }
    return entry;
}

__attribute__((destructor)) void at_end() { write_log(); }

}  // namespace

Faults count_and_match(const Call& call) {
    settings();  // a forked process may have to read them, and the faults, first
    bool side = side_streams_matter() && call.stream && is_side_stream(call.stream);
    std::lock_guard guard(state.lock);  // and no other lock within it: a fork takes all of them
    auto& entry = counted(call.name);
    entry.count++;
    Faults firing;
    for (auto* fault : entry.faults) {
        if (!fires(*fault, call, side)) continue;
        fault->fired++;
        note_fired(*fault);
        firing.push_back(fault);
    }
    return firing;
}

bool committed_to_settings() { return state.committed; }

void had_no_effect(const Fault& fault) {
    std::lock_guard guard(state.lock);
    for (auto& configured : configured_faults()) {
        if (&configured != &fault) continue;
        configured.fired--;
        note_fired(configured);
    }
}

void write_log() {
    std::lock_guard guard(state.lock);
    if (settings().log_file.empty() || state.written || state.calls.empty()) return;
    state.written = true;
    std::string lines;
    for (auto& [name, entry] : state.calls)
        lines += beginning() + "\"call\": " + json_text(name) + ", \"count\": " + std::to_string(entry.count) + "}\n";
    append(lines);
}

}  // namespace npu_emulator
