#include "faults.h"

#include <fnmatch.h>
#include <signal.h>

#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>

#include "runtime.h"

namespace npu_emulator {

const char* const fault_grammar =
    R"(NPU_EMULATOR_FAULTS holds faults separated by ';', each one of the form PATTERN:ACTION[,ACTION...][@SELECTOR[,SELECTOR...]]
  PATTERN   which calls, as a shell pattern of their names: aclnnLayerNormBackward, aclnn*Softmax*, HcclAllReduce, aclrtMemcpyAsync, *
  ACTION    of an operator:   scale=X bias=X noise=X zero null stale tail=N nan=I clip=X round=bf16|fp16|trunc ignore=ARGUMENT
                              output=I (which output the others change; all of them without it)
            of random numbers: same-seed ignore-seed
            of a collective:  drop-rank=R reduce=sum|prod|max|min root=R swap stale null
            of memory:        leak null tail=N stale
            of everything:    delay=SECONDS hang crash[=SIGNAL] fail=CODE
  SELECTOR  call=N every=N after=N rank=R card=C dtype=fp32|fp16|bf16|... min-numel=N stream=side
Examples: aclnnLayerNormBackward:scale=1.05,output=1    aclnnMm:crash@call=200    HcclAllReduce:drop-rank=1@every=3;*:delay=0.001)";

namespace {

using Words = std::vector<std::string>;

constexpr const char* dtypes[] = {"fp64",   "fp32",   "fp16",   "bf16",  "int64", "int32",     "int16",      "int8",
                                  "uint64", "uint32", "uint16", "uint8", "bool",  "complex64", "complex128", "bytes"};

enum class Value { None, Number, Positive, Whole, Code, Duration, Word, Name, Signal };

struct ActionRule {
    const char* name;
    Value value;
    Words words;        // of Value::Word
    const char* kinds;  // o(perator), c(ollective), "*" everything; of a runtime call what Call::actions has
};

const std::vector<ActionRule>& action_rules() {
    static const auto& rules = *new std::vector<ActionRule>{
        {"scale", Value::Number, {}, "o"},    {"bias", Value::Number, {}, "o"},
        {"noise", Value::Positive, {}, "o"},  {"zero", Value::None, {}, "o"},
        {"null", Value::None, {}, "oc"},      {"stale", Value::None, {}, "oc"},
        {"tail", Value::Whole, {}, "o"},      {"nan", Value::Whole, {}, "o"},
        {"clip", Value::Positive, {}, "o"},   {"round", Value::Word, {"bf16", "fp16", "trunc"}, "o"},
        {"ignore", Value::Name, {}, "o"},     {"output", Value::Whole, {}, ""},
        {"same-seed", Value::None, {}, "o"},  {"ignore-seed", Value::None, {}, "o"},
        {"drop-rank", Value::Whole, {}, "c"}, {"reduce", Value::Word, {"sum", "prod", "max", "min"}, "c"},
        {"root", Value::Whole, {}, "c"},      {"swap", Value::None, {}, "c"},
        {"leak", Value::None, {}, ""},        {"delay", Value::Duration, {}, "*"},
        {"hang", Value::None, {}, "*"},       {"crash", Value::Signal, {}, "*"},
        {"fail", Value::Code, {}, "*"},
    };
    return rules;
}

constexpr std::pair<const char*, int> signals[] = {{"SEGV", SIGSEGV}, {"ABRT", SIGABRT}, {"BUS", SIGBUS},
                                                   {"FPE", SIGFPE},   {"KILL", SIGKILL}, {"TERM", SIGTERM}};

template <class Words>
std::string listed(const Words& words) {
    std::string text;
    for (auto& word : words) text += (text.empty() ? "" : ", ") + std::string(word);
    return text;
}

Words split(const std::string& text, char separator) {
    Words parts;
    std::stringstream stream(text);
    for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
    if (text.empty() || text.back() == separator) parts.push_back("");
    return parts;
}

std::string trimmed(const std::string& text) {
    auto begin = text.find_first_not_of(" \t\n");
    return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(" \t\n") + 1 - begin);
}

/// Parses one line; what is wrong is thrown with the line.
class LineParser {
  public:
    explicit LineParser(const std::string& line) : line_(line) {}

    ConfiguredFault parse() {
        fault_.line = line_;
        auto colon = line_.find(':');
        if (colon == std::string::npos || colon == 0) refuse("expected PATTERN:ACTION, with a pattern before the colon");
        fault_.pattern = line_.substr(0, colon);
        if (fault_.pattern.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_*?[]!-") !=
            std::string::npos) {
            refuse("the pattern '" + fault_.pattern + "' has characters that no name has");
        }
        auto rest = line_.substr(colon + 1);
        auto at = rest.find('@');
        for (auto& part : split(rest.substr(0, at), ',')) add_action(part);
        if (at != std::string::npos) {
            for (auto& part : split(rest.substr(at + 1), ',')) add_selector(part);
        }
        if (fault_.actions.size() == 1 && fault_.actions[0].name == "output")
            refuse("output=I says where another action applies; there is none");
        return fault_;
    }

  private:
    [[noreturn]] void refuse(const std::string& what) const {
        throw std::invalid_argument("NPU_EMULATOR_FAULTS: in the fault '" + line_ + "': " + what + ".");
    }

    /// "name=value" in two; the second is empty where there is no '='.
    std::pair<std::string, std::string> pair(const std::string& part, const char* what) const {
        auto equals = part.find('=');
        if (part.empty()) refuse(std::string("an empty ") + what);
        if (equals != std::string::npos && equals + 1 == part.size())
            refuse(std::string("the ") + what + " '" + part + "' has no value after '='");
        return {part.substr(0, equals), equals == std::string::npos ? "" : part.substr(equals + 1)};
    }

    void add_action(const std::string& part) {
        auto [name, value] = pair(part, "action");
        if (fault_.find(name.c_str())) refuse("the action '" + name + "' stands there twice");
        for (auto& rule : action_rules()) {
            if (name == rule.name) {
                fault_.actions.push_back({name, checked(rule, name, value), value});
                return;
            }
        }
        Words names;
        for (auto& rule : action_rules()) names.push_back(rule.name);
        refuse("unknown action '" + name + "'; known are " + listed(names));
    }

    double checked(const ActionRule& rule, const std::string& name, const std::string& value) const {
        auto bad = [&](const char* expected) -> double {
            refuse("the action '" + name + "' expects " + expected + ", not '" + value + "'");
        };
        auto number = parse_number(value);
        auto whole = parse_whole(value);
        switch (rule.value) {
            case Value::None:
                return value.empty() ? 0 : bad("no value");
            case Value::Number:
                return number ? *number : bad("a number");
            case Value::Positive:
                return number && *number > 0 ? *number : bad("a positive number");
            case Value::Whole:
                return whole && *whole >= 0 ? static_cast<double>(*whole) : bad("a whole number from 0");
            case Value::Code:
                return whole && *whole > 0 && *whole < INT32_MAX ? static_cast<double>(*whole) : bad("a positive error code");
            case Value::Duration: {
                auto seconds = parse_duration(value);
                return seconds ? *seconds : bad("a time in seconds, or with a unit (us, ms, s)");
            }
            case Value::Word:
                for (auto& word : rule.words) {
                    if (value == word) return 0;
                }
                return bad(("one of " + listed(rule.words)).c_str());
            case Value::Name:
                return value.empty() ? bad("the name of an argument") : 0;
            case Value::Signal:
                for (auto& [signal_name, signal_number] : signals) {
                    if (value == signal_name) return signal_number;
                }
                return value.empty() ? SIGSEGV : bad("a signal (SEGV, ABRT, BUS, FPE, KILL, TERM) or nothing");
        }
        return 0;
    }

    void add_selector(const std::string& part) {
        auto [name, value] = pair(part, "selector");
        auto& s = fault_.selectors;
        std::pair<const char*, std::optional<int64_t>*> numbers[] = {{"call", &s.call}, {"every", &s.every}, {"after", &s.after},
                                                                     {"rank", &s.rank}, {"card", &s.card},   {"min-numel", &s.min_numel}};
        for (auto& [known, slot] : numbers) {
            if (name != known) continue;
            int64_t least = name == "call" || name == "every" ? 1 : 0;
            auto number = parse_whole(value);
            if (!number || *number < least)
                refuse("the selector '" + name + "' expects a whole number from " + std::to_string(least) + ", not '" + value + "'");
            if (*slot) refuse("the selector '" + name + "' stands there twice");
            *slot = *number;
            if (name == "card" && *number >= settings().cards)
                refuse("there is no card " + value + "; NPU_EMULATOR_CARDS is " + std::to_string(settings().cards));
            return;
        }
        if (name == "dtype") {
            for (auto& dtype : dtypes) {
                if (value == dtype) s.dtype = value;
            }
            if (s.dtype != value || value.empty()) refuse("unknown dtype '" + value + "'; known are " + listed(dtypes));
        } else if (name == "stream") {
            if (value != "side") refuse("the selector 'stream' knows only 'side', not '" + value + "'");
            s.side_stream = true;
        } else {
            refuse("unknown selector '" + name + "'; known are call, every, after, rank, card, dtype, min-numel, stream");
        }
    }

    std::string line_;
    ConfiguredFault fault_;
};

/// The rank in the communicator of a collective; elsewhere the launcher's RANK, which a program may also set itself after its start.
int64_t rank_of(const Call& call) {
    if (call.rank >= 0) return call.rank;
    const char* text = getenv("RANK");
    return text ? atoll(text) : 0;
}

/// Whether an action of the fault is one that this call applies. A fault that cannot change anything has not fired.
bool applies(const ConfiguredFault& fault, const Call& call) {
    static const auto& rules = action_rules();
    for (auto& action : fault.actions) {
        for (auto& rule : rules) {
            if (action.name != rule.name) continue;
            bool everywhere = *rule.kinds == '*';
            bool by_kind = (call.kind == CallKind::Operator && strchr(rule.kinds, 'o')) ||
                           (call.kind == CallKind::Collective && strchr(rule.kinds, 'c'));
            bool by_call = (" " + std::string(call.actions) + " ").find(" " + action.name + " ") != std::string::npos;
            if (everywhere || by_kind || by_call) return true;
        }
    }
    return false;
}

}  // namespace

std::vector<ConfiguredFault>& configured_faults() {
    static auto& faults = *new std::vector<ConfiguredFault>;
    return faults;
}

void parse_faults() {
    std::vector<ConfiguredFault> parsed;
    const char* text = getenv("NPU_EMULATOR_FAULTS");
    for (auto& line : split(text ? text : "", ';')) {
        if (!trimmed(line).empty()) parsed.push_back(LineParser(trimmed(line)).parse());
    }
    configured_faults() = std::move(parsed);
}

bool matches_name(const ConfiguredFault& fault, const char* name) { return fnmatch(fault.pattern.c_str(), name, 0) == 0; }

bool fires(ConfiguredFault& fault, const Call& call, bool side) {
    auto& s = fault.selectors;
    if (s.rank && *s.rank != rank_of(call)) return false;
    if (s.card && *s.card != physical_card(current_card())) return false;
    if (s.min_numel && call.numel < *s.min_numel) return false;
    if (!s.dtype.empty() && call.dtype != s.dtype) return false;
    if (s.side_stream && !side) return false;
    if (!applies(fault, call)) return false;
    int64_t number = ++fault.matched;
    if (s.call && number != *s.call) return false;
    if (s.every && number % *s.every != 0) return false;
    if (s.after && number <= *s.after) return false;
    return true;
}

bool side_streams_matter() {
    // Asked anew each time: a process that was forked may have been given other faults than the one it came from.
    for (auto& fault : configured_faults()) {
        if (fault.selectors.side_stream) return true;
    }
    return false;
}

bool may_become_stale(const char* name) {
    for (auto& fault : configured_faults()) {
        if (fault.find("stale") && matches_name(fault, name)) return true;
    }
    return false;
}

int crash_signal(const Action& action) { return static_cast<int>(action.number); }

}  // namespace npu_emulator
