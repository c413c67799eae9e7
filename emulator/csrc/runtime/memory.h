// Blocks of memory: which addresses belong to a card or were allocated for the host.
#pragma once
#include <cstddef>
#include <optional>

namespace npu_emulator {

constexpr int host = -1;  // in place of a card

struct Block {
    size_t bytes;
    int card;
    bool mapped = false;  // a piece of a reserved range of addresses (virtual_memory.cpp)
};

struct Place {
    int card;
    size_t bytes;  // from the address to the end of its block
};

/// Where an address lies. Nothing for host memory that was not allocated here.
std::optional<Place> locate(const void* pointer);

size_t whole_pages(size_t bytes);
void fill_with_poison(void* address, size_t bytes);

void add_block(void* address, Block block);
void drop_block(void* address);

}  // namespace npu_emulator
