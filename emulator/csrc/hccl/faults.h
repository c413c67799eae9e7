// What injected faults do to a collective: to where its data come from, and to its result.
#pragma once
#include <optional>
#include <vector>

#include "../runtime/emulator.h"
#include "collectives.h"

namespace npu_emulator::hccl {

/// The actions of faults, beyond those of every collective, that apply to the result: for Call::actions.
constexpr const char* result_actions = "scale bias zero nan tail";

/// Applies drop-rank, root, swap and reduce. Returns the faults that changed something.
Faults misdirect(Collective& collective, const Communicator& communicator, const Faults& faults);

/// The memory that a call writes, and what is to become of it. Made before the call, finished after it.
class Result {
  public:
    Result(std::string what, std::vector<Block> written, HcclDataType dtype, const Faults& faults);
    /// Applies null, stale, scale, bias, zero, nan and tail. Returns the faults that changed something.
    Faults finish();

  private:
    uint64_t count() const;
    bool apply(const Action& action);
    void restore_tail(uint64_t elements);

    const std::string what_;
    const std::vector<Block> written_;
    const HcclDataType dtype_;
    const Faults& faults_;
    std::vector<std::vector<char>> before_;
    std::optional<std::vector<std::vector<char>>> previous_;  // of the last call with this name, dtype and sizes
};

/// Takes back the counts of faults that none of these calls has found anything to do for.
void report_idle(const Faults& faults, const std::vector<Faults>& effective);

}  // namespace npu_emulator::hccl
