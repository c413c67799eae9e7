// How much memory of each card is in use, by all processes of one emulated machine.
//
// The launcher hands every process that descends from it a file without a name (memfd), in which each process that uses a card has an
// entry. The entry of a process that ended, however it ended, counts no more, and the file is gone with the last process that has it open.
#pragma once
#include <cstddef>

namespace npu_emulator {

/// The environment variable with the path of the file. A process that cannot open it (not started by the launcher, or left behind by what
/// the launcher became) counts for itself alone.
constexpr const char* ledger_variable = "_NPU_EMULATOR_LEDGER";

/// Bytes of a card (index into the visible ones) that this process and all others use.
size_t used_memory(int card);

/// Returns ACL_ERROR_RT_MEMORY_ALLOCATION, which torch_npu turns into torch.OutOfMemoryError, where the card is full.
int take_from_card(const char* name, int card, size_t bytes);
void return_to_card(int card, size_t bytes);

}  // namespace npu_emulator
