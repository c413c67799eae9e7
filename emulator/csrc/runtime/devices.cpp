// Cards, the one that each thread uses, contexts, and what a card says about itself.
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "runtime.h"

namespace npu_emulator {
namespace {

/// CANN renumbers the visible cards from 0, cuts the list at the first entry that is no card, and shows none where the list does not
/// ascend strictly.
std::vector<int> read_visible_cards() {
    std::vector<int> cards;
    const char* text = getenv("ASCEND_RT_VISIBLE_DEVICES");
    if (!text) {
        for (int card = 0; card < settings().cards; card++) cards.push_back(card);
        return cards;
    }
    while (*text) {
        char* end;
        long card = strtol(text, &end, 10);
        if (end == text || card < 0 || card >= settings().cards) break;
        if (!cards.empty() && card <= cards.back()) return {};
        cards.push_back(static_cast<int>(card));
        if (*end != ',') break;
        text = end + 1;
    }
    return cards;
}

// Read at first use, not at load: a program may set the variable after its first import, but before it touches a card.
const std::vector<int>& visible() {
    static const auto& cards = *new std::vector<int>(read_visible_cards());
    return cards;
}

struct Context {
    int card;
    std::atomic<bool> active{false};
};

Context& context_of(int card) {
    static auto& contexts = *[] {
        auto* all = new std::array<Context, 64>;
        for (int i = 0; i < 64; i++) (*all)[i].card = i;
        return all;
    }();
    return contexts[card];
}

std::atomic<bool> initialised{false};
thread_local int chosen = -1;

int invalid_card(const char* name, int64_t card) {
    return fail(ACL_ERROR_RT_INVALID_DEVICEID, std::string(name) + ": there is no device " + std::to_string(card) + "; " +
                                                   std::to_string(visible_cards()) + " are visible");
}

/// Cores and cache of a chip, from the vendor's public data sheets, of which programs only report them.
struct Chip {
    int64_t cube_cores, vector_cores, l2_bytes;
};
Chip chip() {
    const auto& soc = settings().soc;
    if (soc.rfind("Ascend310P", 0) == 0) return {8, 8, 16 << 20};
    if (soc.rfind("Ascend310B", 0) == 0) return {1, 1, 4 << 20};
    if (soc == "Ascend910A" || soc == "Ascend910B" || soc.rfind("Ascend910P", 0) == 0) return {32, 32, 32 << 20};
    return {20, 40, 192 << 20};
}

}  // namespace

int visible_cards() { return static_cast<int>(visible().size()); }
int physical_card(int card) { return valid_card(card) ? visible()[card] : card; }
bool valid_card(int card) { return card >= 0 && card < visible_cards(); }
bool card_chosen() { return chosen >= 0; }
int current_card() { return chosen < 0 ? 0 : chosen; }

CardGuard::CardGuard(int card) : previous_(chosen) { chosen = card; }
CardGuard::~CardGuard() { chosen = previous_; }

}  // namespace npu_emulator

using namespace npu_emulator;

CANN_API aclError aclInit(const char*) {
    if (int code = enter_runtime("aclInit")) return code;
    return initialised.exchange(true) ? fail(ACL_ERROR_REPEAT_INITIALIZE, "aclInit: already initialised") : ACL_SUCCESS;
}

CANN_API aclError aclFinalize() {
    return initialised.exchange(false) ? ACL_SUCCESS
                                       : fail(ACL_ERROR_REPEAT_FINALIZE, "aclFinalize: not initialised, or finalised already");
}

CANN_API const char* aclrtGetSocName() { return settings().soc.c_str(); }

CANN_API aclError aclrtGetDeviceCount(uint32_t* count) {
    if (int code = enter_runtime("aclrtGetDeviceCount")) return code;
    *count = static_cast<uint32_t>(visible_cards());
    if (*count == 0) return fail(ACL_ERROR_RT_NO_DEVICE, "aclrtGetDeviceCount: ASCEND_RT_VISIBLE_DEVICES leaves no device");
    return ACL_SUCCESS;
}

CANN_API aclError aclrtGetDevice(int32_t* card) {
    if (!card_chosen()) return fail(ACL_ERROR_RT_CONTEXT_NULL, "aclrtGetDevice: this thread has set no device");
    *card = chosen;
    return ACL_SUCCESS;
}

CANN_API aclError aclrtSetDevice(int32_t card) {
    if (!valid_card(card)) return invalid_card("aclrtSetDevice", card);
    auto gate = pass("aclrtSetDevice", "null");
    if (gate.code) return gate.code;
    if (gate.find("null") && card_chosen()) return ACL_SUCCESS;  // the thread goes on with the card that it had
    chosen = card;
    context_of(card).active = true;
    return ACL_SUCCESS;
}

CANN_API aclError aclrtResetDevice(int32_t card) {
    if (!valid_card(card)) return invalid_card("aclrtResetDevice", card);
    if (int code = enter_runtime("aclrtResetDevice")) return code;
    abandon_streams(card);
    context_of(card).active = false;
    if (chosen == card) chosen = -1;
    return ACL_SUCCESS;
}
CANN_API aclError aclrtResetDeviceForce(int32_t card) { return aclrtResetDevice(card); }

CANN_API aclError aclrtGetCurrentContext(aclrtContext* context) {
    if (!card_chosen()) return fail(ACL_ERROR_RT_CONTEXT_NULL, "aclrtGetCurrentContext: this thread has set no device");
    *context = &context_of(chosen);
    return ACL_SUCCESS;
}

CANN_API aclError aclrtSetCurrentContext(aclrtContext context) {
    for (int card = 0; card < visible_cards(); card++) {
        if (context == &context_of(card)) {
            chosen = card;
            return ACL_SUCCESS;
        }
    }
    return fail(ACL_ERROR_RT_CONTEXT_NULL, "aclrtSetCurrentContext: not a context of this process");
}

CANN_API aclError aclrtGetPrimaryCtxState(int32_t card, uint32_t* flags, int32_t* active) {
    if (!valid_card(card)) return invalid_card("aclrtGetPrimaryCtxState", card);
    if (flags) *flags = 0;
    if (active) *active = context_of(card).active;
    return ACL_SUCCESS;
}

CANN_API aclError aclrtDeviceCanAccessPeer(int32_t* can, int32_t card, int32_t peer) {
    if (!valid_card(card)) return invalid_card("aclrtDeviceCanAccessPeer", card);
    if (!valid_card(peer)) return invalid_card("aclrtDeviceCanAccessPeer", peer);
    *can = card != peer;
    return ACL_SUCCESS;
}

CANN_API aclError aclrtDeviceEnablePeerAccess(int32_t peer, uint32_t) {
    if (!valid_card(peer) || peer == current_card()) return invalid_card("aclrtDeviceEnablePeerAccess", peer);
    return enter_runtime("aclrtDeviceEnablePeerAccess");
}

CANN_API aclError aclrtSynchronizeDeviceWithTimeout(int32_t timeout_ms) {
    auto gate = pass("aclrtSynchronizeDevice", "null");
    if (gate.code || gate.find("null")) return gate.code;
    return synchronize_card(current_card(), timeout_ms);
}
CANN_API aclError aclrtSynchronizeDevice() { return aclrtSynchronizeDeviceWithTimeout(-1); }

// The numbers of attributes that the headers of torch_npu before 2.10 do not name.
enum : int { CUBE_CORE_NUM = 102, TOTAL_GLOBAL_MEM_SIZE = 301, L2_CACHE_SIZE = 302, PHY_CHIP_ID = 402 };

CANN_API aclError aclrtGetDeviceInfo(uint32_t card, aclrtDevAttr attribute, int64_t* value) {
    if (!valid_card(static_cast<int>(card))) return invalid_card("aclrtGetDeviceInfo", card);
    switch (static_cast<int>(attribute)) {
        case ACL_DEV_ATTR_AICORE_CORE_NUM:
        case CUBE_CORE_NUM:
            *value = chip().cube_cores;
            return ACL_SUCCESS;
        case ACL_DEV_ATTR_VECTOR_CORE_NUM:
            *value = chip().vector_cores;
            return ACL_SUCCESS;
        case L2_CACHE_SIZE:
            *value = chip().l2_bytes;
            return ACL_SUCCESS;
        case TOTAL_GLOBAL_MEM_SIZE:
            *value = static_cast<int64_t>(settings().memory_bytes);
            return ACL_SUCCESS;
        case PHY_CHIP_ID:
            *value = physical_card(static_cast<int>(card));
            return ACL_SUCCESS;
        default:
            return unsupported("aclrtGetDeviceInfo", "such attribute of a device");
    }
}

CANN_API aclError aclGetDeviceCapability(uint32_t card, aclDeviceInfo attribute, int64_t* value) {
    switch (attribute) {
        case ACL_DEVICE_INFO_AI_CORE_NUM:
            return aclrtGetDeviceInfo(card, ACL_DEV_ATTR_AICORE_CORE_NUM, value);
        case ACL_DEVICE_INFO_VECTOR_CORE_NUM:
            return aclrtGetDeviceInfo(card, ACL_DEV_ATTR_VECTOR_CORE_NUM, value);
        case ACL_DEVICE_INFO_L2_SIZE:
            return aclrtGetDeviceInfo(card, static_cast<aclrtDevAttr>(L2_CACHE_SIZE), value);
        default:
            return unsupported("aclGetDeviceCapability", "such attribute of a device");
    }
}

// Deterministic computation: every operator of the emulator gives the same bits each time, whatever is asked for.
CANN_API aclError aclrtSetSysParamOpt(aclSysParamOpt, int64_t) { return ACL_SUCCESS; }
CANN_API aclError aclrtCtxSetSysParamOpt(aclSysParamOpt, int64_t) { return ACL_SUCCESS; }
