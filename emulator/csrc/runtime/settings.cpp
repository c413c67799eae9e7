// The environment variables NPU_EMULATOR_*: read and checked when the library is loaded.
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "faults.h"
#include "log.h"
#include "runtime.h"

extern char** environ;

namespace npu_emulator {
namespace {

constexpr const char* prefix = "NPU_EMULATOR_";
constexpr int most_cards = 32;  // what torch_npu is compiled for

// torch_npu's table of chips (torch_npu/csrc/core/npu/NpuVariables.cpp); it also takes every name that begins with Ascend950.
constexpr const char* socs[] = {
    "Ascend910PremiumA", "Ascend910ProA",  "Ascend910A",     "Ascend910ProB",  "Ascend910B",     "Ascend310P1",    "Ascend310P2",
    "Ascend310P3",       "Ascend310P4",    "Ascend310P5",    "Ascend310P7",    "Ascend910B1",    "Ascend910B2",    "Ascend910B2C",
    "Ascend910B3",       "Ascend910B4",    "Ascend910B4-1",  "Ascend310B1",    "Ascend310B2",    "Ascend310B3",    "Ascend310B4",
    "Ascend910_9391",    "Ascend910_9392", "Ascend910_9381", "Ascend910_9382", "Ascend910_9372", "Ascend910_9362", "Ascend910_9363",
};

// NPU_EMULATOR_CACHE is the launcher's own: where it keeps what it built.
constexpr const char* known[] = {"CARDS", "MEMORY", "SOC", "LATENCY", "ASYNC", "NOISE", "FAULTS", "LOG", "TRACE", "HCCL_TIMEOUT", "CACHE"};

/// "NPU_EMULATOR_CARDS, NPU_EMULATOR_MEMORY", for example.
template <size_t N>
std::string listed(const char* const (&words)[N], const std::string& before = "") {
    std::string text;
    for (auto* word : words) text += (text.empty() ? "" : ", ") + before + word;
    return text;
}

template <size_t N>
bool contains(const char* const (&words)[N], const std::string& word) {
    return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

[[noreturn]] void refuse(const std::string& message) {
    fprintf(stderr, "emulator: %s\n", message.c_str());
    fflush(stderr);
    _exit(2);
}

[[noreturn]] void refuse(const std::string& variable, const std::string& value, const std::string& expected) {
    refuse(variable + "='" + value + "' is not valid: expected " + expected + ".");
}

/// The variable's value, or the default where it is unset or empty.
std::string variable(const char* name, const char* otherwise) {
    const char* value = getenv((prefix + std::string(name)).c_str());
    return value && *value ? value : otherwise;
}

int whole_number(const char* name, int otherwise, int least, int most, const char* expected) {
    auto text = variable(name, std::to_string(otherwise).c_str());
    auto number = parse_whole(text);
    if (!number || *number < least || *number > most) refuse(prefix + std::string(name), text, expected);
    return static_cast<int>(*number);
}

uint64_t memory_size(const std::string& text) {
    static const std::pair<const char*, double> units[] = {
        {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"TiB", 1099511627776.0}};
    for (const auto& [unit, bytes] : units) {
        size_t length = strlen(unit);
        if (text.size() <= length || text.compare(text.size() - length, length, unit) != 0) continue;
        auto number = parse_number(text.substr(0, text.size() - length));
        if (number && *number > 0 && *number * bytes < 9e18) return static_cast<uint64_t>(*number * bytes);
    }
    refuse(prefix + std::string("MEMORY"), text,
           "the memory of each card as a positive number with a unit (KiB, MiB, GiB, TiB), for example 64GiB or 512MiB");
}

std::string soc_name(const std::string& text) {
    if (contains(socs, text) || text.rfind("Ascend950", 0) == 0) return text;
    refuse(prefix + std::string("SOC"), text, "a chip that torch_npu knows: " + listed(socs) + ", or a name that begins with Ascend950");
}

Noise noise(const std::string& text) {
    const char* expected =
        "parts separated by commas, out of seed=N (N >= 0), ulp=N (1 to 1024), reorder and hf32, with at least one of the last three; for "
        "example "
        "seed=1,ulp=2,reorder,hf32";
    auto bad = [&] { refuse(prefix + std::string("NOISE"), text, expected); };
    Noise noise;
    if (text.empty()) return noise;
    std::stringstream parts(text + (text.back() == ',' ? "," : ""));
    for (std::string part; std::getline(parts, part, ',');) {
        auto equals = part.find('=');
        auto key = part.substr(0, equals);
        if ((key == "seed" || key == "ulp") && equals != std::string::npos) {
            auto number = parse_whole(part.substr(equals + 1));
            if (!number || *number < (key == "ulp") || (key == "ulp" && *number > 1024)) bad();
            if (key == "seed")
                noise.seed = static_cast<uint64_t>(*number);
            else
                noise.ulp = static_cast<int>(*number);
        } else if (part == "reorder") {
            noise.reorder = true;
        } else if (part == "hf32") {
            noise.hf32 = true;
        } else {
            bad();
        }
    }
    noise.on = noise.ulp > 0 || noise.reorder || noise.hf32;
    if (!noise.on) bad();
    return noise;
}

double hccl_timeout() {
    auto text = variable("HCCL_TIMEOUT", "");
    if (!text.empty()) {
        auto seconds = parse_number(text);
        if (!seconds || *seconds <= 0) refuse(prefix + std::string("HCCL_TIMEOUT"), text, "a positive number of seconds, for example 600");
        return *seconds;
    }
    // CANN's own variable keeps CANN's leniency: what is no positive number counts as unset.
    const char* cann = getenv("HCCL_EXEC_TIMEOUT");
    auto seconds = cann ? parse_number(cann) : std::nullopt;
    return seconds && *seconds > 0 ? *seconds : 600;
}

std::string log_file() {
    auto text = variable("LOG", "");
    if (text.empty()) return text;
    auto path = std::filesystem::absolute(text);  // the process may change its directory before it writes
    std::error_code ignored;
    bool usable = std::filesystem::exists(path, ignored) ? !std::filesystem::is_directory(path, ignored) && access(path.c_str(), W_OK) == 0
                                                         : access(path.parent_path().c_str(), W_OK | X_OK) == 0;
    if (!usable) refuse(prefix + std::string("LOG"), text, "a file that can be written, in a directory that exists");
    return path.string();
}

void refuse_unknown_variables() {
    for (char** entry = environ; entry && *entry; entry++) {
        std::string text = *entry;
        if (text.rfind(prefix, 0) != 0) continue;
        auto name = text.substr(strlen(prefix), text.find('=') - strlen(prefix));
        if (!contains(known, name)) { refuse(prefix + name + " is no setting of the emulator; known are " + listed(known, prefix) + "."); }
    }
}

Settings read() {
    refuse_unknown_variables();
    Settings s;
    s.cards = whole_number("CARDS", 2, 1, most_cards, "a number of cards from 1 to 32 (torch_npu is compiled for no more), for example 2");
    s.memory_bytes = memory_size(variable("MEMORY", "64GiB"));
    s.soc = soc_name(variable("SOC", "Ascend910B3"));
    auto latency = variable("LATENCY", "0");
    auto seconds = parse_duration(latency);
    if (!seconds || (*seconds > 0 && std::isdigit(static_cast<unsigned char>(latency.back())))) {
        refuse(prefix + std::string("LATENCY"), latency, "0 or a time with a unit (ns, us, ms, s), for example 50us or 1ms");
    }
    s.latency_seconds = *seconds;
    s.asynchronous = whole_number("ASYNC", 0, 0, 1, "0 (operators run at once) or 1 (each stream has its own thread)");
    s.noise = noise(variable("NOISE", ""));
    s.log_file = log_file();
    s.trace = whole_number("TRACE", 0, 0, 1, "0 or 1");
    s.hccl_timeout_seconds = hccl_timeout();
    return s;
}

/// A child of a process that has not used a card yet may be given settings of its own: nothing rests on the parent's.
std::atomic<bool> outdated{false};

void reread_faults() {
    try {
        parse_faults();
    } catch (const std::invalid_argument& error) { refuse(std::string(error.what()) + "\n" + fault_grammar); }
}

__attribute__((constructor)) void load() {
    settings();
    reread_faults();
    pthread_atfork(nullptr, nullptr, [] { outdated = !committed_to_settings(); });
}

}  // namespace

std::optional<int64_t> parse_whole(const std::string& text) {
    auto digits = text.find_first_not_of("0123456789", text.rfind('-', 0) == 0 ? 1 : 0);
    if (text.empty() || text == "-" || digits != std::string::npos || text.size() > 18) return std::nullopt;
    return std::stoll(text);
}

std::optional<double> parse_number(const std::string& text) {
    if (text.empty() || text.find_first_not_of("+-.0123456789eE") != std::string::npos) return std::nullopt;
    char* end = nullptr;
    double number = strtod(text.c_str(), &end);
    return *end || !std::isfinite(number) ? std::nullopt : std::optional(number);
}

std::optional<double> parse_duration(const std::string& text) {
    static const std::pair<const char*, double> units[] = {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"", 1}};
    for (const auto& [unit, seconds] : units) {
        size_t length = strlen(unit);
        if (text.size() <= length || text.compare(text.size() - length, length, unit) != 0) continue;
        auto number = parse_number(text.substr(0, text.size() - length));
        return number && *number >= 0 ? std::optional(*number * seconds) : std::nullopt;
    }
    return std::nullopt;
}

const Settings& settings() {
    static Settings& s = *new Settings(read());
    if (outdated.exchange(false, std::memory_order_relaxed)) {
        s = read();
        reread_faults();
    }
    return s;
}

}  // namespace npu_emulator
