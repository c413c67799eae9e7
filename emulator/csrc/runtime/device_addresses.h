// Addresses of device memory, and where the emulator finds what is there.
//
// As on a card, the host cannot read or write through a device address: the range of addresses that torch_npu gets to see is never
// accessible, so that host code which follows one crashes here, too. The memory itself lies a fixed distance behind, and only the emulator
// knows. Addresses are given out in turn, with a gap behind each block, so that one that was freed, or overrun, soon means nothing.
#pragma once
#include <cstddef>

namespace npu_emulator {

/// A range of device addresses without memory (whole pages), or null where there is none left.
void* reserve_addresses(size_t bytes);
void release_addresses(void* address, size_t bytes);

/// Puts memory behind reserved addresses: fresh, or `bytes` of a file from an offset on. False where the host has none.
bool put_memory(void* address, size_t bytes, int file = -1, long offset = 0);

/// Takes it away again. Whoever still reads it crashes rather than sees old data.
void take_memory(void* address, size_t bytes);

/// Where the emulator finds what is at an address; an address of the host means itself.
void* on_host(const void* address);

}  // namespace npu_emulator
