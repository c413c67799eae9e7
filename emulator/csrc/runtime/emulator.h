// What the emulated libraries share, implemented by libascendcl.so (csrc/runtime/).
//
// Everything else under csrc/ implements the C interface of CANN; this header is the emulator's own.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#define CANN_API extern "C" __attribute__((visibility("default")))

namespace npu_emulator {

// ---- settings (settings.cpp): the environment variables NPU_EMULATOR_*, read once ------------------------------------

/// Precision noise: what real hardware may legitimately do differently from a CPU. A function of the seed, the operator's
/// name and the values alone, so that the same step computed twice gives the same bits.
struct Noise {
    bool on = false;
    uint64_t seed = 0;
    int ulp = 0;           // largest error of approximated functions (exp, tanh, rsqrt, ...) in units in the last place
    bool reorder = false;  // float32 sums in another order: relative error of a few float32 eps, growing with sqrt(length)
    bool hf32 = false;     // float32 products from inputs rounded to a 10 bit mantissa, where cubeMathType allows it
};

struct Settings {
    int cards = 2;
    uint64_t memory_bytes = 0;   // of each card
    std::string soc;             // a name of torch_npu's table of chips, for example "Ascend910B3"
    double latency_seconds = 0;  // added to every operator and collective
    bool asynchronous = false;   // each stream executes on its own thread
    Noise noise;
    std::string log_file;  // where a process writes, when it ends, what it called and which faults fired; "" for nowhere
    bool trace = false;    // print every call to standard error
    double hccl_timeout_seconds = 600;
};

/// The settings of this process. An invalid variable has ended the process with a message when the library was loaded.
const Settings& settings();

// ---- devices and streams ----------------------------------------------------------------------------------------------

/// The card that the calling thread uses (index into the visible cards); 0 before any was set.
int current_card();

/// Runs the task after all earlier tasks of the stream; at once unless asynchronous. A task returns an ACL error code. A
/// failed asynchronous task comes out of the next synchronisation of its stream.
int submit(void* stream, std::function<int()> task);

/// Whether this is another stream than the first one created on its card.
bool is_side_stream(void* stream);

// ---- overflow ----------------------------------------------------------------------------------------------------------

/// Whether torch_npu has asked for saturation mode (aclrtSetDeviceSatMode) rather than inf/nan mode.
bool saturates();
void raise_overflow();  // the float status flag of the current card
bool overflow_raised();
void clear_overflow();

// ---- errors ------------------------------------------------------------------------------------------------------------

/// The text that aclGetRecentErrMsg returns, which torch_npu appends to its Python exception.
void set_error(const std::string& message);

// ---- hooks (hooks.cpp, faults.cpp): the one gate that every operator, collective and runtime call passes ------------------

enum class CallKind { Operator, Collective, Runtime };

struct Call {
    const char* name;  // the C name: "aclnnAdd", "HcclAllReduce", "aclrtMemcpyAsync", or that of a graph operator, "NPUGetFloatStatusV2"
    CallKind kind = CallKind::Runtime;
    void* stream = nullptr;
    std::string dtype = "";    // "fp32", "fp16", "bf16", "int64", ... of the first output or of the buffer
    int64_t numel = 0;         // elements of the first output or of the buffer
    int rank = -1;             // in the communicator, of a collective
    const char* actions = "";  // that the caller applies itself, beyond those of the kind: "null tail stale"
};

struct Action {
    std::string name;   // "scale", "bias", "zero", ... as in the fault's line; emulator/README.md has the grammar
    double number = 0;  // its value where it is a number
    std::string text;   // its value as written
};

struct Fault {
    std::string line;  // as the user wrote it
    std::vector<Action> actions;
    const Action* find(const char* name) const;  // nullptr where the fault has no such action
};

using Faults = std::vector<const Fault*>;

/// Thrown by enter() where a fault says fail=CODE.
struct InjectedFailure : std::runtime_error {
    int code;
    InjectedFailure(int code, const std::string& what) : std::runtime_error(what), code(code) {}
};

/// Counts and traces the call, waits its latency, performs `delay`, `hang` and `crash`, throws InjectedFailure for `fail`, and
/// returns the faults that fire on this call, for the caller to apply the rest of their actions.
Faults enter(const Call& call);

/// Takes back that a fault fired on this call: the caller found nothing that its actions could have changed. A fault that only
/// counts calls without effect would be taken for one that was survived.
void had_no_effect(const Fault& fault);

/// Whether a fault may give the result of this call in place of a later one's (`stale`), so that it is to be kept.
bool may_become_stale(const char* name);

/// enter() for a runtime call that knows no other action than delay, hang, crash and fail. Returns 0 or the injected error code.
int enter_runtime(const char* name, void* stream = nullptr);

}  // namespace npu_emulator
