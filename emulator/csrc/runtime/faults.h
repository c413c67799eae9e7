// Faults as configured: the lines of NPU_EMULATOR_FAULTS, the calls that they match, and how often each fired.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "emulator.h"

namespace npu_emulator {

struct Selectors {
    std::optional<int64_t> call, every, after;  // counted over the calls that match everything else
    std::optional<int64_t> rank, card, min_numel;
    std::string dtype;
    bool side_stream = false;
};

struct ConfiguredFault : Fault {
    std::string pattern;
    Selectors selectors;
    int64_t matched = 0, fired = 0;  // in this process
};

/// What the user is shown with a line that is refused.
extern const char* const fault_grammar;

/// The faults of NPU_EMULATOR_FAULTS, as last parsed.
std::vector<ConfiguredFault>& configured_faults();

/// Parses NPU_EMULATOR_FAULTS anew. Throws std::invalid_argument that says what is wrong in which line. Not once calls are matched.
void parse_faults();

/// Whether the fault's pattern has this name.
bool matches_name(const ConfiguredFault& fault, const char* name);

/// Whether the fault fires on this call, of which the pattern matches the name; `side` says whether the call is on a side stream. Counts
/// the call.
bool fires(ConfiguredFault& fault, const Call& call, bool side);

/// Whether a fault selects the calls on side streams.
bool side_streams_matter();

/// The signal of a `crash` action.
int crash_signal(const Action& action);

}  // namespace npu_emulator
