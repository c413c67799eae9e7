// The text of the last error, which torch_npu appends to its Python exceptions.
#include <utility>

#include "runtime.h"

namespace npu_emulator {
namespace {

std::mutex& lock = *new std::mutex;
std::string& recent = *new std::string;

}  // namespace

// One text for the whole process: operators fail on torch_npu's queue thread or on a stream's, the main thread asks for it.
void set_error(const std::string& message) {
    std::lock_guard guard(lock);
    recent = message;
}

std::string last_error() {
    std::lock_guard guard(lock);
    return recent;
}

int fail(int code, const std::string& message) {
    set_error(message);
    return code;
}

int unsupported(const char* name, const char* what) {
    return fail(ACL_ERROR_RT_FEATURE_NOT_SUPPORT, std::string(name) + ": the emulator has no " + what + ".");
}

}  // namespace npu_emulator

using namespace npu_emulator;

CANN_API const char* aclGetRecentErrMsg() {
    static thread_local std::string text;
    std::lock_guard guard(lock);
    text = std::exchange(recent, "");
    return text.c_str();
}

// Errors are reported where they happen or by the next synchronisation; there is none that only waits to be asked for.
CANN_API aclError aclrtPeekAtLastError(aclrtLastErrLevel) { return ACL_SUCCESS; }
CANN_API aclError aclrtGetLastError(aclrtLastErrLevel) { return ACL_SUCCESS; }
