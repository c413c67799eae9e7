// Overflow: saturation or inf/nan mode, and the float status flag of each card.
#include <array>
#include <atomic>
#include <cstring>

#include "device_addresses.h"
#include "runtime.h"

namespace npu_emulator {
namespace {

std::atomic<bool> saturation_mode{false};
std::array<std::atomic<bool>, 64> flags{};

}  // namespace

bool saturates() { return saturation_mode; }
void raise_overflow() { flags[current_card()] = true; }
bool overflow_raised() { return flags[current_card()]; }
void clear_overflow() { flags[current_card()] = false; }

}  // namespace npu_emulator

using namespace npu_emulator;

CANN_API aclError aclrtSetDeviceSatMode(aclrtFloatOverflowMode mode) {
    if (mode != ACL_RT_OVERFLOW_MODE_SATURATION && mode != ACL_RT_OVERFLOW_MODE_INFNAN) {
        return fail(ACL_ERROR_RT_PARAM_INVALID, "aclrtSetDeviceSatMode: neither saturation nor inf/nan mode");
    }
    auto gate = pass("aclrtSetDeviceSatMode", "null");
    if (gate.code || gate.find("null")) return gate.code;
    saturation_mode = mode == ACL_RT_OVERFLOW_MODE_SATURATION;
    return ACL_SUCCESS;
}

CANN_API aclError aclrtGetDeviceSatMode(aclrtFloatOverflowMode* mode) {
    *mode = saturation_mode ? ACL_RT_OVERFLOW_MODE_SATURATION : ACL_RT_OVERFLOW_MODE_INFNAN;
    return ACL_SUCCESS;
}

CANN_API aclError aclrtGetOverflowStatus(void* output, size_t bytes, aclrtStream stream) {
    auto gate = pass("aclrtGetOverflowStatus", "null zero", stream);
    if (gate.code || gate.find("null")) return gate.code;
    bool hidden = gate.find("zero");
    return submit(stream, [=] {
        auto* flag = static_cast<char*>(on_host(output));
        memset(flag, 0, bytes);
        if (overflow_raised() && !hidden && bytes > 0) *flag = 1;
        return 0;
    });
}

CANN_API aclError aclrtResetOverflowStatus(aclrtStream stream) {
    auto gate = pass("aclrtResetOverflowStatus", "null", stream);
    if (gate.code || gate.find("null")) return gate.code;
    return submit(stream, [] {
        clear_overflow();
        return 0;
    });
}

// Detection is always on; torch_npu turns it on for every stream in saturation mode.
CANN_API aclError aclrtSetStreamOverflowSwitch(aclrtStream, uint32_t) { return ACL_SUCCESS; }
CANN_API aclError aclrtGetStreamOverflowSwitch(aclrtStream, uint32_t* on) {
    *on = saturation_mode;
    return ACL_SUCCESS;
}
